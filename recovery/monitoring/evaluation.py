"""Which alerts a change of the counters raises or clears, and when they are evaluated. Pure: time is an argument.

An operation key is evaluated after ``EVALUATE_AFTER_EVENTS`` of its failing calls have ended, or
``EVALUATE_AFTER_SECONDS`` after the first of them, and at each snapshot.
"""

from __future__ import annotations

from events.event import Event
from events.operation_events import CallRejected, GaveUp, OperationRecovered
from recovery.monitoring.alerts import Alerts, Reading, Thresholds
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.snapshot import distribution, success_rate
from recovery.monitoring.windows import Window
from recovery.operations import OperationKey

EVALUATED_EVENTS = frozenset({GaveUp, CallRejected, OperationRecovered})
"""The events after which an operation key may be worse than before."""

EVALUATE_AFTER_EVENTS = 20
EVALUATE_AFTER_SECONDS = 1.0

ALL_OPERATIONS: OperationKey = ("", "")
"""The operation key of alerts about all operations together."""


class _Pending:
    """The events of an operation key since its latest evaluation."""

    __slots__ = ("events", "has_lag", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.events = 0
        self.has_lag = False


class Evaluation:
    """Evaluates alerts at *thresholds*. Each method returns the events to publish."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.alerts = Alerts(thresholds)
        self._pending: dict[OperationKey, _Pending] = {}

    def note(self, key: OperationKey, event: Event) -> None:
        """Note that *key* may be worse than before, because of *event*."""
        pending = self._pending.get(key) or self._pending.setdefault(key, _Pending(event.at))
        pending.events += 1
        lag = self.alerts.thresholds.lag
        if isinstance(event, OperationRecovered) and lag is not None and event.lag > lag.raised:
            pending.has_lag = True

    def take_due(self, now: float) -> list[tuple[OperationKey, bool]]:
        """The keys to evaluate now, each with whether its lag is to be evaluated too.

        Percentiles take a while, so lag is left out unless a retry was late or the alert is on.
        """
        due = [
            (key, pending.has_lag or self.alerts.is_raised("lag", *key))
            for key, pending in self._pending.items()
            if pending.events >= EVALUATE_AFTER_EVENTS or now - pending.since >= EVALUATE_AFTER_SECONDS
        ]
        for key, _ in due:
            del self._pending[key]
        return due

    def success(self, key: OperationKey, window: Window, now: float) -> list[Event]:
        """The ``success`` alert: the share of calls in *window* that succeeded."""
        return self.alerts.evaluate("success", *key, Reading(success_rate(window), window.calls), now)

    def lag(self, key: OperationKey, window: Window, now: float) -> list[Event]:
        """The ``lag`` alert: the 95th percentile of how late retries in *window* began."""
        lag = distribution(window.tally.lag)
        return self.alerts.evaluate("lag", *key, Reading() if lag is None else Reading(lag.p95, lag.count), now)

    def overhead(self, key: OperationKey, cost: Overhead | None, now: float) -> list[Event]:
        """The ``overhead`` alert: the share of an operation's own time that recovery adds."""
        reading = Reading() if cost is None else Reading(cost.share, cost.samples, cost.error or 0.0)
        return self.alerts.evaluate("overhead", *key, reading, now)

    def memory(self, size: int, now: float) -> list[Event]:
        """The ``memory`` alert: the estimated *size* of waiting calls and the write queue, in bytes."""
        return self.alerts.evaluate("memory", *ALL_OPERATIONS, Reading(float(size), 1), now)
