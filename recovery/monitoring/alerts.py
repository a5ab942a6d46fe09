"""When an alert is raised and when it is cleared: thresholds with hysteresis. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from events.alert_events import AlertCleared, AlertRaised
from events.event import Event
from recovery import validation


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


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is on *since* then: *value*, the latest of *count* samples, is past *threshold*.

    *alert* is a field of ``Thresholds``. An empty *operation* means all operations together.
    """

    alert: str
    operation: str
    key: str
    since: float
    value: float
    threshold: float
    count: int


class Alerts:
    """The alerts that are on, by name, operation and key."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._raised: dict[tuple[str, str, str], Alert] = {}

    @property
    def raised(self) -> tuple[Alert, ...]:
        """All alerts that are on, oldest first."""
        return tuple(self._raised.values())

    def is_raised(self, alert: str, operation: str, key: str) -> bool:
        """Whether that alert is on."""
        return (alert, operation, key) in self._raised

    def evaluate(self, alert: str, operation: str, key: str, reading: Reading, now: float) -> list[Event]:
        """Raise or clear *alert* (a field of ``Thresholds``) by *reading*; returns the event to publish, if any."""
        threshold: Threshold | None = getattr(self.thresholds, alert)
        if threshold is None:
            return []
        name = (alert, operation, key)
        before = self._raised.get(name)
        # Any: three structs share these fields, and each checks them when it is decoded.
        fields: dict[str, Any] = {"alert": alert, "operation": operation, "key": key}
        fields |= {"value": reading.value, "count": reading.count}
        if threshold.is_passed(reading, was_raised=before is not None):
            fields["threshold"] = threshold.raised
            self._raised[name] = Alert(since=now if before is None else before.since, **fields)
            return [AlertRaised(at=now, **fields)] if before is None else []
        if before is None:
            return []
        del self._raised[name]
        return [AlertCleared(at=now, threshold=threshold.cleared, lasted=max(now - before.since, 0.0), **fields)]
