"""What the journal still knows without looking into the file: the calls and the results it wrote latest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from events.event import CallEvent, Event
from events.operation_events import (
    CallRejected,
    FailureClassified,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Recorded,
)
from recovery.journal.history import CallRecord, replay
from recovery.journal.size_estimate import estimate_size

MOST_BYTES = 4 * 1024 * 1024
"""About how much memory the calls may take, and the results."""
REPLAYED_AT = 16
"""Events of one call that are kept before they are folded."""

FIRST = (OperationStarted, FailureClassified, CallRejected, OperationCancelled)
"""With one of these the journal's knowledge of a call begins, if it is of the first attempt."""


class _Call:
    """A call's record until now, and events that are not in it yet: folding them can wait until somebody asks."""

    __slots__ = ("events", "record", "size")

    def __init__(self, record: CallRecord | None) -> None:
        self.record = record
        self.events: list[Event] = []
        self.size = 0


class RecentCallCache:
    """The calls and results that *run* wrote latest, least recently used first to go. Safe to use from any thread.

    A call is known whole or not at all: of one that was let go while it went on, or was begun by another run, nothing
    is known here any more.
    """

    def __init__(self, run: str, most_bytes: int = MOST_BYTES) -> None:
        self._run = run
        self._most = most_bytes
        self._lock = threading.RLock()
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._calls_size = 0
        self._let_go = False
        self._up_to = 0
        self._results: OrderedDict[str, Recorded] = OrderedDict()
        self._results_size = 0
        self.has_looked = False
        """Whether what earlier runs recorded has been noted."""
        self.knows_every_result = False
        """Whether a result that is not known here is in no file either."""

    def add(self, events: Iterable[tuple[int, Event]]) -> None:
        """Note events with their numbers, which were written in this order."""
        with self._lock:
            for number, event in events:
                self._up_to = number
                if isinstance(event, CallEvent):
                    self._add(event)
                    self._remember(event)

    def _add(self, event: CallEvent) -> None:
        call = self._calls.get(event.call)
        if call is None:
            if not self._is_first(event):
                return
            call = self._calls[event.call] = _Call(None)
        else:
            self._calls.move_to_end(event.call)
        call.events.append(event)
        size = estimate_size(event)
        call.size += size
        self._calls_size += size
        if len(call.events) >= REPLAYED_AT:
            self._replay(event.call, call)
        while self._calls_size > self._most:
            _, gone = self._calls.popitem(last=False)
            self._calls_size -= gone.size
            self._let_go = True

    def _is_first(self, event: CallEvent) -> bool:
        if isinstance(event, OperationStarted):
            return event.attempt == 1 and not event.again
        # Of a call that was let go after its start this may be the second event.
        return not self._let_go and event.attempt == 1 and isinstance(event, FIRST)

    def _replay(self, name: str, call: _Call) -> None:
        records = {} if call.record is None else {name: call.record}
        call.record = replay(records, self._run, call.events)[name]
        call.events = []
        texts = sum(map(len, call.record.failures)) + len(call.record.arguments or b"") + len(call.record.saved or b"")
        self._calls_size += 1000 + texts - call.size
        call.size = 1000 + texts

    def _remember(self, event: Event) -> None:
        recorded = recorded_in(event)
        if recorded is None:
            return
        key = result_key(event.operation, recorded.key)
        old = self._results.pop(key, None)
        self._results_size -= 0 if old is None else _size_of(old)
        self._results[key] = recorded
        self._results_size += _size_of(recorded)
        while self._results_size > self._most and len(self._results) > 1:
            _, gone = self._results.popitem(last=False)
            self._results_size -= _size_of(gone)
            self.knows_every_result = False

    def know_results(self, newest_first: Iterable[Event], *, are_all: bool) -> None:
        """Note what is recorded in the file; *are_all* if it has no more."""
        with self._lock:
            self.has_looked = True
            self.knows_every_result = are_all
            newer, self._results, self._results_size = self._results, OrderedDict(), 0
            for event in reversed(list(newest_first)):
                self._remember(event)
            self._results |= newer
            self._results_size = sum(map(_size_of, self._results.values()))

    def forget_results(self) -> None:
        """Look into the file again for every result: it has got some that were not written by this run."""
        with self._lock:
            self.has_looked = self.knows_every_result = False
            self._results, self._results_size = OrderedDict(), 0

    def result(self, operation: str, key: str) -> Recorded | None:
        """The latest result of that idempotency key, whether it is still good or not."""
        with self._lock:
            found = self._results.get(result_key(operation, key))
            if found is not None:
                self._results.move_to_end(result_key(operation, key))
            return found

    def call(self, name: str, waiting: Iterable[tuple[int, Event]] = ()) -> CallRecord | None:
        """Where the call stands, with its events *waiting* to be written; ``None`` if it is not known whole."""
        with self._lock:
            call = self._calls.get(name)
            events = self._not_in(waiting)
            if call is None:
                if not (events and isinstance(events[0], CallEvent) and self._is_first(events[0])):
                    return None
                return replay({}, self._run, events)[name]
            self._calls.move_to_end(name)
            self._replay(name, call)
            records = {} if call.record is None else {name: call.record}
        return replay(records, self._run, events)[name]

    def after(self, records: dict[str, CallRecord], waiting: Iterable[tuple[int, Event]]) -> dict[str, CallRecord]:
        """*records*, read from the file, with those events *waiting* that the file does not have."""
        with self._lock:
            return replay(records, self._run, self._not_in(waiting))

    def _not_in(self, waiting: Iterable[tuple[int, Event]]) -> list[Event]:
        # A batch is noted here before it leaves the queue: what is in both is not counted twice.
        return [event for number, event in waiting if number > self._up_to]


def result_key(operation: str, key: str) -> str:
    """What a store finds the result of *key* by: keys are the operation's own."""
    return f"{operation}\0{key}"


def _size_of(recorded: Recorded) -> int:
    return 400 + len(recorded.key) + len(memoryview(recorded.result))


def recorded_in(event: Event) -> Recorded | None:
    """The result that *event* records, if it does."""
    return event.recorded if isinstance(event, (OperationSucceeded, OperationRecovered)) else None
