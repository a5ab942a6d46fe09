"""Back-pressure: while the write queue is half full, calls are admitted first come, first served.

A call that leaves passes its slot on, so no slot is lost. While nothing is written, calls go ahead a few at a time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from events.fork_locks import fork_safe
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.queue import WriteQueue
from recovery.waiting.waiters import Clock, Waiter, wake_all

EVENTS_PER_CALL = 4
"""Events that an admitted call is assumed to publish: two are usual, and a third if a circuit opens."""

MAX_ADMITTED = 32
"""Calls that are admitted at a time while nothing is written: more would starve their event loop."""


class Slot(msgspec.Struct, eq=False):
    """A call's place among the waiting ones: ask for ``wait_time()`` and wait, until it is 0; then ``close()`` it.

    The call takes its place with the first question. It never waits beyond *end*, on the clock of *admission*. With
    *has_room* it was admitted because the queue has room for its events: they may take the lane, whatever its limit.
    """

    admission: Admission
    end: float
    is_admitted: bool = False
    has_room: bool = False
    waiter: Waiter | None = None

    def wait_time(self, waiter: Waiter) -> float:
        """Seconds to wait before the next question, unless *waiter* is woken earlier; 0 or less: go ahead."""
        return self.admission.wait_time(self, waiter)

    def close(self) -> None:
        """Go ahead, or wait no longer: the next calls get what is left."""
        self.admission.leave(self)


class Admission:
    """The calls that wait for room in *queue*, in order. It keeps the other half for callers that cannot wait.

    A new call waits behind those that wait already. No call waits while *is_unwritable()*, nor after *stall_timeout*
    seconds in which nothing was written; then they go ahead, ``MAX_ADMITTED`` at a time. Thread-safe.
    """

    def __init__(
        self,
        queue: WriteQueue,
        is_unwritable: Callable[[], bool],
        clock: Clock = time.monotonic,
        stall_timeout: float = JOURNAL_DEFAULTS.stall_timeout,
    ) -> None:
        self.clock = clock
        self.waiting: OrderedDict[Slot, None] = OrderedDict()
        self._queue = queue
        self._is_unwritable = is_unwritable
        self._stall_timeout = stall_timeout
        self._lock = fork_safe(threading.RLock())
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether the caller is a signal handler that interrupts its own thread inside this object."""
        self._admitted = 0  # and not gone ahead yet
        self._idle_since: float | None = None  # since when calls wait and nothing was written
        self._is_stalled = False
        self._written = 0

    def wait_time(self, slot: Slot, waiter: Waiter) -> float:
        """The answer to ``Slot.wait_time``."""
        if self.is_interrupted() or self._queue.is_interrupted():
            return 0.0  # the caller would wait for itself
        with self._lock:
            if slot.is_admitted or (slot not in self.waiting and not self._must_wait()):
                return 0.0
            slot.waiter = waiter
            self.waiting[slot] = None  # the last place, or the one that it has
            now = self.clock()
            since = now if self._idle_since is None else self._idle_since
            if now >= since + self._stall_timeout:
                # Calls that were admitted and never went ahead no longer count.
                self._is_stalled, self._admitted, since = True, 0, now
            self._idle_since = since
        self._admit()
        return 0.0 if slot.is_admitted else min(slot.end, since + self._stall_timeout) - now

    def leave(self, slot: Slot) -> None:
        """*slot* is over, admitted or not; the next calls get what it leaves."""
        with self._lock:
            if slot.is_admitted:
                self._admitted = max(self._admitted - 1, 0)
            elif slot in self.waiting:
                del self.waiting[slot]
        self._admit(from_task=True)

    def move(self, written: int) -> None:
        """Admit calls as far as there is room: events up to number *written* are stored, or nothing can be."""
        with self._lock:
            if written != self._written:
                self._written, self._is_stalled, self._idle_since = written, False, self.clock()
        self._admit()

    def _must_wait(self) -> bool:
        return (
            not self._is_stalled and bool(self.waiting or self._queue.room.is_half_full) and not self._is_unwritable()
        )

    def _admit(self, *, from_task: bool = False) -> None:
        """Admit as many as there is room for. The caller does not hold the lock.

        Nor are they woken under it: a signal handler that interrupts a waiter in its sleep may ask for admission, too.
        """
        admitted = []
        with self._lock:
            is_slow = bool(self.waiting) and (self._is_stalled or self._is_unwritable())
            while self.waiting and (self._admitted < MAX_ADMITTED if is_slow else self._has_room()):
                slot, _ = self.waiting.popitem(last=False)
                slot.is_admitted, slot.has_room = True, not is_slow
                self._admitted += 1
                admitted.append(slot.waiter)
            if not self.waiting and not self._queue.room.is_half_full:
                self._is_stalled, self._idle_since = False, None
        if admitted:
            wake_all(filter(None, admitted), from_task=from_task)

    def _has_room(self) -> bool:
        in_lane = self._queue.lane.most_events  # those of admitted calls
        return self._queue.room.leaves_half((self._admitted + 1) * EVENTS_PER_CALL + in_lane)


class BackPressure:
    """The admissions to one write queue: one for threads, and one for tasks.

    Two, because admitted tasks cannot go ahead while a plain call blocks the thread of their loop. A commit barrier
    reads ``queue`` and both admissions itself: it asks before each event of a call.
    """

    def __init__(self, is_unwritable: Callable[[], bool], stall_timeout: float) -> None:
        self._is_unwritable = is_unwritable
        self._stall_timeout = stall_timeout

    def begin(self, queue: WriteQueue) -> None:
        """Make the admissions to *queue*: once, and again in a forked child, where runners keep this object."""
        self.queue = queue
        self.tasks, self.threads = self._both = [
            Admission(queue, self._is_unwritable, stall_timeout=self._stall_timeout) for _ in ("tasks", "threads")
        ]
        tasks, threads = self._both
        queue.lane.calls_wait = lambda: bool(tasks.waiting or threads.waiting)

    def slot(self, timeout: float, *, blocks: bool) -> Slot:
        """A slot of a call that waits up to *timeout* seconds; *blocks* if it blocks its thread meanwhile."""
        admission = self.threads if blocks else self.tasks
        return Slot(admission, admission.clock() + timeout)

    def move(self, written: int) -> None:
        """Admit threads and tasks, as ``Admission.move``."""
        for admission in self._both:
            admission.move(written)

    def is_interrupted(self) -> bool:
        """Whether the caller is a signal handler that interrupts its own thread inside an admission."""
        return any(admission.is_interrupted() for admission in self._both)
