"""What waits to be written: bounded in number and in bytes, and counted to the last event.

``issued = stored + coalesced + dropped + waiting`` holds at every moment. Three classes of events wait here. *Progress*
(checkpoints) counts only in its latest state: a newer one takes the place of one that still waits, and progress is the
first to go when there is no room. Everything else (failures, schedules, ends, starts) is dropped only when the room is
full of its like. Cancellations, which wait for no room and come by the thousands when a loop ends, have their own.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

from events.event import Event
from events.operation_events import (
    CheckpointSaved,
    OperationCancelled,
    OperationRecovered,
    OperationSucceeded,
    Recorded,
)
from recovery.journal.accounting import DroppedRanges, OwnDrops
from recovery.journal.size_estimate import BASE_SIZE, TEXT_SIZES, size_of_recorded
from recovery.waiting.waiters import Flag

CAPACITY = 10_000
MAX_BYTES = 16 * 1024 * 1024
CANCELLATIONS = 10
"""Times the capacity: so many of them may wait besides. They have no texts, and take a quarter of a kilobyte each."""
BATCH = 512
BATCH_BYTES = 1024 * 1024


class Counts(msgspec.Struct, frozen=True):
    """What became of the events that were to be written: *issued* is the sum of the others."""

    issued: int
    stored: int
    coalesced: int
    dropped: int
    waiting: int


class Backlog(msgspec.Struct, frozen=True):
    """The events that were accepted and are not written yet: how many, about how many bytes, and *since* when."""

    events: int
    bytes: int
    since: float | None


class QueuedEvent(msgspec.Struct, eq=False, gc=False):
    """One event that waits. Its *number* counts the events of this run, from 1; *event* is ``None`` once it is out."""

    number: int
    event: Event | None
    size: int


class WriteQueue:
    """The queue between whoever publishes and the writer, who takes a batch and says what became of it.

    *filled* is set from the first event until the writer goes to ``rest``, *hurry* when a batch is worth writing before
    the flush interval is over.
    """

    def __init__(self, capacity: int = CAPACITY, max_bytes: int = MAX_BYTES) -> None:
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.filled = Flag()
        self.hurry = Flag()
        self._lock = threading.RLock()
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether this is a signal handler that interrupts its own thread inside this queue."""
        self._queue: deque[QueuedEvent] = deque()
        self._progress: OrderedDict[str, QueuedEvent] = OrderedDict()
        self._recording: dict[tuple[str, str], QueuedEvent] = {}
        self._writing: list[QueuedEvent] = []
        self._live = 0  # without cancellations
        self._cancelled = 0
        self._bytes = 0
        self.is_closed = False
        self._next = 0
        self.since = 0.0
        """When, on the monotonic clock, the earliest event that is not being written came; or before that."""
        self.stored = 0
        self.coalesced = 0
        self.dropped = 0
        self.own_drops = OwnDrops()
        self._dropped_ranges = DroppedRanges()
        self._unwritable = DroppedRanges()

    @property
    def issued(self) -> int:
        """The number of the latest event."""
        return self._next

    @property
    def counts(self) -> Counts:
        """What became of everything until now."""
        with self._lock:
            return Counts(self._next, self.stored, self.coalesced, self.dropped, self._live + self._cancelled)

    @property
    def backlog(self) -> Backlog:
        """What waits now; the oldest of it happened at *since*, on the bus's clock."""
        with self._lock:
            self._skip_coalesced()
            waiting = self._writing or self._queue
            event = waiting[0].event if waiting else None
            return Backlog(self._live + self._cancelled, self._bytes, None if event is None else event.at)

    @property
    def is_half_full(self) -> bool:
        """Whether so much waits that those who can wait had better."""
        return self._live >= self.capacity // 2 or self._bytes >= self.max_bytes // 2

    def has_room(self, events: int) -> bool:
        """Whether it is half full at the most with so many more, of usual size."""
        size = events * self.max_bytes // self.capacity
        return self._live + events <= self.capacity // 2 and self._bytes + size <= self.max_bytes // 2

    def has_dropped(self, since: int, position: int) -> bool:
        """Whether any event after *since* and up to *position* was dropped."""
        with self._lock:
            return self._dropped_ranges.between(since, position)

    def has_unwritable(self, since: int, position: int) -> bool:
        """Whether any of those could not be written by any store."""
        with self._lock:
            return self._unwritable.between(since, position)

    @property
    def first(self) -> int:
        """The number of the earliest event of which nothing has become yet; beyond the latest, if there is none."""
        with self._lock:
            self._skip_coalesced()
            waiting = self._writing or self._queue
            return waiting[0].number if waiting else self._next + 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._live + self._cancelled

    @property
    def has_batch(self) -> bool:
        """Whether a whole batch waits."""
        return self._live + self._cancelled >= BATCH

    def put(self, event: Event) -> bool:
        """Take *event* in, unless there is no room or ``is_interrupted()``; whether it was taken.

        Takes microseconds and never waits for the store.
        """
        if self.is_interrupted():  # what it interrupts must find everything else as it was
            self._next = number = self._next + 1
            self._refuse(number)
            return False
        with self._lock:
            length = self._take_in(event)
        if not self.filled.is_set:  # setting it wakes a thread: 15 to 60 µs of the caller's
            self.filled.set()
        if length == BATCH:
            self.hurry.set()
        return length > 0

    def _take_in(self, event: Event) -> int:
        """How many wait when *event* does; 0 if it is refused."""
        size_of_texts = TEXT_SIZES.get(
            type(event)
        )  # as ``estimate_size``, without a call: this is on the way of every failure
        size = BASE_SIZE if size_of_texts is None else BASE_SIZE + size_of_texts(event)
        progress = event if type(event) is CheckpointSaved else None
        self._next = number = self._next + 1
        # A newer checkpoint takes the place of one that waits, but only if it is taken in: or both would be lost.
        old = None if progress is None else self._progress.pop(progress.call, None)
        if old is not None:
            self._live -= 1
            self._bytes -= old.size
        is_cancelled = type(event) is OperationCancelled
        if is_cancelled:
            size = 0  # of these only the number counts
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
        elif size_of_texts is size_of_recorded and event.recorded is not None:  # type: ignore[attr-defined]
            self._note_result(entry)
        if not self._queue:
            self.since = time.monotonic()
        if is_cancelled:
            self._cancelled += 1
        else:
            self._live += 1
        self._bytes += size
        self._queue.append(entry)  # the last call: a signal handler that raises here leaves the counts right
        return self._live + self._cancelled

    def _refuse(self, number: int) -> None:
        self.dropped += 1
        self._dropped_ranges.add(number, number)
        self.own_drops.note(number)

    def _put_back(self, call: str, entry: QueuedEvent) -> None:
        self._progress[call] = entry
        self._live += 1
        self._bytes += entry.size

    def _make_room(self, size: int) -> bool:
        if size > self.max_bytes:
            return False
        while self._live >= self.capacity or self._bytes + size > self.max_bytes:
            if not self._progress:
                return False
            _, entry = self._progress.popitem(last=False)
            self._remove(entry)
            self.dropped += 1
            self._dropped_ranges.add(entry.number, entry.number)
        return True

    def _remove(self, entry: QueuedEvent) -> None:
        entry.event = None
        self._live -= 1
        self._bytes -= entry.size

    def _skip_coalesced(self) -> None:
        while self._queue and self._queue[0].event is None:
            self._queue.popleft()

    def waiting(self, wanted: Callable[[Event], bool]) -> list[tuple[int, Event]]:
        """The *wanted* events among those that wait, with their numbers. Looks at every one."""
        with self._lock:
            entries = [*self._writing, *self._queue]
        found = [(entry.number, entry.event) for entry in entries]
        return [(number, event) for number, event in found if event is not None and wanted(event)]

    def take(self) -> list[QueuedEvent]:
        """The batch to write next, oldest first; the same one again until it is ``done``."""
        with self._lock:
            self.hurry.clear()
            if self._writing:
                return self._writing
            queue = self._queue
            if self._bytes <= BATCH_BYTES and self._live + self._cancelled == len(queue) and not self._progress:
                # As it mostly is: there is nothing to look at one by one, with the lock that publishers wait for.
                self._writing = [queue.popleft() for _ in range(min(len(queue), BATCH))]
                return self._writing
            size = 0
            while len(self._writing) < BATCH and size < BATCH_BYTES:
                self._skip_coalesced()
                if not self._queue:
                    break
                entry = self._queue.popleft()
                if type(entry.event) is CheckpointSaved and self._progress.get(entry.event.call) is entry:
                    del self._progress[entry.event.call]
                self._writing.append(entry)
                size += entry.size
            return self._writing

    def rest(self) -> bool:
        """Have the next event set *filled*, unless one waits already; whether none does."""
        with self._lock:
            if not self.is_empty:
                return False
            self.filled.clear()
            return True

    def done(self, unwritable: Sequence[int] = ()) -> None:
        """The batch is stored, but for the events of the numbers *unwritable*, which no store could take."""
        with self._lock:
            self.stored += len(self._writing) - len(unwritable)
            self.dropped += len(unwritable)
            for number in unwritable:
                self._dropped_ranges.add(number, number)
                self._unwritable.add(number, number)
            self._forget(self._writing)
            self._writing = []

    def _note_result(self, entry: QueuedEvent) -> None:
        event = entry.event
        if isinstance(event, OperationSucceeded | OperationRecovered) and event.recorded is not None:
            self._recording[event.operation, event.recorded.key] = entry

    def recorded(self, operation: str, key: str) -> Recorded | None:
        """The latest result of that idempotency key that waits to be written."""
        entry = self._recording.get((operation, key))
        event = None if entry is None else entry.event
        return event.recorded if isinstance(event, OperationSucceeded | OperationRecovered) else None

    def _forget(self, entries: list[QueuedEvent]) -> None:
        if self._recording:
            for entry in entries:
                event = entry.event
                if isinstance(event, OperationSucceeded | OperationRecovered) and event.recorded is not None:
                    key = event.operation, event.recorded.key
                    if self._recording.get(key) is entry:  # no newer one waits
                        del self._recording[key]
        if self._cancelled:
            cancelled = sum(entry.size == 0 for entry in entries)
            self._cancelled -= cancelled
            self._live += cancelled
        self._live -= len(entries)
        self._bytes -= sum(entry.size for entry in entries)

    def close(self) -> None:
        """Take nothing in any more: from now on everything is dropped, and counted."""
        with self._lock:
            self.is_closed = True

    def give_up(self) -> None:
        """Drop whatever waits, and count it: nobody will write it."""
        with self._lock:
            self.is_closed = True
            self.dropped += self._live + self._cancelled
            waiting = self._writing or self._queue
            if waiting:
                self._dropped_ranges.add(waiting[0].number, self._next)
            self._queue.clear()
            self._progress.clear()
            self._recording.clear()
            self._writing = []
            self._live = self._cancelled = self._bytes = 0
