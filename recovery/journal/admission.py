"""The line before the journal: while little room is left, calls go ahead one after another, as there is room for them.

Who leaves the line hands his turn on, so that none is lost; where nothing is written any more all are let go.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from events.fork_locks import surviving
from recovery.journal.queue import Intake
from recovery.waiting.waiters import Clock, Waiter

PATIENCE = 5.0
"""Seconds in which nothing was written, after which nobody waits for the store any more: it hangs."""

EACH = 4
"""So many facts one who is let in is reckoned to say: two are usual, and a third if a circuit opens."""

TOGETHER = 32
"""So many are under way at a time where there is nothing to wait for: or their loop would come to nothing else."""

LOOK_AGAIN = 15.0
"""Seconds after which each one looks for himself: he who watches for all may be of a loop that is blocked, or over."""


class Turn:
    """A call's place in the line: a context in which it asks how long to wait, until that is no time at all.

    It takes its place with the first question. *most* is how many seconds it waits at the most.
    """

    __slots__ = ("_turnstile", "end", "is_let_in", "waiter")

    def __init__(self, turnstile: Turnstile, most: float) -> None:
        self._turnstile = turnstile
        self.end = turnstile.clock() + most
        self.is_let_in = False
        self.waiter: Waiter | None = None

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._turnstile.leave(self)

    def left(self, waiter: Waiter) -> float:
        """Seconds to wait before it asks again, unless *waiter* is woken earlier; none: it goes ahead."""
        return self._turnstile.left(self, waiter)


class Turnstile:
    """Lets calls in while they leave *intake* less than half full: the other half is for those who cannot wait.

    First come, first served: who comes while others wait joins them. Nobody waits where *is_vain* says so, nor after
    *patience* seconds in which nothing was written, until something is. What else each one waits at the most is his
    own: it had better be long, for those who came together then overrun the queue together.
    Safe to use from any thread. In a signal handler that interrupts it, a call goes ahead at once.
    """

    def __init__(
        self,
        intake: Intake,
        is_vain: Callable[[], bool],
        clock: Clock = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self.clock = clock
        self.line: OrderedDict[Turn, None] = OrderedDict()
        self._intake = intake
        self._is_vain = is_vain
        self._patience = patience
        self._lock = surviving(threading.RLock())
        self.is_interrupted: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]  # as ``Condition``
        """Whether this is a signal handler that interrupts its own thread inside this line."""
        self._inside = 0  # let in, and not gone ahead yet
        self._watch: Turn | None = None  # who looks at the clock for all
        self._since: float | None = None  # since when somebody waits, and nothing was written
        self._is_stuck = False
        self._written = 0

    def left(self, turn: Turn, waiter: Waiter) -> float:
        """What ``Turn.left`` says."""
        if self.is_interrupted() or self._intake.is_interrupted():
            return 0.0  # it would wait for itself
        with self._lock:
            if turn.is_let_in or (turn not in self.line and not self._must_wait()):
                return 0.0
            turn.waiter = None
            self.line[turn] = None
            now = self.clock()
            if self._since is None:
                self._since = now
            elif now >= self._since + self._patience:
                # Those who were let in and never came are not counted on either.
                self._is_stuck, self._inside, self._since = True, 0, now
            waiters, left = self._let_in(), 0.0
            if turn in self.line:
                turn.waiter = waiter
                left = min(turn.end - now, self._since + self._patience - now if self._watch is turn else LOOK_AGAIN)
        _wake(waiters)
        return left

    def leave(self, turn: Turn) -> None:
        """*turn* is over, be it that it was let in or not; the next have theirs."""
        with self._lock:
            if turn.is_let_in:
                self._inside = max(self._inside - 1, 0)
            elif turn in self.line:
                del self.line[turn]
            else:
                return
            waiters = self._let_in()
        _wake(waiters)

    def move(self, written: int) -> None:
        """So much is *written* now, or it is known that nothing will be: let in for whom there is room."""
        with self._lock:
            if written != self._written:
                self._written, self._is_stuck, self._since = written, False, self.clock()
            waiters = self._let_in()
        _wake(waiters)

    def _must_wait(self) -> bool:
        return not self._is_stuck and bool(self.line or self._intake.is_crowded) and not self._is_vain()

    def _let_in(self) -> list[Waiter]:
        """Let in for whom there is room; whom to wake."""
        waiters = []
        while self.line and self._has_room():
            turn, _ = self.line.popitem(last=False)
            turn.is_let_in = True
            self._inside += 1
            if turn.waiter is not None:
                waiters.append(turn.waiter)
        if not self.line and not self._intake.is_crowded:
            self._is_stuck, self._since = False, None
        if self._watch not in self.line:
            # The last in line watches for all: the first would hand that on at once.
            self._watch = next(reversed(self.line), None)
            if self._watch is not None and self._watch.waiter is not None:
                waiters.append(self._watch.waiter)
        return waiters

    def _has_room(self) -> bool:
        if self._is_stuck or self._is_vain():
            return self._inside < TOGETHER
        return self._intake.has_room((self._inside + 1) * EACH)


def _wake(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
