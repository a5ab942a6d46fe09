"""What happened to a call: each attempt, wait, command and restart, with its reason and how long it took. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from adapters.journals.history import PastEvent
from adapters.journals.next_step import when
from events.event import FOREVER, CallEvent
from events.lease_events import CallHandedBack, OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.repeat_events import OperationRepeated
from recovery.explain import counted, duration, explain, shown
from recovery.policies.retry import PERSON

BRIEF = 0.01
"""Seconds below which the length of an attempt or a wait is not said."""

MOST_OF_FAILURE = 160
"""Characters of a failure that are shown."""

DIED = "its process ended in it"
SAME = "failed in the same way"

Kind: TypeAlias = Literal["attempt", "wait", "command", "restart", "end"]


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the story of a call.

    Args:
        kind: What it is.
        at: When it began, in Unix time.
        lasted: Seconds that an attempt or a wait took; None while it goes on, if that is unknown, and for other parts.
        attempt: The attempt that is, is waited for, or is concerned.
        text: How the attempt ended, what the wait is for, or what happened.
        is_now: Whether it goes on.
        due: When a delay that goes on will have passed; None for other parts, and while the call is paused.
    """

    kind: Kind
    at: float
    text: str
    attempt: int = 1
    lasted: float | None = None
    is_now: bool = False
    due: float | None = None

    def line(self, now: float) -> str:
        """The passage in words, without its time of day."""
        took = "" if self.lasted is None or self.lasted < BRIEF else f" {duration(self.lasted)}"
        if self.kind == "attempt":
            took = f" for {duration(min(max(now - self.at, 0.0), FOREVER))}" if self.is_now else took
            return f"attempt {self.attempt}{took and ','}{took}: {self.text}"
        if self.kind == "wait":
            until = "" if self.due is None or self.due <= now else f", until {when(self.due, now)}"
            return f"waits {self.text}{until}" if self.is_now else f"waited{took} {self.text}"
        return self.text


class _Teller:
    """Makes passages from events in time order; the latest attempt or wait is open until another event ends it."""

    def __init__(self, told: str = "") -> None:
        self._told = told
        self.passages: list[Passage] = []
        self._open: int | None = None
        self._due: float | None = None  # when the attempt began of which only the failure is journalled
        self._latest = ""
        self._recovered: int | None = None  # the attempt whose OperationRecovered was told last

    def take(self, past: PastEvent, event: CallEvent, at: float) -> None:
        number = event.attempt
        match event:
            case OperationStarted():
                self._begin("attempt", at, number, "runs")
            case FailureClassified():
                failure = explain(event)
                text = failure.sentence if failure.short == self._told else failure.short
                self._end_attempt(event, at, SAME if text == self._latest else shown(text, MOST_OF_FAILURE))
                self._latest = text
            case RetryScheduled(retry=retry, after=after):
                self._begin("wait", at, number + 1, f"before retry {retry}", due=at + after)
            case Parked(asks_person=True):
                self._begin("wait", at, number + 1, f"for {PERSON}")
            case Parked(why=why, category=category):
                if category is None:
                    self._take_back(f"for: {why or 'a subscriber'}")
                self._begin("wait", at, number + (category is not None), f"for: {why or 'a subscriber'}")
            case OperationResumed(after=after):
                self._close(at, DIED)
                self._tell("restart", at, number, f"resumed by process {past.pid}")
                if after > 0.0:
                    self._begin("wait", at, number, "for the rest of its delay", due=at + after)
            case CallHandedBack(reason=reason):
                self._end_leg(at, f"went back to the cluster: {reason}" if reason else "went back to the cluster")
            case OutcomeHeld():
                self._tell("restart", at, number, f"{past.run} keeps its outcome: the servers have not taken it")
            case OutcomeDelivered():
                self._tell("restart", at, number, f"the outcome that {past.run} kept is recorded")
            case OutcomeSuperseded(reason=reason):
                self._tell("restart", at, number, f"the outcome that {past.run} kept is superseded: {reason}")
            case OperationInterrupted():
                self._close(at, "its process ended in good order")
            case CallSteered(command=command, reason=reason, changes=changes):
                self._due = at if command == "retry now" else self._due
                if command == "pause" and self._open is not None:
                    self._replace(due=None)
                about = "; ".join(filter(None, (changes, reason)))
                self._tell("command", at, number, f"command {command}{about and ': '}{about}")
            case OperationRepeated(former=former, by=by):
                self._tell("restart", at, number, f"runs call {former} again" if former else f"call {by} runs it again")
            case OperationSucceeded(recovered=True) if self._recovered == number:
                pass  # told already
            case OperationSucceeded() | OperationRecovered():
                self._recovered = number if isinstance(event, OperationRecovered) else None
                self._end_attempt(event, at, "succeeded")
            case GaveUp(reason=reason) if reason.startswith("permanent"):  # the rule is told besides
                self._close(at, DIED)
                self._tell("end", at, number, f"gave up after {counted(number, 'attempt')}: no retry would help")
            case OperationQuarantined() | GaveUp() | CallRejected() | OperationCancelled():
                self._close(at, "was cancelled" if isinstance(event, OperationCancelled) else DIED)
                self._tell("end", at, number, explain(event).step)

    def abandon(self) -> None:
        """Note that the process is dead that made the latest attempt, or waited."""
        if self._open is not None:
            self._replace(text=DIED if self._now.kind == "attempt" else self._now.text, is_now=False, due=None)

    def _begin(self, kind: Kind, at: float, attempt: int, text: str, *, due: float | None = None) -> None:
        if self._open is not None and kind == "wait" and (kind, shown(text)) == (self._now.kind, self._now.text):
            return  # what defers a call is asked again and again
        self._close(at, DIED)
        self._due = due
        self._open = len(self.passages)
        self.passages.append(Passage(kind=kind, at=at, attempt=attempt, text=shown(text), is_now=True, due=due))

    def _take_back(self, text: str) -> None:
        """Forget the attempt that is open, as it waits before it begins; a wait before it with *text* goes on."""
        if self._open is None or self._now.kind != "attempt" or self._open != len(self.passages) - 1:
            return
        self.passages.pop()
        latest = len(self.passages) - 1
        goes_on = latest >= 0 and (self.passages[latest].kind, self.passages[latest].text) == ("wait", shown(text))
        self._open = latest if goes_on else None
        if goes_on:
            self._replace(is_now=True, lasted=None)

    def _end_attempt(self, event: CallEvent, at: float, how: str) -> None:
        if self._open is None or self._now.kind == "wait":  # the beginning of the attempt is not journalled
            began = self._due
            if isinstance(event, FailureClassified) and event.attempt == 1:
                began = at - event.elapsed
            self._close(at if began is None else min(began, at), how)
            if began is None:
                self._tell("attempt", at, event.attempt, how)
                return
            self._begin("attempt", min(began, at), event.attempt, "")
        self._close(at, how)

    def _end_leg(self, at: float, how: str) -> None:
        """Note *how* a leg of a cluster's call ended: an attempt that has not ended goes on elsewhere."""
        if self._open is not None and self._now.kind == "attempt":
            self._close(at, shown(how))

    def _close(self, at: float, how: str) -> None:
        """End the attempt or wait that is open; *how* an attempt ended."""
        if self._open is not None:
            text = how if self._now.kind == "attempt" else self._now.text
            self._replace(lasted=min(max(at - self._now.at, 0.0), FOREVER), text=text, is_now=False, due=None)
            self._open = None

    @property
    def _now(self) -> Passage:
        assert self._open is not None
        return self.passages[self._open]

    def _replace(self, **changes: object) -> None:
        assert self._open is not None
        self.passages[self._open] = msgspec.structs.replace(self._now, **changes)

    def _tell(self, kind: Kind, at: float, attempt: int, text: str) -> None:
        self.passages.append(Passage(kind=kind, at=at, attempt=attempt, text=shown(text)))


def story_of(events: Iterable[PastEvent], *, is_alive: bool = True, told: str = "") -> tuple[Passage, ...]:
    """The story that *events* of a call tell, in time order.

    Args:
        events: All that is known of the call.
        is_alive: Whether the process lives that runs it, or that waits.
        told: The failure that its readers see besides (``Explanation.short``), of which the sentence is enough.
    """
    teller = _Teller(told)
    latest = 0.0
    for past in events:
        latest = latest if past.at is None else past.at
        if past.event is not None:
            teller.take(past, past.event, latest)
    if not is_alive:
        teller.abandon()
    return tuple(teller.passages)
