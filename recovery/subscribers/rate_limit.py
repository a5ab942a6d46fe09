"""Pauses that a server asked for: one rate limit holds back everybody who would ask the same host.

The call that was told parks by itself (``recovery.policies.retry``); the others need not find out one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from events.bus import Bus
from events.fork_locks import fork_safe
from events.names import display_name
from events.operation_events import FailureClassified, OperationStarted
from events.subscription import Subscription
from events.verdicts import Park
from recovery.operations import MAX_KEYS, OperationKey
from recovery.policies.retry import LIMITED
from recovery.settings import ConfigOf

SPREAD = 0.1
"""Of what is left of a pause: within how much more time those who wait come back, each at its own moment..."""

MOST_SPREAD = 5.0
"""...and seconds that this is at the most."""


class RateLimits:
    """FailureClassified with a rate limit -> no attempt of that part of an operation begins before it is over.

    Like an open circuit it takes a seat on the starts of its one part, and leaves it when the time has come: a start
    that nobody asked to wait is never looked at. It always parks, whatever ``when_open`` says: nobody is ill. *rng*
    draws from [0, 1).
    """

    def __init__(self, bus: Bus, config_of: ConfigOf, rng: Callable[[], float]) -> None:
        self._bus = bus
        self._config_of = config_of
        self._rng = rng
        self._lock = fork_safe(threading.RLock())
        self._until: dict[OperationKey, float] = {}
        self._subscriptions: dict[OperationKey, Subscription] = {}
        bus.subscribe(FailureClassified, self.on_classified, essential=True)

    def on_classified(self, failure: FailureClassified) -> None:
        """Note a pause that a server asked for; of several, the longest counts."""
        if failure.category is not LIMITED or not failure.retry_after:
            return
        if self._config_of(failure.operation) is None:
            return
        part = (failure.operation, failure.key)
        with self._lock:
            self._until[part] = max(failure.at + failure.retry_after, self._until.get(part, 0.0))
            if part not in self._subscriptions:
                self._subscriptions[part] = self._bus.subscribe(
                    OperationStarted,
                    self.on_start,
                    operation=failure.operation,
                    key=failure.key or None,
                    essential=True,
                )
                if len(self._subscriptions) > MAX_KEYS:
                    self._end(min(self._until, key=self._until.__getitem__))

    def on_start(self, started: OperationStarted) -> Park | None:
        """Whether an attempt may begin."""
        part = (started.operation, started.key)
        with self._lock:
            left = self._until.get(part, 0.0) - started.at
            if left <= 0:
                self._end(part)
                return None
        spread = self._rng() * min(left * SPREAD, MOST_SPREAD)
        return Park(left + spread, (f"rate limit: {display_name(*part)}",))

    def _end(self, part: OperationKey) -> None:
        self._until.pop(part, None)
        subscription = self._subscriptions.pop(part, None)
        if subscription is not None:
            subscription.close()
