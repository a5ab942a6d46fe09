"""What the page reads from and steers: a service of this process, or the file of a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from adapters.journals.next_step import Action
from adapters.web.state import PageState

BY_THE_PAGE = "by the page"
"""The reason of every command, for the journal."""


IncidentAction: TypeAlias = Literal["probe", "give up"]
"""Let the next call that waits for an incident probe now; give up the calls that wait for it."""

ENDED = "this incident is not open any more"


class Done(msgspec.Struct, frozen=True):
    """What became of what a person did: whether it *is_done*, and what happens now, or why it is not done."""

    is_done: bool
    said: str


def done_in(journal: Path, said: str, *, is_done: bool) -> Done:
    """What became of what a person did in *journal*, whose path the page does not show."""
    return Done(is_done=is_done, said=said.replace(str(journal), "the journal"))


class Source(Protocol):
    """What the page shows. Its methods may block: they are called on worker threads, ``read`` one call at a time."""

    def read(self) -> PageState:
        """Everything as it stands now."""
        ...

    def act(self, action: Action, call: str) -> Done:
        """Do *action* with the call of that id."""
        ...

    def steer_incident(self, action: IncidentAction, incident: str) -> Done:
        """Do *action* with the open incident of that name."""
        ...

    def answer(self, question: str, value: bool | str) -> Done:
        """Answer the *question* of that name; a text for a "confirm" is refused."""
        ...

    def metrics(self, accept: str) -> tuple[str, bytes] | None:
        """The content type and the text of the metrics, as *accept* asks for them; None if there are none here."""
        ...
