"""When an alert is raised and when it is cleared: thresholds with hysteresis. Pure: time is an argument.

An operation key is evaluated after ``EVALUATE_AFTER_EVENTS`` of its failing calls have ended, or
``EVALUATE_AFTER_SECONDS`` after the first of them, and at each snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from events.alert_events import AlertCleared, AlertRaised
from events.event import Event
from events.evidence import Category
from events.names import display_name
from events.operation_events import CallRejected, FailureClassified, GaveUp, OperationRecovered
from recovery import validation
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.windows import Window
from recovery.operations import OperationKey

EVALUATED_EVENTS = frozenset({GaveUp, CallRejected, OperationRecovered})
"""The events after which an operation key may be worse than before."""

EVALUATE_AFTER_EVENTS = 20
EVALUATE_AFTER_SECONDS = 1.0

ALL_OPERATIONS: OperationKey = ("", "")
"""The operation key of alerts about all operations together."""


class Reading(msgspec.Struct, frozen=True):
    """One measurement: its *value* (None: nothing to measure), how many samples it has, and its standard *error*."""

    value: float | None = None
    count: int = 0
    error: float = 0.0


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The two values between which an alert keeps its state.

    The greater of *raised* and *cleared* tells which side is the bad one. Raises ValueError if the two are equal, since
    the alert would flap.

    Args:
        raised: The alert is raised when the value passes this one.
        cleared: The alert is cleared when the value has come back to this one.
        least: The samples that a measurement needs before it can raise the alert; at least 1.
    """

    raised: float
    cleared: float
    least: int = 1

    def __post_init__(self) -> None:
        validation.number("raised", self.raised)
        validation.number("cleared", self.cleared)
        validation.whole("least", self.least, least=1)
        if self.raised == self.cleared:
            raise ValueError(f"raised and cleared must differ, or the alert would flap: {self.raised!r}")

    def is_passed(self, reading: Reading, *, was_raised: bool) -> bool:
        """Whether the alert is on after *reading*. With nothing to measure it is off.

        An alert is raised only if the value passes the threshold by two standard errors.
        """
        if reading.value is None:
            return False
        sign = 1.0 if self.raised > self.cleared else -1.0
        if was_raised:
            return sign * reading.value > sign * self.cleared
        return reading.count >= self.least and sign * reading.value - 2.0 * reading.error > sign * self.raised


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold of each alert; None switches an alert off.

    Args:
        overhead: The time that recovery adds, as a share of the operation's own time (0.05 is 5 %); from 30 samples.
        success: The share of calls that succeed within 5 minutes; from 20 calls.
        lag: Seconds by which retries begin later than scheduled: the 95th percentile of 5 minutes; from 20 recovered
            calls.
        memory: Estimated bytes that waiting calls and the journal's write queue take.
    """

    overhead: Threshold | None = Threshold(raised=0.05, cleared=0.04, least=30)
    success: Threshold | None = Threshold(raised=0.90, cleared=0.93, least=20)
    lag: Threshold | None = Threshold(raised=0.5, cleared=0.4, least=20)
    memory: Threshold | None = Threshold(raised=5e6, cleared=4e6)

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, Threshold | None):
                raise TypeError(f"{name} must be a Threshold or None, not {value!r}")
            if value is not None and (value.raised < value.cleared) is not (name == "success"):
                side = "below" if name == "success" else "above"
                raise ValueError(f"{name}: raised must be {side} cleared, not {value.raised!r} and {value.cleared!r}")
        if self.success is not None and self.success.cleared > 1.0:
            raise ValueError(f"success: cleared is a share, not {self.success.cleared!r}")


class _Pending(msgspec.Struct):
    """The events of an operation key since its latest evaluation."""

    since: float
    events: int = 0
    has_lag: bool = False


class Alerts:
    """The alerts that are on, and the operation keys to evaluate. Methods with *now* return the events to publish.

    Args:
        thresholds: When alerts are raised and cleared.
        incidents: The category of each incident that is open, as it stands at any time.
    """

    def __init__(self, thresholds: Thresholds, incidents: Mapping[OperationKey, Category | None] | None = None) -> None:
        self.thresholds = thresholds
        self._incidents = {} if incidents is None else incidents
        self._raised: dict[tuple[str, OperationKey], AlertRaised] = {}
        self._pending: dict[OperationKey, _Pending] = {}
        self._latest: dict[OperationKey, FailureClassified] = {}

    @property
    def raised(self) -> tuple[AlertRaised, ...]:
        """All alerts that are on, oldest first, each with its latest value."""
        return tuple(self._raised.values())

    def note(self, key: OperationKey, event: Event) -> None:
        """Note that *key* may be worse than before, because of *event*."""
        pending = self._pending.get(key) or self._pending.setdefault(key, _Pending(event.at))
        pending.events += 1
        if isinstance(event, GaveUp) and event.failure is not None:
            self._latest[key] = self._latest[ALL_OPERATIONS] = event.failure
        lag = self.thresholds.lag
        if isinstance(event, OperationRecovered) and lag is not None and event.lag > lag.raised:
            pending.has_lag = True

    def take_due(self, now: float) -> list[tuple[OperationKey, bool]]:
        """The keys to evaluate now, each with whether its lag is to be evaluated too.

        Percentiles take a while, so lag is left out unless a retry was late or the alert is on.
        """
        due = [
            (key, pending.has_lag or ("lag", key) in self._raised)
            for key, pending in self._pending.items()
            if pending.events >= EVALUATE_AFTER_EVENTS or now - pending.since >= EVALUATE_AFTER_SECONDS
        ]
        for key, _ in due:
            del self._pending[key]
        return due

    def window(self, key: OperationKey, window: Window, now: float, *, with_lag: bool = True) -> list[Event]:
        """Evaluate the ``success`` alert of *key* by the calls in *window*, and the ``lag`` alert by their retries."""
        categories = window.tally.categories
        cause = max(categories, key=categories.__getitem__) if categories else ""
        changes = self.evaluate("success", key, Reading(window.success_rate, window.calls), now, cause)
        if with_lag:
            lag = window.tally.lag
            reading = Reading() if lag is None else Reading(lag.get_quantile_value(0.95), round(lag.count))
            changes += self.evaluate("lag", key, reading, now)
        return changes

    def overhead(self, key: OperationKey, cost: Overhead | None, now: float) -> list[Event]:
        """Evaluate the ``overhead`` alert of *key*."""
        reading = Reading() if cost is None else Reading(cost.share, cost.samples, cost.error or 0.0)
        return self.evaluate("overhead", key, reading, now)

    def memory(self, size: int, now: float) -> list[Event]:
        """Evaluate the ``memory`` alert by the estimated *size* of waiting calls and the write queue, in bytes."""
        return self.evaluate("memory", ALL_OPERATIONS, Reading(float(size), 1), now)

    def evaluate(self, alert: str, key: OperationKey, reading: Reading, now: float, cause: str = "") -> list[Event]:
        """Raise or clear *alert* (a field of ``Thresholds``) by *reading*; *cause* is the most frequent one.

        An alert that names an incident stays on while that is open and there is nothing to measure, or each further
        batch of calls would raise it again.
        """
        threshold: Threshold | None = getattr(self.thresholds, alert)
        if threshold is None:
            return []
        before = self._raised.get((alert, key))
        incidents = self._incidents_of(key, cause) if alert == "success" else ()
        if reading.value is None and before is not None and set(before.incidents) & set(incidents):
            return []
        # Any: both events share these fields, and each checks them when it is decoded.
        fields: dict[str, Any] = {"alert": alert, "operation": key[0], "key": key[1]}
        fields |= {"value": reading.value, "count": reading.count}
        if threshold.is_passed(reading, was_raised=before is not None):
            latest = self._latest.get(key)
            raised = AlertRaised(
                at=now if before is None else before.at,
                threshold=threshold.raised,
                cause=cause,
                incidents=incidents,
                failure=latest if latest is not None and latest.category == cause else None,
                **fields,
            )
            self._raised[alert, key] = raised
            return [raised] if before is None else []
        if before is None:
            return []
        del self._raised[alert, key]
        return [AlertCleared(at=now, threshold=threshold.cleared, lasted=max(now - before.at, 0.0), **fields)]

    def _incidents_of(self, key: OperationKey, cause: str) -> tuple[str, ...]:
        """The open incidents that an alert of *key* comes from, if most failures are of the category *cause*."""
        whole = (key[0], "")
        return tuple(
            display_name(*one)
            for one, category in self._incidents.items()
            if (key == ALL_OPERATIONS or one in (key, whole)) and (not cause or category == cause)
        )
