"""What the journal knows without reading the file: recent calls, and recent and waiting results."""

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
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.history import CallRecord, replay
from recovery.journal.size_estimate import estimate_size

REPLAY_EVENTS = 16
"""Events of one call that are kept before they are replayed into its record."""
RECORD_BYTES = 1000
RESULT_BYTES = 400

FIRST = (OperationStarted, FailureClassified, CallRejected, OperationCancelled)
"""The first event that the journal gets of a call is one of these, about its first attempt."""


class _RecentCall:
    """A call's record, and later events that are not replayed into it yet: a lookup, or the 16th event, does that."""

    __slots__ = ("events", "record", "size")

    def __init__(self) -> None:
        self.record: CallRecord | None = None
        self.events: list[Event] = []
        self.size = 0


class RecentCallCache:
    """The calls and the results that *run* wrote latest; the least recently used go first. Thread-safe.

    A call is known completely or not at all: neither a call that another run began, nor one that was removed while it
    went on, is known again.
    """

    def __init__(self, run: str, max_bytes: int = JOURNAL_DEFAULTS.recent_bytes) -> None:
        self._run = run
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._calls: OrderedDict[str, _RecentCall] = OrderedDict()
        self._calls_size = 0
        self._has_removed_calls = False
        self._latest = 0
        self._results: OrderedDict[str, Recorded] = OrderedDict()
        self._results_size = 0
        self.has_read_results = False
        """Whether the results of earlier runs have been read from the file."""
        self.knows_every_result = False
        """Whether the file holds no result that is missing here."""

    @property
    def size(self) -> int:
        """Estimated bytes of all that is kept."""
        return self._calls_size + self._results_size

    def add(self, events: Iterable[tuple[int, Event]]) -> None:
        """Note events with their numbers, in the order written."""
        with self._lock:
            for number, event in events:
                self._latest = number
                if isinstance(event, CallEvent):
                    self._add(event)
                    self._add_result(event)

    def _add(self, event: CallEvent) -> None:
        call = self._calls.get(event.call)
        if call is None:
            if not self._is_first(event):
                return
            call = self._calls[event.call] = _RecentCall()
        else:
            self._calls.move_to_end(event.call)
        call.events.append(event)
        size = estimate_size(event)
        call.size += size
        self._calls_size += size
        if len(call.events) >= REPLAY_EVENTS:
            self._replay(event.call, call)
        while self._calls_size > self._max_bytes:
            _, removed = self._calls.popitem(last=False)
            self._calls_size -= removed.size
            self._has_removed_calls = True

    def _is_first(self, event: CallEvent) -> bool:
        if isinstance(event, OperationStarted):
            return event.attempt == 1 and not event.again
        # Of a call that was removed after its start this may be the second event.
        return not self._has_removed_calls and event.attempt == 1 and isinstance(event, FIRST)

    def _replay(self, name: str, call: _RecentCall) -> None:
        records = {} if call.record is None else {name: call.record}
        call.record = record = replay(records, self._run, call.events)[name]
        call.events = []
        size = RECORD_BYTES + sum(map(len, record.failures)) + len(record.arguments or b"") + len(record.saved or b"")
        self._calls_size += size - call.size
        call.size = size

    def _add_result(self, event: Event) -> None:
        recorded = recorded_in(event)
        if recorded is None:
            return
        key = result_key(event.operation, recorded.key)
        old = self._results.pop(key, None)
        self._results_size -= 0 if old is None else _size_of(old)
        self._results[key] = recorded
        self._results_size += _size_of(recorded)
        while self._results_size > self._max_bytes and len(self._results) > 1:
            _, removed = self._results.popitem(last=False)
            self._results_size -= _size_of(removed)
            self.knows_every_result = False

    def know_results(self, newest_first: Iterable[Event], *, are_all: bool) -> None:
        """Note the results that the file holds; *are_all* if it holds no others."""
        with self._lock:
            self.has_read_results = True
            self.knows_every_result = are_all
            newer, self._results, self._results_size = self._results, OrderedDict(), 0
            for event in reversed(list(newest_first)):
                self._add_result(event)
            self._results |= newer
            self._results_size = sum(map(_size_of, self._results.values()))

    def forget_results(self) -> None:
        """Read the results from the file again: it has adopted some that this run did not write."""
        with self._lock:
            self.has_read_results = self.knows_every_result = False
            self._results, self._results_size = OrderedDict(), 0

    def result(self, operation: str, key: str) -> Recorded | None:
        """The latest result recorded under that idempotency key; it may have expired."""
        with self._lock:
            found = self._results.get(result_key(operation, key))
            if found is not None:
                self._results.move_to_end(result_key(operation, key))
            return found

    def call(self, name: str, waiting: Iterable[tuple[int, Event]] = ()) -> CallRecord | None:
        """The record of a call, its *waiting* events included; ``None`` if it is not known completely."""
        with self._lock:
            call = self._calls.get(name)
            events = self._unwritten(waiting)
            if call is None:
                if not (events and isinstance(events[0], CallEvent) and self._is_first(events[0])):
                    return None
                return replay({}, self._run, events)[name]
            self._calls.move_to_end(name)
            self._replay(name, call)
            records = {} if call.record is None else {name: call.record}
        return replay(records, self._run, events)[name]

    def with_waiting(
        self, records: dict[str, CallRecord], waiting: Iterable[tuple[int, Event]]
    ) -> dict[str, CallRecord]:
        """*records*, as read from the file, with the *waiting* events that the file lacks."""
        with self._lock:
            return replay(records, self._run, self._unwritten(waiting))

    def _unwritten(self, waiting: Iterable[tuple[int, Event]]) -> list[Event]:
        # A batch is noted here before it leaves the queue: an event in both counts once.
        return [event for number, event in waiting if number > self._latest]


class QueuedResults:
    """The latest result that waits to be written, for each idempotency key. The write queue's lock guards changes."""

    def __init__(self) -> None:
        self._results: dict[str, tuple[int, Recorded]] = {}

    def __len__(self) -> int:
        return len(self._results)

    def add(self, number: int, event: Event) -> None:
        """Note the result that event *number* records, if it does."""
        recorded = recorded_in(event)
        if recorded is not None:
            self._results[result_key(event.operation, recorded.key)] = number, recorded

    def find(self, operation: str, key: str) -> Recorded | None:
        """The latest result of that idempotency key that waits to be written."""
        _, recorded = self._results.get(result_key(operation, key), (0, None))
        return recorded

    def remove(self, events: Iterable[tuple[int, Event | None]]) -> None:
        """Forget the results of *events*, which were written, unless a newer result of the key waits."""
        if self._results:
            for number, event in events:
                recorded = recorded_in(event)
                if event is not None and recorded is not None:
                    key = result_key(event.operation, recorded.key)
                    if self._results.get(key, (0, None))[0] == number:
                        del self._results[key]

    def clear(self) -> None:
        """Forget all results."""
        self._results.clear()


def result_key(operation: str, key: str) -> str:
    """What identifies a result in a store: idempotency keys are the operation's own."""
    return f"{operation}\0{key}"


def _size_of(recorded: Recorded) -> int:
    return RESULT_BYTES + len(recorded.key) + len(memoryview(recorded.result))


def recorded_in(event: Event | None) -> Recorded | None:
    """The result that *event* records, or ``None``."""
    return event.recorded if isinstance(event, (OperationSucceeded, OperationRecovered)) else None
