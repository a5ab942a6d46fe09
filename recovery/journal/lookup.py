"""Find one call, or one recorded result: in memory if it is recent, otherwise in the file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from events.event import CallEvent, Event
from events.kinds import EVENTS
from events.operation_events import (
    CallRejected,
    FailureClassified,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
)
from events.recorded import Recorded
from events.repeat_events import OperationRepeated
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.encoding import readable
from recovery.journal.history import CallRecord, replay
from recovery.journal.lane import QueuedEvent
from recovery.journal.queue import WriteQueue
from recovery.journal.results import recorded_in, result_key
from recovery.journal.size_estimate import BASE_SIZE, size_of_evidence
from recovery.journal.store import Query, Store

REPLAY_EVENTS = 16
"""Events of one call that are kept before they are replayed into its record."""
RECORD_BYTES = 1000

MAX_RESULTS_READ = 1024
"""Results of earlier runs that the first lookup of a result reads at once."""

_OF_CALLS = frozenset(kind for kind in EVENTS if issubclass(kind, CallEvent))
_FIRST = frozenset((OperationStarted, OperationRepeated, FailureClassified, CallRejected, OperationCancelled))
_RECORDING = frozenset((OperationSucceeded, OperationRecovered))

T = TypeVar("T")


class _RecentlyUsed(Generic[T]):
    """Values by key, up to *max_bytes* in sum; the least recently used go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self.size = 0
        self.is_complete = True
        """Whether none had to go."""

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def size_of(self, key: str) -> int:
        """The size of the value of *key*, 0 without one."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry[1]

    def put(self, key: str, value: T, size: int) -> None:
        """Keep *value*, of *size* bytes, instead of the value that *key* had."""
        self.size += size - self.size_of(key)
        self._entries[key] = value, size
        self._entries.move_to_end(key)
        while self.size > self._max_bytes:
            _, (_, removed) = self._entries.popitem(last=False)
            self.size -= removed
            self.is_complete = False

    def update(self, newer: _RecentlyUsed[T]) -> None:
        """Keep all that *newer* has."""
        for key, (value, size) in newer._entries.items():
            self.put(key, value, size)


class RecentCallCache:
    """The calls and the results that *run* wrote latest; the least recently used go first. Thread-safe.

    A call is known completely or not at all: neither a call that another run began, nor one that was removed while it
    went on, is known again.
    """

    def __init__(self, run: str, max_bytes: int = JOURNAL_DEFAULTS.recent_bytes) -> None:
        self._run = run
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        # A record, and later events that are not replayed into it yet: the 16th event does that.
        self._calls = _RecentlyUsed[tuple[CallRecord | None, list[Event]]](max_bytes)
        self._latest = 0
        self.forget_results()

    @property
    def size(self) -> int:
        """Estimated bytes of all that is kept."""
        return self._calls.size + self._results.size

    def add(self, entries: Iterable[QueuedEvent]) -> None:
        """Note events in the order written."""
        with self._lock:
            for entry in entries:
                event: Any = entry.event
                self._latest = entry.number
                kind = type(event)
                if kind in _OF_CALLS:
                    known = self._calls.get(event.call)
                    if known is not None:
                        self._add(event, entry.size or BASE_SIZE, *known)
                    elif kind in _FIRST and self._is_first(event):
                        self._add(event, entry.size or BASE_SIZE, None, [])
                    if kind in _RECORDING and event.recorded is not None:
                        self._add_result(event)

    def _add(self, event: CallEvent, size: int, record: CallRecord | None, events: list[Event]) -> None:
        events.append(event)
        size += self._calls.size_of(event.call)
        if len(events) >= REPLAY_EVENTS:
            record, events = self._replayed(event.call, record, events), []
            size = RECORD_BYTES + sum(map(len, (*record.failures, record.arguments or b"", record.saved or b"")))
            size += 0 if record.failure is None else size_of_evidence(record.failure.evidence)
        self._calls.put(event.call, (record, events), size)

    def _is_first(self, event: Any) -> bool:
        """Whether *event*, of a kind in ``_FIRST``, is the first that the journal gets of a call."""
        if type(event) is OperationStarted:
            return event.attempt == 1 and not event.again
        if type(event) is OperationRepeated:
            return bool(event.former)
        # Of a call that was removed after its start this may be the second event.
        return self._calls.is_complete and event.attempt == 1

    def _replayed(self, call: str, record: CallRecord | None, events: Iterable[Event]) -> CallRecord:
        return replay({} if record is None else {call: record}, self._run, events)[call]

    def _add_result(self, event: Event) -> None:
        recorded = recorded_in(event)
        if recorded is not None:
            size = BASE_SIZE + len(recorded.key) + len(memoryview(recorded.result))
            self._results.put(result_key(event.operation, recorded.key), recorded, size)

    @property
    def knows_every_result(self) -> bool:
        """Whether the file holds no result that is missing here."""
        return self._read_all and self._results.is_complete

    def know_results(self, newest_first: Sequence[Event], *, are_all: bool) -> None:
        """Note the results that the file holds; *are_all* if it holds no others."""
        with self._lock:
            newer = self._results
            self.forget_results()
            self.has_read_results, self._read_all = True, are_all
            for event in reversed(newest_first):
                self._add_result(event)
            self._results.update(newer)

    def forget_results(self) -> None:
        """Read the results from the file again: it has adopted some that this run did not write."""
        with self._lock:
            self._results = _RecentlyUsed[Recorded](self._max_bytes)
            self.has_read_results = self._read_all = False

    def result(self, key: str) -> Recorded | None:
        """The latest result with that ``result_key``; it may have expired."""
        with self._lock:
            return self._results.get(key)

    def call(self, name: str, waiting: Iterable[QueuedEvent] = ()) -> CallRecord | None:
        """The record of a call, its *waiting* events included; ``None`` if it is not known completely."""
        with self._lock:
            known, events = self._calls.get(name), self._unwritten(waiting)
            if known is None and not (events and type(events[0]) in _FIRST and self._is_first(events[0])):
                return None
            record, written = known or (None, [])
            return self._replayed(name, record, [*written, *events])

    def with_waiting(self, records: dict[str, CallRecord], waiting: Iterable[QueuedEvent]) -> dict[str, CallRecord]:
        """*records*, as read from the file, with the *waiting* events that the file lacks."""
        with self._lock:
            return replay(records, self._run, self._unwritten(waiting))

    def _unwritten(self, waiting: Iterable[QueuedEvent]) -> list[Event]:
        # A batch is noted here before it leaves the queue: an event in both counts once.
        return [entry.event for entry in waiting if entry.event is not None and entry.number > self._latest]


class Lookup:
    """Finds single calls and results. Running, waiting and recent ones need no file.

    Others are read on the journal's thread. There is no answer while the journal cannot be read.
    """

    def __init__(self, recent_calls: RecentCallCache, queue: WriteQueue, ask: Callable[[Query[Any]], object]) -> None:
        self._recent_calls = recent_calls
        self._queue = queue
        self._ask = ask

    def call(self, call: str) -> CallRecord | Query[CallRecord]:
        """The record of the call with that id, or the query for it."""
        known = self._recent_calls.call(call, self._queue.waiting(call))
        if known is not None:
            return known

        self._ask(query := Query(lambda store: self._read(store, call)))
        return query

    async def taken_over(self, store: Store, call: str) -> CallRecord | None:
        """The record of the call, whose rows are copied from the files of other processes into ours.

        For the holder of the claim on it, on the journal's thread. With the call, its recorded result can be found.
        """
        await store.take_over((call,))
        self._recent_calls.forget_results()
        return await self._read(store, call)

    async def _read(self, store: Store, call: str) -> CallRecord | None:
        records: dict[str, CallRecord] = {}
        for run, event in readable(await store.history(call)):
            replay(records, run, (event,))
        return self._recent_calls.with_waiting(records, self._queue.waiting(call)).get(call)

    def result(self, operation: str, key: str) -> Recorded | Query[Recorded] | None:
        """The latest result that *operation* recorded under that idempotency key, or the query for it.

        It may have expired. ``None``: there is none.
        """
        recent, stored_key = self._recent_calls, result_key(operation, key)
        known = self._queue.results.find(stored_key) or recent.result(stored_key)
        if known is not None or recent.knows_every_result:
            return known

        async def read(store: Store) -> Recorded | None:
            if not recent.has_read_results:
                rows = await store.recorded(limit=MAX_RESULTS_READ)
                recent.know_results([event for _, event in readable(rows)], are_all=len(rows) < MAX_RESULTS_READ)
            found = recent.result(stored_key)
            if found is not None or recent.knows_every_result:
                return found
            rows = await store.recorded(stored_key)
            return next((recorded for _, event in readable(rows) if (recorded := recorded_in(event))), None)

        self._ask(query := Query(read))
        return query
