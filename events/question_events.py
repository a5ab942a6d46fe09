"""Events of questions to a person: asked, answered."""

from __future__ import annotations

import msgspec

from events.event import NOTHING, Event


class QuestionAsked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A call waits for the answer to a question that no call of this process has waited for before.

    Args:
        name: The name of the question, by which it is answered.
        secret: Whether its answer is kept in memory only.
        text: What a person is asked to do; "" if the name says it all.
        link: Where to do that; "" for nowhere.
    """

    name: str
    secret: bool = False
    text: str = ""
    link: str = ""


class QuestionAnswered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A question has an answer. Of several answers the latest counts, in every process of the journal.

    Args:
        name: The name of the question.
        secret: Whether the value is a secret: then the event does not have it.
        value: The JSON of the answer; nothing for a secret.
        answered: The Unix time of the answer, always later than that of the answer before it.
    """

    name: str
    secret: bool = False
    value: msgspec.Raw = NOTHING
    answered: float = 0.0
