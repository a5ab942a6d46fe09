"""The alarms of an asyncio loop: many sleeps in one heap of ours, behind a single timer of the loop.

A timer of the loop for each sleep takes four times as long: it is made, compared and cancelled in Python.
"""

from __future__ import annotations

import os
from heapq import heapify, heappop, heappush
from typing import Any, Protocol
from weakref import WeakSet


class Alarm(Protocol):
    """What ends a sleep when it is due. A float, the loop's time: the heap then compares alarms in C."""

    def __float__(self) -> float: ...

    def __lt__(self, other: Any, /) -> bool: ...

    def __le__(self, other: Any, /) -> bool: ...

    def done(self) -> bool:
        """Whether the sleep has ended, early or not."""
        ...

    def end(self) -> None:
        """End the sleep, if it has not ended: its time has passed."""


class Alarms:
    """The alarms of one asyncio loop, the earliest first, behind a single timer of that loop."""

    __slots__ = ("__weakref__", "_ended", "_rings_at", "_timer", "alarms", "loop")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        loop._recovery_alarms = self  # it lives as long as its loop: a table of loops would keep a closed one alive
        self.alarms: list[Alarm] = []
        self._timer: Any = None
        self._rings_at = 0.0
        self._ended = 0  # of the alarms, at most so many have ended early
        _all.add(self)

    def push(self, alarm: Alarm) -> None:
        """Have *alarm* end when it is due."""
        heappush(self.alarms, alarm)
        if self.alarms[0] is alarm:
            self._set_timer()

    def count_ended(self) -> None:
        """Note that an alarm has ended early. Once half have, they are dropped."""
        self._ended += 1
        if self._ended * 2 >= len(self.alarms):
            self._ended = 0
            self.alarms[:] = [alarm for alarm in self.alarms if not alarm.done()]
            heapify(self.alarms)
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.alarms and not self.loop.is_closed():
            self._rings_at = float(self.alarms[0])
            self._timer = self.loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        now = max(self.loop.time(), self._rings_at)  # a timer may be early by the resolution of the loop's clock
        self._timer, alarms = None, self.alarms
        try:
            while alarms and alarms[0] <= now:
                alarm = alarms[0]
                alarm.end()
                if alarms and alarms[0] is alarm:  # unless what hears of a jump of the clock has changed the heap
                    heappop(alarms)
        finally:
            self._set_timer()


_all: WeakSet[Alarms] = WeakSet()


def _after_fork() -> None:
    for alarms in list(_all):
        alarms.alarms.clear()  # they are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
