"""``RateLimits``: a rate limit that a server sends to one call defers every other call of the same key.

The call that got it parks by its policy (``recovery.policies.retry``); the others need not fail one by one.
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
from recovery.policies.incidents import seen_by
from recovery.policies.jumps import Jump
from recovery.policies.pacing import RATE_LIMIT, spread
from recovery.policies.retry import LIMITED
from recovery.settings import ConfigOf
from recovery.subscribers.ranking import Ranking


class RateLimits:
    """FailureClassified with a rate limit -> starts of the same operation and key park until the limit is over.

    It subscribes to the starts of the one key, and unsubscribes when the limit is over: other starts stay unobserved.
    It parks even where ``when_open`` is "reject", since the host is healthy.

    Args:
        bus: Where it subscribes.
        config_of: Finds the config of an operation.
        rng: Draws from [0, 1).
        max_keys: How many limits are remembered; the one that is over first is forgotten first.
    """

    def __init__(self, bus: Bus, config_of: ConfigOf, rng: Callable[[], float], *, max_keys: int = MAX_KEYS) -> None:
        self._bus = bus
        self._config_of = config_of
        self._rng = rng
        self._max_keys = max_keys
        self._lock = fork_safe(threading.RLock())
        self._slept = 0.0  # the server counts the seconds for which the machine slept, the clock does not
        self._until: Ranking[OperationKey, float] = Ranking()
        self._nodes: dict[OperationKey, str] = {}  # that were told of the limits
        self._subscriptions: dict[OperationKey, Subscription] = {}
        self.subscription = bus.subscribe(FailureClassified, self.on_classified, essential=True)
        """To the failures."""

    def on_classified(self, failure: FailureClassified) -> None:
        """Note a rate limit that a server asked for; of several, the longest counts."""
        if failure.category is not LIMITED or not failure.retry_after or self._config_of(failure.operation) is None:
            return
        operation_key = (failure.operation, failure.key)
        self._limit(operation_key, failure.at + failure.retry_after)

    def learn(self, operation: str, key: str, until: float, node: str) -> None:
        """Note a rate limit that a server has told *node*: it lasts until that time on the bus's clock."""
        if until > self._bus.clock():
            self._limit((operation, key), until, node)

    def _limit(self, operation_key: OperationKey, until: float, node: str = "") -> None:
        with self._lock:
            until += self._slept
            if until <= self._until.get(operation_key, 0.0):
                return
            self._until.put(operation_key, until)
            self._nodes[operation_key] = node
            if operation_key not in self._subscriptions:
                operation, key = operation_key
                self._subscriptions[operation_key] = self._bus.subscribe(
                    OperationStarted, self.on_start, operation=operation, key=key or None, essential=True
                )
                if len(self._subscriptions) > self._max_keys:
                    self._end(self._until.least())

    def on_start(self, started: OperationStarted) -> Park | None:
        """Whether an attempt may begin: ``None``, or ``Park`` for the rest of the limit and a random while."""
        operation_key = (started.operation, started.key)
        with self._lock:
            left = self._until.get(operation_key, 0.0) - started.at - self._slept
            if left <= 0:
                self._end(operation_key)
                return None
            why = f"{RATE_LIMIT}: {display_name(*operation_key)}{seen_by(self._nodes.get(operation_key, ''))}"
        return Park(left + self._rng() * spread(left), (why,))

    def left(self, operation: str, key: str) -> float:
        """Seconds for which a server still wants no call of the operation key; 0.0 for no limit."""
        with self._lock:
            return max(self._until.get((operation, key), 0.0) - self._bus.clock() - self._slept, 0.0)

    def jumped(self, jump: Jump) -> None:
        """Count the time for which the machine slept."""
        with self._lock:
            self._slept += jump.slept if jump.kind == "sleep" else 0.0

    def _end(self, operation_key: OperationKey) -> None:
        self._until.remove(operation_key)
        self._nodes.pop(operation_key, None)
        subscription = self._subscriptions.pop(operation_key, None)
        if subscription is not None:
            subscription.close()
