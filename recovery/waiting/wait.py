"""One call's wait, as steps without a colour: each says how many seconds to sleep, unless somebody wakes the waiter.

The drivers take the steps in threads and tasks (``recovery.execution.runner``); the waiting room
(``recovery.waiting.calls``) knows who
waits, asks conditions, and passes on what anybody tells them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from events.attempt import Attempt
from events.conditions import Condition
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry
from recovery.waiting.waiters import Waiter

if TYPE_CHECKING:
    from recovery.waiting.calls import WaitingCalls

NONE: frozenset[Condition] = frozenset()
LONG_AGO = -math.inf

WaitCommand: TypeAlias = Literal["retry now", "pause", "unpause", "give up"]


class WaitingCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits before its attempt number *attempt*: *left* more seconds, and for the causes *until*."""

    call: str
    operation: str
    key: str
    attempt: int
    left: float
    until: tuple[str, ...] = ()
    is_paused: bool = False


class Wait:
    """One call's wait, before attempt *number* of it begins, or may ask again whether it may begin (*is_deferred*).

    *verdict* says how long and what for, *since* what ``WaitingCalls.wakes`` said before the question was asked whose
    answer was to wait.
    """

    __slots__ = (
        "_ask_at",
        "_due",
        "_is_over",
        "_is_paused",
        "_left",
        "_passed",
        "_sleep",
        "_waiting",
        "attempt",
        "causes",
        "counts_as_retry",
        "deadline",
        "ended",
        "has_waited",
        "number",
        "since",
        "unmet",
        "until",
        "waiter",
        "watches",
    )  # fmt: skip

    def __init__(
        self, waiting: WaitingCalls, attempt: Attempt, number: int, verdict: Retry | Park, since: int | None = None
    ) -> None:
        now = waiting.clock()
        self.attempt = attempt
        self.number = number
        self.since = since
        causes = verdict.until if isinstance(verdict, Park) else ()
        self.causes = tuple(map(str, causes))
        self.until = tuple(cause for cause in causes if isinstance(cause, Condition))
        self.counts_as_retry = isinstance(verdict, Park) and verdict.counts_as_retry
        self.deadline = now + verdict.within if verdict.within < math.inf else math.inf  # one object for all
        self.watches: Condition | None = None
        self.waiter: Waiter | None = None
        self._waiting = waiting
        self._due = now + verdict.after
        self._left = 0.0  # of a paused wait
        self._passed = NONE
        self._ask_at = LONG_AGO
        self.has_waited = False  # since the others were looked at
        self.unmet = NONE  # those that did not hold when they were asked
        self._sleep: Literal["delay", "question", "deadline"] = "delay"  # with which the sleep that was chosen ends
        self._is_paused = False
        self._is_over = False
        self.ended: GiveUp | None = None
        """Why the attempt will never begin, once the wait is over; ``None``: it may go ahead."""

    @property
    def is_deferred(self) -> bool:
        """Whether it asks again afterwards, because something holds the attempt back."""
        return self.since is not None

    @property
    def part(self) -> tuple[str, str]:
        """The operation's name, and its key."""
        operation = self.attempt.call.operation
        return operation.name, operation.key

    @property
    def was_unhelpful(self) -> bool:
        """Whether all its conditions were asked, and all held at once: they were not the cause of the failure."""
        return bool(self.until) and not self.unmet and self._passed >= set(self.until)

    def next_sleep(self, waiter: Waiter) -> float | None:
        """How many seconds to sleep now with *waiter*, ``None`` if the wait is over. From then on it takes no command.

        *waiter* is a fresh one: whatever changes after the sleep was chosen wakes it. If nobody does, ``slept`` is to
        be called afterwards; then this again.
        """
        self.waiter = waiter
        waiting = self._waiting
        while True:
            with waiting.lock:
                now = waiting.clock()
                left = self.deadline - now
                if self._is_over:
                    return None
                if self._is_paused or self._due > now:
                    waiting.unwatch(self)  # or nobody would look at it meanwhile
                    seconds = left if self._is_paused else self._due - now
                    self._sleep = "deadline" if self._is_paused else "delay"
                    if seconds <= left and left > 0.0:
                        return seconds
                    self._run_out_of_time()
                    return None
                condition = next((one for one in self.until if one not in self._passed), None)
                if condition is None:
                    self._is_over = True
                    return None
                if left <= 0.0:
                    self._run_out_of_time()
                    return None
                looks = waiting.watch(condition, self)  # for all who wait for it
                seconds = min(self._ask_at - now, left) if looks and self._ask_at > now else left
                self._sleep = "deadline" if seconds == left else "question"
            if not looks or self._ask_at > now or waiting.poll(condition):
                return seconds  # whoever looks, a thread perhaps, wakes us

    def _run_out_of_time(self) -> None:
        self.ended = GiveUp(OUT_OF_TIME)
        self._is_over = True

    def slept(self) -> None:
        """Nobody woke us: the time that was chosen has passed, whatever the clock says."""
        with self._waiting.lock:
            now = self._waiting.clock()
            match self._sleep:
                case "delay" if not self._is_paused:
                    self._due = now
                case "question":
                    self._ask_at = now
                case "deadline":
                    self.deadline = min(self.deadline, now)

    def wake(self) -> None:
        """Have the sleep end, to see what has changed."""
        if self.waiter is not None:
            self.waiter.wake()

    # What follows is called by the room, under its lock.

    def take(self, command: WaitCommand, reason: str) -> bool:
        """Do as told; whether that changes anything."""
        if self._is_over or (command in ("pause", "unpause") and (command == "pause") is self._is_paused):
            return False
        now = self._waiting.clock()
        match command:
            case "pause":
                self._left = max(self._due - now, 0.0)
                self._passed = NONE  # whatever held now need not hold then
                self._is_paused = True
            case "unpause":
                self._due = now + self._left
                self._is_paused = False
            case "retry now":
                self._is_over = True
                self._passed = NONE
            case "give up":
                self.ended = GiveUp(f"given up by hand: {reason}" if reason else "given up by hand")
                self._is_over = True
        return True

    def let_go(self, extra: float) -> None:
        """The circuit that held it back has changed: ask again in *extra* seconds."""
        self._passed |= {*self.until}
        self._go_on(min(self._due, self._waiting.clock() + extra))

    def answered(self, condition: Condition, *, is_met: bool, extra: float) -> None:
        """Somebody looked at *condition*, for which it waits; if it *is_met*, go on in *extra* seconds."""
        if is_met:
            if self.has_waited:
                self._passed = NONE  # the others are looked at again: all must hold at one time
                self.has_waited = False
            self._passed |= {condition}
            self._ask_at = LONG_AGO  # that was for this condition
            now = self._waiting.clock()
            self._go_on(min(now + extra, max(now, self.deadline)))
        else:
            self.unmet |= {condition}
            self.has_waited = True
            self._ask_at = self._waiting.clock() + condition.every
            self.wake()

    def ask_again(self) -> None:
        """Look at once at what it waits for."""
        self._ask_at = LONG_AGO
        self.wake()

    def _go_on(self, due: float) -> None:
        if self._is_paused:
            self._left = min(self._left, due - self._waiting.clock())
        else:
            self._due = due
        self.wake()

    def describe(self) -> WaitingCall:
        """What can be said of it."""
        name, key = self.part
        return WaitingCall(
            call=self.attempt.call.id,
            operation=name,
            key=key,
            attempt=self.number,
            left=self._left if self._is_paused else max(self._due - self._waiting.clock(), 0.0),
            until=self.causes,
            is_paused=self._is_paused,
        )
