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
from events.operation_events import CheckpointSaved, OperationCancelled
from recovery.journal.accounting import Backlog, Counts, DroppedRanges, Room, note_own_drop
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.lane import Lane, QueuedEvent, entries_of, expanded
from recovery.journal.size_estimate import BASE_SIZE, TEXT_SIZES, size_of_recorded
from recovery.journal.waiting_results import WaitingResults
from recovery.waiting.waiters import Flag

CANCELLATIONS = 10
"""Cancellations that may wait, in multiples of the capacity. Each takes a quarter of a kilobyte: it has no texts."""
BATCH_EVENTS, LARGEST_BATCH = 512, 1024
"""Events that are written without a wait for more, and events of one batch at most."""
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
        lane: Lane | None = None,
    ) -> None:
        self.room = Room(capacity, max_bytes)
        self.filled = Flag()
        self.lane = lane or Lane()
        self.lane.begin(self.room, self.filled.set)
        self.hurry = Flag()
        self._lock = threading.RLock()
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether the caller is a signal handler that interrupts its own thread inside this queue."""
        self._queue: deque[QueuedEvent] = deque()
        self._progress: OrderedDict[str, QueuedEvent] = OrderedDict()
        self.results = WaitingResults()
        """The recorded results that wait."""
        self._writing: list[QueuedEvent] = []
        self.is_closed = self._is_over = False
        self._issued = 0
        self._taken_at = 0.0
        self.since = 0.0
        """When, in monotonic seconds, the earliest event that is not being written arrived; or earlier."""
        self.stored = self.coalesced = self.dropped = 0
        self.token = object()
        """Stands for this queue in ``take_own_drop``."""
        self._dropped_ranges = DroppedRanges()

    # questions

    @property
    def issued(self) -> int:
        """The number of the latest event."""
        if self.is_interrupted():
            return self._issued + self.lane.weight
        self.absorb()
        return self._issued

    @property
    def counts(self) -> Counts:
        """What became of all events until now."""
        self.absorb()
        with self._lock:
            return Counts(self._issued, self.stored, self.coalesced, self.dropped, len(self.room))

    @property
    def backlog(self) -> Backlog:
        """The events that wait now, the batch that is being written included."""
        self.absorb()
        with self._lock:
            earliest = self._earliest()
            event = None if earliest is None else expanded(earliest)[0].event
            return Backlog(len(self.room), self.room.bytes, None if event is None else event.at)

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
        return len(self.room)

    def waiting(self, call: str) -> list[QueuedEvent]:
        """The events of *call* that wait, the earliest first. Looks at every event."""
        self.absorb()
        with self._lock:
            entries = [*self._writing, *self._queue]
        entries = [one for entry in entries for one in expanded(entry)]
        return [entry for entry in entries if isinstance(entry.event, CallEvent) and entry.event.call == call]

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
            self._absorb()
            is_accepted = self._accept(event)
            length = len(self.room)
            self.lane.renew()
        if not self.filled.is_set:  # setting it wakes a thread, which takes 15 to 60 µs
            self.filled.set()
        if length == BATCH_EVENTS:
            self.hurry.set()
        return is_accepted

    def absorb(self) -> None:
        """Number and count the records of the lane, unless a signal handler interrupts this queue."""
        if not self.lane.is_empty and not self.is_interrupted():
            with self._lock:
                self._absorb()

    def _absorb(self) -> None:
        if self.lane.is_empty:
            return
        entries, number, size = entries_of(self.lane.gather(), first := self._issued)
        while first != self._issued:  # a signal handler that interrupts this takes a number, too
            entries, number, size = entries_of(self.lane.gather(), first := self._issued)
        # No call comes before the queue has the entries: a signal handler may raise when a function is entered.
        self._issued = number
        self.lane.gathered = []
        if self._is_over:
            self.dropped += number - first
            self._dropped_ranges.add(first + 1, number)
            return
        if not self._queue:
            self.since = self._taken_at
        self.room.live += number - first
        self.room.bytes += size
        self._queue.extend(entries)
        self.lane.set_limit()
        if len(self.room) - (number - first) < BATCH_EVENTS <= len(self.room):
            self.hurry.set()

    def shut_lane(self) -> None:
        """Let no event take the lane."""
        with self._lock:
            self.lane.shut()

    def _accept(self, event: Event) -> bool:
        """Whether *event* is accepted, not refused."""
        kind, room = type(event), self.room
        size_of_texts = TEXT_SIZES.get(kind)
        size = BASE_SIZE if size_of_texts is None else BASE_SIZE + size_of_texts(event)
        progress = event if type(event) is CheckpointSaved else None
        self._issued = number = self._issued + 1
        # A newer checkpoint replaces a waiting one only if it is accepted itself: otherwise both would be lost.
        old = None if progress is None else self._progress.pop(progress.call, None)
        if old is not None:
            room.live -= 1
            room.bytes -= old.size
        is_cancelled = kind is OperationCancelled
        if is_cancelled:
            size = 0  # only their number is bounded
            is_refused = self.is_closed or room.cancelled >= CANCELLATIONS * room.capacity
        else:
            is_refused = self.is_closed or (room.is_full(size) and not self._make_room(size))
        if is_refused:
            if old is not None and progress is not None:
                self._progress[progress.call] = old
                room.live += 1
                room.bytes += old.size
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
            self.results.note(event, entry)
        if not self._queue:
            self.since = time.monotonic()
        if is_cancelled:
            room.cancelled += 1
        else:
            room.live += 1
        room.bytes += size
        self._queue.append(entry)  # the last call: a signal handler that raises here leaves the counts right
        return True

    def _refuse(self, number: int) -> None:
        self._drop(number)
        note_own_drop(self.token, number)

    def _drop(self, number: int) -> None:
        self.dropped += 1
        self._dropped_ranges.add(number, number)

    def _make_room(self, size: int) -> bool:
        """Drop the oldest progress until *size* bytes fit; whether they do."""
        while self.room.is_full(size):
            if size > self.room.max_bytes or not self._progress:
                return False
            _, entry = self._progress.popitem(last=False)
            entry.event = None
            self.room.live -= 1
            self.room.bytes -= entry.size
            self._drop(entry.number)
        return True

    # batches out

    def take(self) -> list[QueuedEvent]:
        """The batch to write next, oldest event first; the same batch again until ``done()``."""
        with self._lock:
            self._absorb()
            self.hurry.clear()
            if self._writing:
                return self._writing
            self._taken_at = time.monotonic()
            queue, batch, size, events = self._queue, self._writing, 0, 0
            while queue and events < LARGEST_BATCH and size < BATCH_BYTES:
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
        """The batch is stored, except the events numbered *unwritable*, which could not be encoded; the lane opens."""
        with self._lock:
            batch, self._writing = self._writing, []
            self.stored += (events := sum(entry.weight for entry in batch)) - len(unwritable)
            for number in unwritable:
                self._drop(number)
            self.results.forget(batch[-1].number)
            cancelled = sum(entry.size == 0 for entry in batch) if self.room.cancelled else 0
            self.room.cancelled -= cancelled
            self.room.live -= events - cancelled
            self.room.bytes -= sum(entry.size for entry in batch)
            if not self.is_closed:
                self.lane.open()

    def rest(self) -> bool:
        """Shut the lane and clear *filled*, so that the next event sets it, unless an event waits; whether none waits.

        After the lane is shut the writer looks at it once more, before it rests: a caller may be just about to append.
        """
        with self._lock:
            if self.lane.rest() or len(self):
                return False
            self.filled.clear()
            return True

    def _earliest(self) -> QueuedEvent | None:
        while self._queue and self._queue[0].is_removed:
            self._queue.popleft()
        waiting = self._writing or self._queue
        return waiting[0] if waiting else None

    # the end

    def close(self) -> None:
        """Accept no more events: from now on each is dropped, and counted. What reaches the lane is still written."""
        with self._lock:
            self.is_closed = True
            self.lane.shut()

    def give_up(self) -> None:
        """Close, drop all waiting events, and count them: they will not be written."""
        with self._lock:
            self.is_closed = self._is_over = True
            self.lane.shut()
            self.dropped += len(self.room)
            waiting = self._writing or self._queue
            if waiting:
                self._dropped_ranges.add(waiting[0].number, self._issued)
            self._queue.clear()
            self._progress.clear()
            self.results = WaitingResults()
            self._writing = []
            self.room.empty()
            self._absorb()
