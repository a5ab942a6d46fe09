"""When an alert is raised, and when it is cleared."""

from __future__ import annotations

from typing import Any

import pytest

from events.alert_events import AlertCleared, AlertRaised
from recovery.monitoring.alerts import Alerts, Reading, Threshold, Thresholds

OVER = Threshold(raised=10.0, cleared=8.0, least=3)
UNDER = Threshold(raised=0.9, cleared=0.95, least=3)
FETCH, ALL = ("fetch", ""), ("", "")


@pytest.fixture
def alerts() -> Alerts:
    return Alerts(Thresholds(memory=OVER, success=UNDER, lag=None))


@pytest.mark.parametrize(
    ("threshold", "reading", "is_raised"),
    [
        (OVER, Reading(10.0, 3), False),
        (OVER, Reading(10.1, 3), True),
        (UNDER, Reading(0.9, 3), False),
        (UNDER, Reading(0.8, 3), True),
        (OVER, Reading(1e9, 2), False),  # too few samples
        (OVER, Reading(11.9, 3, error=1.0), False),  # two standard errors
        (OVER, Reading(12.1, 3, error=1.0), True),
    ],
)
def test_an_alert_is_raised_past_its_threshold(threshold: Threshold, reading: Reading, is_raised: bool):
    assert threshold.is_passed(reading, was_raised=False) is is_raised


@pytest.mark.parametrize(
    ("threshold", "value", "is_raised"),
    [(OVER, 8.1, True), (OVER, 8.0, False), (UNDER, 0.94, True), (UNDER, 0.95, False)],
)
def test_an_alert_stays_until_the_value_has_come_back(threshold: Threshold, value: float, is_raised: bool):
    assert threshold.is_passed(Reading(value, 3), was_raised=True) is is_raised


def test_an_alert_is_cleared_when_nothing_is_left_to_measure(alerts: Alerts):
    alerts.evaluate("success", FETCH, Reading(0.5, 10), 1.0)
    [event] = alerts.evaluate("success", FETCH, Reading(None, 0), 4.0)
    assert event == AlertCleared(at=4.0, operation="fetch", alert="success", threshold=0.95, lasted=3.0)
    assert alerts.raised == ()


def test_an_alert_is_raised_once_and_shown_with_its_latest_value(alerts: Alerts):
    [event] = alerts.evaluate("memory", ALL, Reading(11.0, 3), 1.0)
    assert event == AlertRaised(at=1.0, alert="memory", value=11.0, threshold=10.0, count=3)
    assert alerts.evaluate("memory", ALL, Reading(9.0, 4), 2.0) == []
    assert alerts.raised == (AlertRaised(at=1.0, alert="memory", value=9.0, threshold=10.0, count=4),)


def test_each_key_has_alerts_of_its_own(alerts: Alerts):
    alerts.evaluate("success", ("fetch", "one"), Reading(0.5, 10), 1.0)
    assert alerts.evaluate("success", ("fetch", "other"), Reading(1.0, 10), 1.0) == []
    assert [alert.key for alert in alerts.raised] == ["one"]


def test_an_alert_without_a_threshold_is_never_raised(alerts: Alerts):
    assert alerts.evaluate("lag", FETCH, Reading(1e12, 100), 0.0) == []


def test_the_default_thresholds_are_those_of_the_requirements():
    given = Thresholds()
    raised = {name: getattr(given, name).raised for name in given.__struct_fields__}
    assert raised == {"overhead": 0.05, "success": 0.90, "lag": 0.5, "memory": 5e6}


@pytest.mark.parametrize(
    ("kind", "fields", "error", "match"),
    [
        (Threshold, {"raised": 1.0, "cleared": 1.0}, ValueError, "flap"),
        (Threshold, {"raised": float("nan"), "cleared": 1.0}, ValueError, "raised must be finite"),
        (Threshold, {"raised": "1", "cleared": 1.0}, TypeError, "raised must be a number"),
        (Threshold, {"raised": 1.0, "cleared": -1.0}, ValueError, "cleared must be at least 0"),
        (Threshold, {"raised": 2.0, "cleared": 1.0, "least": 0}, ValueError, "least must be at least 1"),
        (Thresholds, {"overhead": 0.05}, TypeError, "overhead must be a Threshold or None"),
        (Thresholds, {"overhead": UNDER}, ValueError, "overhead: raised must be above cleared"),
        (Thresholds, {"success": Threshold(raised=0.95, cleared=0.9)}, ValueError, "success: raised must be below"),
        (Thresholds, {"success": Threshold(raised=0.9, cleared=93)}, ValueError, "success: cleared is a share"),
    ],
)
def test_an_impossible_threshold_is_refused(kind: Any, fields: Any, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        kind(**fields)
