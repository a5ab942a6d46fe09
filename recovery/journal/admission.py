"""The line before the journal: while little room is left, calls go ahead one after another, as there is room for them.

Who leaves the line hands his turn on, so that none is lost; where nothing is written any more all are let go.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from events.fork_locks import fork_safe
from recovery.journal.queue import WriteQueue
from recovery.waiting.waiters import Clock, Waiter

STALL_TIMEOUT = 5.0
"""Seconds in which nothing was written, after which nobody waits for the store any more: it hangs."""

EVENTS_PER_CALL = 4
"""So many events one who is let in is reckoned to say: two are usual, and a third if a circuit opens."""

MAX_ADMITTED = 32
"""So many are under way at a time where there is nothing to wait for: or their loop would come to nothing else."""

RECHECK_AFTER = 15.0
"""Seconds after which each one looks for himself: he who watches for all may be of a loop that is blocked, or over."""


class Slot:
    """A call's place in the line: a context in which it asks how long to wait, until that is no time at all.

    It takes its place with the first question. *most* is how many seconds it waits at the most.
    """

    __slots__ = ("_admission", "end", "is_admitted", "waiter")

    def __init__(self, admission: Admission, most: float) -> None:
        self._admission = admission
        self.end = admission.clock() + most
        self.is_admitted = False
        self.waiter: Waiter | None = None

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._admission.leave(self)

    def left(self, waiter: Waiter) -> float:
        """Seconds to wait before it asks again, unless *waiter* is woken earlier; none: it goes ahead."""
        return self._admission.left(self, waiter)


class Admission:
    """Lets calls in while they leave *queue* less than half full: the other half is for those who cannot wait.

    First come, first served: who comes while others wait joins them. Nobody waits where *is_unwritable* says so, nor
    after
    *stall_timeout* seconds in which nothing was written, until something is. What else each one waits at the most is
    his
    own: it had better be long, for those who came together then overrun the queue together.
    Safe to use from any thread. In a signal handler that interrupts it, a call goes ahead at once.
    """

    def __init__(
        self,
        queue: WriteQueue,
        is_unwritable: Callable[[], bool],
        clock: Clock = time.monotonic,
        stall_timeout: float = STALL_TIMEOUT,
    ) -> None:
        self.clock = clock
        self.line: OrderedDict[Slot, None] = OrderedDict()
        self._queue = queue
        self._is_unwritable = is_unwritable
        self._stall_timeout = stall_timeout
        self._lock = fork_safe(threading.RLock())
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether this is a signal handler that interrupts its own thread inside this line."""
        self._inside = 0  # let in, and not gone ahead yet
        self._watch: Slot | None = None  # who looks at the clock for all
        self._since: float | None = None  # since when somebody waits, and nothing was written
        self._is_stuck = False
        self._written = 0

    def left(self, slot: Slot, waiter: Waiter) -> float:
        """What ``Slot.left`` says."""
        if self.is_interrupted() or self._queue.is_interrupted():
            return 0.0  # it would wait for itself
        with self._lock:
            if slot.is_admitted or (slot not in self.line and not self._must_wait()):
                return 0.0
            slot.waiter = None
            self.line[slot] = None
            now = self.clock()
            if self._since is None:
                self._since = now
            elif now >= self._since + self._stall_timeout:
                # Those who were let in and never came are not counted on either.
                self._is_stuck, self._inside, self._since = True, 0, now
            waiters, left = self._admit(), 0.0
            if slot in self.line:
                slot.waiter = waiter
                left = min(
                    slot.end - now, self._since + self._stall_timeout - now if self._watch is slot else RECHECK_AFTER
                )
        _wake(waiters)
        return left

    def leave(self, slot: Slot) -> None:
        """*slot* is over, be it that it was let in or not; the next have theirs."""
        with self._lock:
            if slot.is_admitted:
                self._inside = max(self._inside - 1, 0)
            elif slot in self.line:
                del self.line[slot]
            else:
                return
            waiters = self._admit()
        _wake(waiters)

    def move(self, written: int) -> None:
        """So much is *written* now, or it is known that nothing will be: let in for whom there is room."""
        with self._lock:
            if written != self._written:
                self._written, self._is_stuck, self._since = written, False, self.clock()
            waiters = self._admit()
        _wake(waiters)

    def _must_wait(self) -> bool:
        return not self._is_stuck and bool(self.line or self._queue.is_half_full) and not self._is_unwritable()

    def _admit(self) -> list[Waiter]:
        """Let in for whom there is room; whom to wake."""
        waiters = []
        while self.line and self._has_room():
            slot, _ = self.line.popitem(last=False)
            slot.is_admitted = True
            self._inside += 1
            if slot.waiter is not None:
                waiters.append(slot.waiter)
        if not self.line and not self._queue.is_half_full:
            self._is_stuck, self._since = False, None
        if self._watch not in self.line:
            # The last in line watches for all: the first would hand that on at once.
            self._watch = next(reversed(self.line), None)
            if self._watch is not None and self._watch.waiter is not None:
                waiters.append(self._watch.waiter)
        return waiters

    def _has_room(self) -> bool:
        if self._is_stuck or self._is_unwritable():
            return self._inside < MAX_ADMITTED
        return self._queue.has_room((self._inside + 1) * EVENTS_PER_CALL)


def _wake(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
