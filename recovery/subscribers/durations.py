"""``Durations``: how long attempts take, for the operations whose circuits ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from events.bus import Bus
from events.event import CallEvent, Event
from events.fork_locks import fork_safe
from events.operation_events import (
    CallRejected,
    FailureClassified,
    OperationCancelled,
    OperationStarted,
    OperationSucceeded,
    Parked,
)
from events.subscription import Subscription

OUTCOMES: tuple[type[Event], ...] = (OperationSucceeded, OperationCancelled, CallRejected, Parked)
"""What a circuit that is not closed, or that measures, hears of besides failures."""

MAX_CALLS = 65_536
"""Calls under way that are remembered; of more, the oldest count as fast."""


class Latest(NamedTuple):
    """The latest attempt of a call: when it began, and the seconds that it took if it has failed."""

    began: float
    took: float | None = None


class Durations:
    """Subscribes to the starts and ends of the operations that are measured. Safe to use from any thread.

    Args:
        bus: Where it subscribes.
        on_outcome: Receives the ends.
    """

    def __init__(self, bus: Bus, on_outcome: Callable[[CallEvent], object]) -> None:
        self._bus = bus
        self._on_outcome = on_outcome
        self._lock = fork_safe(threading.Lock())
        self.followed: dict[str, tuple[Subscription, ...]] = {}
        """The subscriptions of the operations that are measured, by name."""
        self._latest: dict[str, Latest] = {}  # by the call's id

    def follow(self, operation: str, *, is_measured: bool) -> None:
        """Measure the calls of *operation* from now on, or no longer; idempotent."""
        if not is_measured:
            for subscription in self.followed.pop(operation, ()):
                subscription.close()
        elif operation not in self.followed:
            self.followed[operation] = (
                self._bus.subscribe(OperationStarted, self._on_start, operation=operation, essential=True),
                self._bus.subscribe(OUTCOMES, self._on_outcome, operation=operation, essential=True),
            )

    def of(self, event: CallEvent) -> float:
        """Seconds since the attempt of *event* began; 0 if it is not measured."""
        if not self._latest:
            return 0.0
        with self._lock:
            latest = (self._latest.pop if event.ends else self._latest.get)(event.call, None)
            if latest is None:
                return 0.0
            took = event.at - latest.began if latest.took is None else latest.took
            if isinstance(event, FailureClassified):  # the call may give up later, in a wait
                self._latest[event.call] = Latest(latest.began, took)
        return took

    def _on_start(self, event: OperationStarted) -> None:
        with self._lock:
            self._latest[event.call] = Latest(event.at)
            if len(self._latest) > MAX_CALLS:
                del self._latest[next(iter(self._latest))]
