"""One call's wait, as steps without a colour: seconds to let pass, and conditions to look at.

The drivers take the steps in threads and tasks (``recovery.drivers``); the waiting room (``recovery.room``) knows who
waits, and passes on what anybody tells them.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from events.conditions import Condition
from events.operation import Attempt
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry
from recovery.waiting import Waiter

if TYPE_CHECKING:
    from recovery.room import WaitingRoom

Command: TypeAlias = Literal["retry now", "pause", "unpause", "give up"]
Part: TypeAlias = tuple[str, str]
"""An operation's name, and a key or ""."""


class WaitingCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits: for its attempt number *attempt*, *left* more seconds at the least, and for *until*."""

    call: str
    operation: str
    key: str
    attempt: int
    left: float
    until: tuple[str, ...] = ()
    is_paused: bool = False


class Wait:
    """One call's wait, before attempt *number* of it begins, or may ask again whether it may begin (*is_held*).

    *hold* says how long and what for, *since* what ``WaitingRoom.wakes`` said before the question was asked whose
    answer was to wait. ``waiter`` is whom to wake: the driver puts a fresh one there before each step.
    """

    __slots__ = (
        "_due", "_gave_up", "_is_over", "_is_paused", "_left", "_room", "_was_paused",
        "attempt", "deadline", "is_held", "number", "part", "passed", "since", "until", "waiter",
    )  # fmt: skip

    def __init__(self, room: WaitingRoom, attempt: Attempt, number: int, hold: Retry | Park, since: int | None) -> None:
        now = room.clock()
        self.attempt = attempt
        self.number = number
        self.part = (attempt.operation.name, attempt.operation.key)
        self.is_held = since is not None
        self.since = since
        self.until = tuple(c for c in hold.until if isinstance(c, Condition)) if isinstance(hold, Park) else ()
        self.passed: set[Condition] = set()
        self.deadline = now + hold.within
        self.waiter: Waiter | None = None
        self._room = room
        self._due = now + hold.after
        self._left = 0.0  # of a paused wait
        self._is_paused = self._was_paused = False
        self._is_over = False
        self._gave_up: GiveUp | None = None

    def steps(self) -> Generator[float | Condition, bool, GiveUp | None]:
        """What to do until the wait is over: seconds to let pass, or conditions to look at.

        Send whether the seconds were cut short by somebody who woke the waiter, or whether the condition is met.
        Returns ``None`` if the attempt may go ahead, or why it never will.
        """
        clock = self._room.clock
        is_late = False
        try:
            while not self._is_over:
                now = clock()
                if self._is_paused:
                    self._unwatch()
                    if not (yield self.deadline - now):
                        return GiveUp(OUT_OF_TIME)
                elif self._due > now:
                    if self._was_paused and self._due > self.deadline:
                        return GiveUp(OUT_OF_TIME)
                    if not (yield self._due - now):
                        self._due = -math.inf
                else:
                    unmet = yield from self._first_unmet()
                    if unmet is None:
                        return None
                    left = self.deadline - clock()
                    if is_late or left <= 0.0:
                        return GiveUp(OUT_OF_TIME)
                    seconds = min(unmet.every, left) if self._room.watch(unmet, self) else left
                    is_late = not (yield seconds) and seconds >= left
            return self._gave_up
        finally:
            self._unwatch()

    def _first_unmet(self) -> Generator[float | Condition, bool, Condition | None]:
        """The first condition that does not hold; all of them must, at one time."""
        for condition in self.until:
            if condition in self.passed:
                continue
            if not self._room.watch(condition, self) or not (yield condition):
                self.passed.clear()  # they are looked at again when this one holds
                return condition
            self._room.met(condition, self)
        return None

    def _unwatch(self) -> None:
        for condition in self.until:
            self._room.unwatch(condition, self)

    def wake(self) -> None:
        """Have the steps go on, to see what has changed."""
        if self.waiter is not None:
            self.waiter.wake()

    # What follows is called by the room, under its lock.

    def take(self, command: Command, reason: str) -> bool:
        """Do as told; whether that changes anything."""
        if self._is_over or ((command == "pause") is self._is_paused and command in ("pause", "unpause")):
            return False
        now = self._room.clock()
        match command:
            case "pause":
                self._left = max(self._due - now, 0.0)
                self._is_paused = self._was_paused = True
            case "unpause":
                self._due = now + self._left
                self._is_paused = False
            case "retry now":
                self._is_over = True
            case "give up":
                self._gave_up = GiveUp(f"given up by hand: {reason}" if reason else "given up by hand")
                self._is_over = True
        return True

    def let_go(self, extra: float) -> None:
        """The circuit that held it back has changed: ask again in *extra* seconds."""
        self.until = ()
        self._go_on(min(self._due, self._room.clock() + extra))

    def pass_by(self, condition: Condition, extra: float) -> None:
        """Somebody saw that *condition* is met; go on in *extra* seconds."""
        self.passed.add(condition)
        self._go_on(self._room.clock() + extra)

    def _go_on(self, due: float) -> None:
        if self._is_paused:
            self._left = min(self._left, due - self._room.clock())
        else:
            self._due = due
        self.wake()

    def describe(self) -> WaitingCall:
        """What can be said of it."""
        name, key = self.part
        return WaitingCall(
            call=self.attempt.call,
            operation=name,
            key=key,
            attempt=self.number,
            left=self._left if self._is_paused else max(self._due - self._room.clock(), 0.0),
            until=tuple(map(str, self.until)),
            is_paused=self._is_paused,
        )
