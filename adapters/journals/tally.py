"""Count what the events of a journal tell: outcomes, time lost to failures, bytes that resuming has saved. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from adapters.launcher.launch import name_in_arguments
from adapters.launcher.progress import saved_transfer
from events.circuit_events import CircuitOpened
from events.event import CallEvent, Event
from events.lease_events import CallHandedBack
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    ProgressMade,
    RetryScheduled,
)
from recovery.operations import OperationKey
from recovery.policies.incidents import is_held

OUTCOMES: dict[type[Event], str] = {
    OperationSucceeded: "succeeded",
    OperationRecovered: "recovered",
    GaveUp: "gave up",
    CallRejected: "rejected",
    OperationCancelled: "cancelled",
    CallHandedBack: "handed back",
}
"""How a call ended; "recovered" is a success after a failure."""
REPORTED: tuple[type[Event], ...] = (
    *OUTCOMES, CheckpointSaved, CircuitOpened, FailureClassified, OperationResumed, OperationStarted, Parked,
    ProgressMade, RetryScheduled,
)  # fmt: skip
"""The events that a tally needs."""
OTHER = "held back"
"""The category of a wait before an attempt that no failure explains: a limit, a subscriber."""
MOST_SLOW = 10
"""Recoveries that are kept."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """A call that succeeded after failures.

    Args:
        call: Its id.
        operation: The name of its operation, and *key* the part of it.
        key: The key of the operation, such as a host; "" for none.
        name: Its name in the plan; None for a call of no plan.
        seconds: From its first attempt to its success.
        failures: How many attempts failed.
        ended: The Unix time of its end.
    """

    call: str
    operation: str
    key: str
    name: str | None
    seconds: float
    failures: int
    ended: float


class _Call(msgspec.Struct):
    """A call that is not over: its latest attempt began at *began*; since *waits_since* it waits, *planned* seconds."""

    name: str | None = None
    first: float = 0.0
    began: float | None = None
    came_further: bool = False
    failures: int = 0
    waits_since: float | None = None
    planned: float | None = None
    category: str = ""
    offset: int = 0
    resumed_at: int = 0
    """The attempt whose beginning bytes are counted; 0 for none since the call was resumed."""


class Tally:
    """Takes events in the order written, with their times as Unix time. Launches are left out: their parts count.

    Args:
        since: The Unix time before which calls begin that are not counted.
    """

    def __init__(self, since: float = 0.0) -> None:
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By operation: how many calls ended how, are "not over", and "failures", of attempts."""
        self.lost: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        """By host (or operation) and category: failures, seconds of waits, and of attempts that came no further."""
        self.slowest: list[Recovery] = []
        self.saved_bytes = self.received_bytes = 0
        self.first = self.last = 0.0
        self._since = since
        self._calls: dict[str, _Call] = {}
        self._over: set[str] = set()
        self._causes: dict[OperationKey, str] = {}

    def take(self, event: Event) -> None:
        """Count *event*."""
        match event:
            case CircuitOpened():
                self._causes[event.operation, event.key] = str(event.category or OTHER)
            case CallEvent() if event.operation != "launch" and event.call not in self._over:
                self._take(event)

    def _take(self, event: CallEvent) -> None:
        call = self._calls.get(event.call)
        if call is None:
            if event.at < self._since:
                self._over.add(event.call)
                return
            call = self._calls[event.call] = _Call(first=event.at)
            self.outcomes[event.operation]["not over"] += 1
        self.first, self.last = min(self.first or event.at, event.at), max(self.last, event.at)
        match event:
            case OperationStarted():
                self._end_wait(call, event)
                call.name = call.name or name_in_arguments(event.operation, bytes(event.arguments))
                call.began, call.came_further = event.at, False
            case OperationResumed(after=after):
                self._end_wait(call, event)
                call.began, call.resumed_at = None, 0  # its attempt has the number of the one that died
                if after:
                    call.waits_since, call.planned, call.category = event.at, after, call.category or OTHER
            case CheckpointSaved():
                self._checkpoint(call, event)
            case ProgressMade():
                call.came_further = True
            case FailureClassified():
                self._fail(call, event)
            case RetryScheduled(after=after) if call.waits_since is not None:
                call.planned = after
            case Parked(category=None, why=why):
                cause = self._causes.get((event.operation, event.key), OTHER) if is_held(why) else OTHER
                call.waits_since, call.planned, call.category = event.at, None, cause
            case _ if type(event) in OUTCOMES:
                self._end(call, event)

    def _checkpoint(self, call: _Call, event: CheckpointSaved) -> None:
        transfer = saved_transfer(event.data)
        if transfer is None:
            call.came_further = True
            return
        call.came_further = call.came_further or transfer.offset > (transfer.start or call.offset)
        call.offset = transfer.offset
        if transfer.start and call.resumed_at != event.attempt:
            call.resumed_at = event.attempt
            self.saved_bytes += transfer.start

    def _fail(self, call: _Call, event: FailureClassified) -> None:
        self._end_wait(call, event)
        lost = self.lost[event.key or event.operation, str(event.category)]
        lost[0] += 1
        if call.began is not None and not call.came_further:
            lost[2] += max(event.at - call.began, 0.0)
        call.failures += 1
        self.outcomes[event.operation]["failures"] += 1
        call.began, call.waits_since, call.planned, call.category = None, event.at, None, str(event.category)

    def _end_wait(self, call: _Call, event: CallEvent) -> None:
        """The wait is over: with the attempt that begins, or, of a call whose attempts are not journalled, before."""
        if call.waits_since is None:
            return
        waited = max(event.at - call.waits_since, 0.0)
        if not isinstance(event, OperationStarted):
            waited = min(waited, call.planned or 0.0)
            call.began = call.waits_since + waited
        self.lost[event.key or event.operation, call.category][1] += waited
        call.waits_since = None

    def _end(self, call: _Call, event: CallEvent) -> None:
        self._end_wait(call, event)
        of_operation, outcome = self.outcomes[event.operation], OUTCOMES[type(event)]
        of_operation["not over"] -= 1
        of_operation[outcome] += 1
        self.received_bytes += call.offset
        del self._calls[event.call]
        self._over.add(event.call)
        if outcome == "recovered":
            seconds = max(event.at - call.first, getattr(event, "elapsed", 0.0))
            one = Recovery(
                call=event.call, operation=event.operation, key=event.key, name=call.name,
                seconds=seconds, failures=call.failures, ended=event.at,
            )  # fmt: skip
            self.slowest = sorted((*self.slowest, one), key=lambda one: -one.seconds)[:MOST_SLOW]
