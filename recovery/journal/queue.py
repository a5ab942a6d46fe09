"""The write queue: the events that wait to be written, bounded in number and in bytes.

``issued = stored + coalesced + dropped + waiting`` holds at every moment. Events are of three classes:

- *Progress* (checkpoints): a newer checkpoint replaces one of the same call that still waits. Progress is dropped first
  when the queue is full.
- *Cancellations* have a capacity of their own: they wait for no room, and come by the thousand when a loop ends.
- *Everything else* (failures, schedules, starts, ends) is dropped only when the queue is full of its like.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

from events.event import CallEvent, Event
from events.operation_events import CheckpointSaved, OperationCancelled, Recorded
from recovery.journal.accounting import Backlog, Counts, DroppedRanges, note_own_drop
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.history import recorded_in, result_key
from recovery.journal.size_estimate import BASE_SIZE, TEXT_SIZES, size_of_recorded
from recovery.waiting.waiters import Flag

CANCELLATIONS = 10
"""Cancellations that may wait, in multiples of the capacity. Each takes a quarter of a kilobyte: it has no texts."""
BATCH_EVENTS = 512
BATCH_BYTES = 1024 * 1024


class QueuedEvent(msgspec.Struct, eq=False, gc=False):
    """An event in the queue. *number* counts the events of this run, from 1; *event* is ``None`` once it is removed.

    *since* is the number of the first waiting checkpoint that this one has replaced; 0 for none.
    """

    number: int
    event: Event | None
    size: int
    since: int = 0


class WriteQueue:
    """Takes events from any thread and gives them to the writer in batches.

    *filled* is set when the first event arrives after ``rest()``. *hurry* is set when the writer should take a batch
    before the flush interval ends.
    """

    def __init__(self, capacity: int = JOURNAL_DEFAULTS.capacity, max_bytes: int = JOURNAL_DEFAULTS.max_bytes) -> None:
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._half = capacity // 2
        self._half_bytes = max_bytes // 2
        self.filled = Flag()
        self.hurry = Flag()
        self._lock = threading.RLock()
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether the caller is a signal handler that interrupts its own thread inside this queue."""
        self._queue: deque[QueuedEvent] = deque()
        self._progress: OrderedDict[str, QueuedEvent] = OrderedDict()
        self._results: OrderedDict[str, QueuedEvent] = OrderedDict()
        self._writing: list[QueuedEvent] = []
        self._live = 0  # without cancellations
        self._cancelled = 0
        self._bytes = 0
        self.is_closed = False
        self.issued = 0
        """The number of the latest event."""
        self.since = 0.0
        """When, in monotonic seconds, the earliest event that is not being written arrived; or earlier."""
        self.stored = 0
        self.coalesced = 0
        self.dropped = 0
        self.token = object()
        """Stands for this queue in ``take_own_drop``."""
        self._dropped_ranges = DroppedRanges()

    # questions

    @property
    def counts(self) -> Counts:
        """What became of all events until now."""
        with self._lock:
            return Counts(self.issued, self.stored, self.coalesced, self.dropped, len(self))

    @property
    def backlog(self) -> Backlog:
        """The events that wait now, the batch that is being written included."""
        with self._lock:
            earliest = self._earliest()
            event = None if earliest is None else earliest.event
            return Backlog(len(self), self._bytes, None if event is None else event.at)

    @property
    def is_half_full(self) -> bool:
        """Whether callers that can wait should."""
        return self._live >= self._half or self._bytes >= self._half_bytes

    def has_room(self, events: int) -> bool:
        """Whether *events* more of average size leave the queue at most half full."""
        size = events * self.max_bytes // self.capacity
        return self._live + events <= self._half and self._bytes + size <= self._half_bytes

    def has_dropped(self, since: int, position: int) -> bool:
        """Whether any event after *since* and up to *position* was dropped."""
        with self._lock:
            return self._dropped_ranges.between(since, position)

    @property
    def first(self) -> int:
        """The number of the earliest event that waits, or that was replaced by one; ``issued`` + 1 if none waits."""
        with self._lock:
            earliest = self._earliest()
            first = self.issued + 1 if earliest is None else earliest.number
            progress = list(self._progress.values())
        return min([first, *(entry.since for entry in progress if entry.since)])

    def __len__(self) -> int:
        """How many events wait, the batch that is being written included."""
        return self._live + self._cancelled

    def waiting(self, call: str) -> list[QueuedEvent]:
        """The events of *call* that wait, the earliest first. Looks at every event."""
        with self._lock:
            entries = [*self._writing, *self._queue]
        return [entry for entry in entries if isinstance(entry.event, CallEvent) and entry.event.call == call]

    def waiting_result(self, key: str) -> Recorded | None:
        """The latest result with that ``result_key`` that waits to be written."""
        entry = self._results.get(key)
        return None if entry is None else recorded_in(entry.event)

    # events in

    def put(self, event: Event) -> bool:
        """Accept *event*; whether it was accepted. Takes microseconds and never waits for the store.

        Refuses it if there is no room, after ``close()``, and from a signal handler that interrupts this queue.
        """
        if self.is_interrupted():  # the interrupted method must find everything else unchanged
            self.issued = number = self.issued + 1
            self._refuse(number)
            return False
        with self._lock:
            length = self._accept(event)
        if not self.filled.is_set:  # setting it wakes a thread, which takes 15 to 60 µs
            self.filled.set()
        if length == BATCH_EVENTS:
            self.hurry.set()
        return length > 0

    def _accept(self, event: Event) -> int:
        """The number of waiting events, *event* included; 0 if it is refused."""
        kind = type(event)
        size_of_texts = TEXT_SIZES.get(kind)
        size = BASE_SIZE if size_of_texts is None else BASE_SIZE + size_of_texts(event)
        progress = event if type(event) is CheckpointSaved else None
        self.issued = number = self.issued + 1
        # A newer checkpoint replaces a waiting one only if it is accepted itself: otherwise both would be lost.
        old = None if progress is None else self._progress.pop(progress.call, None)
        if old is not None:
            self._live -= 1
            self._bytes -= old.size
        is_cancelled = kind is OperationCancelled
        if is_cancelled:
            size = 0  # only their number is bounded
            is_refused = self.is_closed or self._cancelled >= CANCELLATIONS * self.capacity
        else:
            is_full = self._live >= self.capacity or self._bytes + size > self.max_bytes
            is_refused = self.is_closed or (is_full and not self._make_room(size))
        if is_refused:
            if old is not None and progress is not None:
                self._put_back(progress.call, old)
            self._refuse(number)
            return 0
        if old is not None:
            old.event = None
            self.coalesced += 1
        entry = QueuedEvent(number, event, size)
        if progress is not None:
            self._progress[progress.call] = entry
            if old is not None:
                entry.since = old.since or old.number
        elif size > BASE_SIZE and size_of_texts is size_of_recorded:
            self._note_result(event, entry)
        if not self._queue:
            self.since = time.monotonic()
        if is_cancelled:
            self._cancelled += 1
        else:
            self._live += 1
        self._bytes += size
        self._queue.append(entry)  # the last call: a signal handler that raises here leaves the counts right
        return self._live + self._cancelled

    def _note_result(self, event: Event, entry: QueuedEvent) -> None:
        recorded = recorded_in(event)
        if recorded is not None:
            self._results[key := result_key(event.operation, recorded.key)] = entry
            self._results.move_to_end(key)

    def _refuse(self, number: int) -> None:
        self._drop(number)
        note_own_drop(self.token, number)

    def _drop(self, number: int) -> None:
        self.dropped += 1
        self._dropped_ranges.add(number, number)

    def _put_back(self, call: str, entry: QueuedEvent) -> None:
        self._progress[call] = entry
        self._live += 1
        self._bytes += entry.size

    def _make_room(self, size: int) -> bool:
        """Drop the oldest progress until *size* bytes fit; whether they do."""
        if size > self.max_bytes:
            return False
        while self._live >= self.capacity or self._bytes + size > self.max_bytes:
            if not self._progress:
                return False
            _, entry = self._progress.popitem(last=False)
            entry.event = None
            self._live -= 1
            self._bytes -= entry.size
            self._drop(entry.number)
        return True

    # batches out

    def take(self) -> list[QueuedEvent]:
        """The batch to write next, oldest event first; the same batch again until ``done()``."""
        with self._lock:
            self.hurry.clear()
            if self._writing:
                return self._writing
            queue, batch, size = self._queue, self._writing, 0
            while queue and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
                entry = queue.popleft()
                if entry.event is None:
                    continue
                if type(entry.event) is CheckpointSaved:
                    self._progress.pop(entry.event.call, None)
                batch.append(entry)
                size += entry.size
            return batch

    def done(self, unwritable: Sequence[int] = ()) -> None:
        """The batch is stored, except the events numbered *unwritable*, which could not be encoded."""
        with self._lock:
            batch, self._writing = self._writing, []
            self.stored += len(batch) - len(unwritable)
            for number in unwritable:
                self._drop(number)
            while self._results and next(iter(self._results.values())).number <= batch[-1].number:
                self._results.popitem(last=False)
            cancelled = sum(entry.size == 0 for entry in batch) if self._cancelled else 0
            self._cancelled -= cancelled
            self._live -= len(batch) - cancelled
            self._bytes -= sum(entry.size for entry in batch)

    def rest(self) -> bool:
        """Clear *filled*, so that the next event sets it, unless an event waits; whether none waits."""
        with self._lock:
            if len(self):
                return False
            self.filled.clear()
            return True

    def _earliest(self) -> QueuedEvent | None:
        self._skip_removed()
        waiting = self._writing or self._queue
        return waiting[0] if waiting else None

    def _skip_removed(self) -> None:
        while self._queue and self._queue[0].event is None:
            self._queue.popleft()

    # the end

    def close(self) -> None:
        """Accept no more events: from now on each is dropped, and counted."""
        with self._lock:
            self.is_closed = True

    def give_up(self) -> None:
        """Close, drop all waiting events, and count them: they will not be written."""
        with self._lock:
            self.is_closed = True
            self.dropped += len(self)
            waiting = self._writing or self._queue
            if waiting:
                self._dropped_ranges.add(waiting[0].number, self.issued)
            self._queue.clear()
            self._progress.clear()
            self._results.clear()
            self._writing = []
            self._live = self._cancelled = self._bytes = 0
