"""When something is bad enough to say so, and good enough to take it back: thresholds with hysteresis, pure."""

from __future__ import annotations

from typing import Any

import msgspec

from events.alert_events import AlertCleared, AlertRaised
from events.event import Event
from recovery import validation


class Reading(msgspec.Struct, frozen=True):
    """What is judged: a *value*, how often it was measured, and its standard *error*; ``None`` if there is nothing."""

    value: float | None = None
    count: int = 0
    error: float = 0.0


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """An alert is raised when a value passes *raised*, and cleared only when it has come back as far as *cleared*.

    Which of the two is the greater says which side is the bad one. Nothing is raised that was measured less than
    *least* times. Raises ValueError if the two are equal (the alert would flap) or *least* is below 1.
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
        """Whether there is an alert now; a value must pass by two standard errors. With nothing to measure, never."""
        if reading.value is None:
            return False
        sign = 1.0 if self.raised > self.cleared else -1.0
        if was_raised:
            return sign * reading.value > sign * self.cleared
        return reading.count >= self.least and sign * reading.value - 2.0 * reading.error > sign * self.raised


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What alerts are raised at; ``None`` for one that is not wanted.

    *overhead* is what recovery takes of an operation's own time (0.05 is 5 %), measured on 30 calls at least.
    *success* is the share of calls that succeed in 5 minutes, of 20 at least. *lag* is how much later than it was told
    the next attempt begins, in seconds: the 95th percentile of 5 minutes, of 20 recovered calls at least. *memory* is
    what waits to be written and who waits for a next attempt, in bytes, by estimate.
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
    """An alert that is raised since *since*: *value*, measured *count* times, passed *threshold*."""

    alert: str
    operation: str
    key: str
    since: float
    value: float
    threshold: float
    count: int


class Alarms:
    """The alerts that are raised now, by name and by operation and key."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._raised: dict[tuple[str, str, str], Alert] = {}

    @property
    def raised(self) -> tuple[Alert, ...]:
        """All of them, the oldest first."""
        return tuple(self._raised.values())

    def is_raised(self, alert: str, operation: str, key: str) -> bool:
        """Whether that alert is raised."""
        return (alert, operation, key) in self._raised

    def judge(self, alert: str, operation: str, key: str, reading: Reading, now: float) -> list[Event]:
        """Raise or clear the alert of that name (a field of ``Thresholds``), if *reading* says so; what happened."""
        threshold: Threshold | None = getattr(self.thresholds, alert)
        if threshold is None:
            return []
        name = (alert, operation, key)
        before = self._raised.get(name)
        # Any: the same fields for three structs, each of which checks them when it is read back.
        seen: dict[str, Any] = {"alert": alert, "operation": operation, "key": key}
        seen |= {"value": reading.value, "count": reading.count}
        if threshold.is_passed(reading, was_raised=before is not None):
            seen["threshold"] = threshold.raised
            self._raised[name] = Alert(since=now if before is None else before.since, **seen)
            return [AlertRaised(at=now, **seen)] if before is None else []
        if before is None:
            return []
        del self._raised[name]
        return [AlertCleared(at=now, threshold=threshold.cleared, lasted=max(now - before.since, 0.0), **seen)]
