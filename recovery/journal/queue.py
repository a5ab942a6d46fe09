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

from events.event import CallEvent, Event
from events.operation_events import CheckpointSaved, OperationCancelled, Recorded
from recovery.journal.accounting import Backlog, Counts, DroppedRanges, note_own_drop
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.history import recorded_in, result_key
from recovery.journal.intake import (
    LANE_RECORDS,
    MAX_WEIGHT,
    RECORD_SIZE,
    Intake,
    QueuedEvent,
    entries_of,
    expanded,
)
from recovery.journal.size_estimate import BASE_SIZE, TEXT_SIZES, size_of_recorded
from recovery.waiting.waiters import Flag

CANCELLATIONS = 10
"""Cancellations that may wait, in multiples of the capacity. Each takes a quarter of a kilobyte: it has no texts."""
BATCH_EVENTS = 512
BATCH_BYTES = 1024 * 1024


class WriteQueue:
    """Takes events from any thread and gives them to the writer in batches.

    *filled* is set when the first event arrives after ``rest()``. *hurry* is set when the writer should take a batch
    before the flush interval ends.
    """

    def __init__(
        self,
        capacity: int = JOURNAL_DEFAULTS.capacity,
        max_bytes: int = JOURNAL_DEFAULTS.max_bytes,
        intake: Intake | None = None,
    ) -> None:
        self.intake = intake or Intake()
        self.intake.begin()
        self._is_lane_open = False
        self._taken_at = 0.0
        self.is_crowded: Callable[[], bool] = lambda: False
        """Whether calls wait for admission: then the lane is shut, and all go through the line."""
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
        self.is_closed = self._is_over = False
        self._issued = 0
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
    def issued(self) -> int:
        """The number of the latest event."""
        if self.is_interrupted():
            return self._issued + self.intake.weight
        self.absorb()
        return self._issued

    @property
    def counts(self) -> Counts:
        """What became of all events until now."""
        with self._lock:
            self._absorb()
            waiting = self._live + self._cancelled
            return Counts(self._issued, self.stored, self.coalesced, self.dropped, waiting)

    @property
    def backlog(self) -> Backlog:
        """The events that wait now, the batch that is being written included."""
        with self._lock:
            self._absorb()
            earliest = self._earliest()
            event = None if earliest is None else expanded(earliest)[0].event
            return Backlog(self._live + self._cancelled, self._bytes, None if event is None else event.at)

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
            first = self._issued + 1 if earliest is None else earliest.number
            progress = list(self._progress.values())
        return min([first, *(entry.since for entry in progress if entry.since)])

    def __len__(self) -> int:
        """How many events wait, the batch that is being written included."""
        self.absorb()
        return self._live + self._cancelled

    def waiting(self, call: str) -> list[QueuedEvent]:
        """The events of *call* that wait, the earliest first. Looks at every event."""
        with self._lock:
            self._absorb()
            entries = [*self._writing, *self._queue]
        entries = [one for entry in entries for one in expanded(entry)]
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
            self._issued = number = self._issued + 1
            self._refuse(number)
            return False
        with self._lock:
            length = self._live + self._cancelled
            self._absorb()
            is_accepted = self._accept(event)
            is_batch = length < BATCH_EVENTS <= self._live + self._cancelled
            if self._is_lane_open:
                self._set_limit()
        if not self.filled.is_set:  # setting it wakes a thread, which takes 15 to 60 µs
            self.filled.set()
        if is_batch:
            self.hurry.set()
        return is_accepted

    def absorb(self) -> None:
        """Number and count the records of the lane, unless a signal handler interrupts this queue."""
        if not self.intake.is_empty and not self.is_interrupted():
            with self._lock:
                self._absorb()

    def _absorb(self) -> None:
        if self.intake.is_empty:
            return
        records = self.intake.gather()
        entries, number, size = entries_of(records, first := self._issued)
        if self._is_over:
            self._issued, self.dropped = number, self.dropped + number - first
            self.intake.forget()
            self._dropped_ranges.add(first + 1, number)
            return
        if not self._queue:
            self.since = self._taken_at
        self._issued = number
        self._live += number - first
        self._bytes += size
        self.intake.forget()
        self._queue.extend(entries)
        self._set_limit()

    def open_lane(self) -> None:
        """Let events take the lane: the writer looks at it every flush interval."""
        with self._lock:
            self._is_lane_open = True
            self._set_limit()

    def shut_lane(self) -> bool:
        """Let no event take the lane; whether one could until now."""
        with self._lock:
            was_open, self._is_lane_open = self._is_lane_open, False
            self.intake.limit = 0
            return was_open

    def _set_limit(self) -> None:
        """Let the lane hold so much that the queue is at most half full with it."""
        limit = 0
        if self._is_lane_open and not self.is_closed and not self.is_crowded():
            room = (self._half - self._live) // MAX_WEIGHT
            limit = min(LANE_RECORDS, room, (self._half_bytes - self._bytes) // RECORD_SIZE)
        self.intake.limit = max(limit, 0)

    def _accept(self, event: Event) -> bool:
        """Whether *event* is accepted, not refused."""
        kind = type(event)
        size_of_texts = TEXT_SIZES.get(kind)
        size = BASE_SIZE if size_of_texts is None else BASE_SIZE + size_of_texts(event)
        progress = event if type(event) is CheckpointSaved else None
        self._issued = number = self._issued + 1
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
            return False
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
        return True

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
            self._absorb()
            self._taken_at = time.monotonic()
            queue, batch, size, events = self._queue, self._writing, 0, 0
            while queue and events < BATCH_EVENTS and size < BATCH_BYTES:
                entry = queue.popleft()
                if entry.event is None and entry.record is None:
                    continue
                if type(entry.event) is CheckpointSaved:
                    self._progress.pop(entry.event.call, None)
                batch.append(entry)
                events += entry.weight
                size += entry.size
            return batch

    def done(self, unwritable: Sequence[int] = ()) -> None:
        """The batch is stored, except the events numbered *unwritable*, which could not be encoded."""
        with self._lock:
            batch, self._writing = self._writing, []
            self.stored += (events := sum(entry.weight for entry in batch)) - len(unwritable)
            for number in unwritable:
                self._drop(number)
            while self._results and next(iter(self._results.values())).number <= batch[-1].number:
                self._results.popitem(last=False)
            cancelled = sum(entry.size == 0 for entry in batch) if self._cancelled else 0
            self._cancelled -= cancelled
            self._live -= events - cancelled
            self._bytes -= sum(entry.size for entry in batch)
            self._set_limit()

    def rest(self) -> bool:
        """Shut the lane and clear *filled*, so that the next event sets it, unless an event waits; whether none waits.

        After the lane is shut the writer looks at it once more, before it rests: a caller may be just about to append.
        """
        with self._lock:
            if self.shut_lane() or len(self):
                return False
            self.filled.clear()
            return True

    def _earliest(self) -> QueuedEvent | None:
        self._skip_removed()
        waiting = self._writing or self._queue
        return waiting[0] if waiting else None

    def _skip_removed(self) -> None:
        while self._queue and self._queue[0].event is None and self._queue[0].record is None:
            self._queue.popleft()

    # the end

    def close(self) -> None:
        """Accept no more events: from now on each is dropped, and counted. What reaches the lane is still written."""
        with self._lock:
            self.is_closed = True
            self.intake.limit = 0

    def give_up(self) -> None:
        """Close, drop all waiting events, and count them: they will not be written."""
        with self._lock:
            self.is_closed = self._is_over = True
            self.intake.limit = 0
            self.dropped += self._live + self._cancelled
            waiting = self._writing or self._queue
            if waiting:
                self._dropped_ranges.add(waiting[0].number, self._issued)
            self._queue.clear()
            self._progress.clear()
            self._results.clear()
            self._writing = []
            self._live = self._cancelled = self._bytes = 0
            self._absorb()
