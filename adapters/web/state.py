"""What the page shows, as JSON: the whole state when a stream begins, then what has changed. Pure.

Times are Unix times in seconds. Every text is one printable line without secrets; the page never reads markup in it.
"""

from __future__ import annotations

import msgspec

from adapters.journals.next_step import Action


class Bytes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a download is: *done* bytes of *size* (None if unknown), and *rate* bytes a second (None if unknown)."""

    done: int
    size: int | None = None
    rate: float | None = None
    words: str = ""


class CallLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call.

    Args:
        call: Its id.
        name: What people know it by: its name in the plan, or its operation and key.
        operation: Its operation.
        state: As in ``CallStatus``: "running", "waiting", "paused", "left", "succeeded", "gave up", ...; "repeated" for
            one that another call runs again.
        attempt: The attempt that runs, ran last, or comes next.
        failures: How many attempts failed.
        sentence: What the latest failure means, for a person who is no programmer; "" if none failed.
        said: The tool's own last line, or the exception.
        next: What happens next, without a time where *due* says it.
        remedy: What a person can do; "" if nothing.
        due: When its next attempt begins; None if that is no matter of time. The page counts down to it.
        deadline: When it gives up if its wait has not ended.
        note: How a server, a run of steps, or a prompt is, in words.
        waits_for: The host, question or condition that it waits for; "" if for none.
        seen: When its latest event happened.
        bytes: How far it is, of a download.
        actions: What a person can do with it here.
    """

    call: str
    name: str
    operation: str
    state: str
    attempt: int = 1
    failures: int = 0
    sentence: str = ""
    said: str = ""
    next: str = ""
    remedy: str = ""
    note: str = ""
    due: float | None = None
    deadline: float | None = None
    waits_for: str = ""
    seen: float = 0.0
    bytes: Bytes | None = None
    actions: tuple[Action, ...] = ()


class IncidentCard(msgspec.Struct, frozen=True, kw_only=True):
    """An open circuit, with what waits for it; *next_probe* is a Unix time, None if the circuit is forced open.

    *sentence* says what its failures mean, *said* is what the latest of them said.
    """

    name: str
    sentence: str
    said: str = ""
    since: float
    waiting: int = 0
    gave_up: int = 0
    next_probe: float | None = None
    is_probed: bool = False


class QuestionCard(msgspec.Struct, frozen=True, kw_only=True):
    """An open question; *kind* is "confirm", "choice", "text" or "secret", *choices* are the answers to a "choice".

    *calls* wait for its answer; *waiting* has the names of the first. *closed* says why it cannot be answered on
    the page now; "" if it can.
    """

    name: str
    kind: str
    text: str = ""
    link: str = ""
    reason: str = ""
    choices: tuple[str, ...] = ()
    calls: int = 0
    waiting: tuple[str, ...] = ()
    closed: str = ""


class AlertCard(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is on, in one sentence; *since* is a Unix time, None if unknown."""

    name: str
    sentence: str
    since: float | None = None


class ChartCard(msgspec.Struct, frozen=True, kw_only=True):
    """A chart of sixty one-minute buckets: *svg* is markup that the server wrote; *summary* says it in words."""

    name: str
    title: str
    svg: str
    summary: str


class PageState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows.

    Args:
        at: When it was read.
        headline: The state in one short line ("2 downloads wait for huggingface.co, next try 14:03:20").
        source: What is shown: the journal's or the plan's name, or "this program".
        is_live: Whether a process runs the calls.
        may_change: Whether the page may steer: it shows buttons and answer fields.
        notes: What the source cannot know, a sentence each.
        calls: The calls by id, those that need a look first; at most ``MOST_CALLS``.
        more: How many calls there are besides, by state.
        incidents, questions, alerts, charts: Those that are open or on.
        circuits: The circuits that are not closed, by name, and their state.
        nodes: The nodes of a cluster, by name, and how each is, in words.
    """

    at: float
    headline: str
    source: str
    is_live: bool
    may_change: bool = False
    notes: tuple[str, ...] = ()
    calls: dict[str, CallLine] = {}
    more: dict[str, int] = {}
    incidents: tuple[IncidentCard, ...] = ()
    circuits: dict[str, str] = {}
    nodes: dict[str, str] = {}
    questions: tuple[QuestionCard, ...] = ()
    alerts: tuple[AlertCard, ...] = ()
    charts: tuple[ChartCard, ...] = ()


MOST_CALLS = 1000
"""Calls that the page lists; more are counted."""
