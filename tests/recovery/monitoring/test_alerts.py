"""When an alert is raised, and when it is cleared."""

from __future__ import annotations

import pytest

from events.alert_events import AlertCleared, AlertRaised
from recovery.monitoring.alerts import Alerts, Reading, Threshold, Thresholds

OVER = Threshold(raised=10.0, cleared=8.0, least=3)
UNDER = Threshold(raised=0.9, cleared=0.95, least=3)
NONE = Thresholds(overhead=None, success=None, lag=None, memory=None)


def alerts() -> Alerts:
    return Alerts(Thresholds(memory=OVER, success=UNDER))


@pytest.mark.parametrize(
    ("threshold", "value", "is_raised"),
    [(OVER, 10.0, False), (OVER, 10.1, True), (UNDER, 0.9, False), (UNDER, 0.8, True)],
)
def test_an_alert_is_raised_past_its_threshold(threshold: Threshold, value: float, is_raised: bool) -> None:
    assert threshold.is_passed(Reading(value, 3), was_raised=False) is is_raised


@pytest.mark.parametrize(
    ("threshold", "value", "is_raised"),
    [(OVER, 8.1, True), (OVER, 8.0, False), (UNDER, 0.94, True), (UNDER, 0.95, False)],
)
def test_an_alert_stays_until_the_value_has_come_back(threshold: Threshold, value: float, is_raised: bool) -> None:
    assert threshold.is_passed(Reading(value, 3), was_raised=True) is is_raised


def test_too_few_samples_raise_nothing() -> None:
    assert not OVER.is_passed(Reading(1e9, 2), was_raised=False)


def test_a_single_failed_call_raises_nothing_by_default() -> None:
    assert Alerts(Thresholds()).evaluate("success", "fetch", "", Reading(0.0, 1), 0.0) == []


def test_a_value_must_pass_by_two_standard_errors() -> None:
    assert not OVER.is_passed(Reading(11.9, 3, error=1.0), was_raised=False)
    assert OVER.is_passed(Reading(12.1, 3, error=1.0), was_raised=False)


def test_an_alert_is_cleared_when_nothing_is_left_to_measure() -> None:
    raised = alerts()
    raised.evaluate("success", "fetch", "", Reading(0.5, 10), 1.0)
    [event] = raised.evaluate("success", "fetch", "", Reading(None, 0), 4.0)
    assert event == AlertCleared(at=4.0, operation="fetch", alert="success", threshold=0.95, lasted=3.0)
    assert raised.raised == ()


def test_an_alert_is_raised_once_and_shown_with_its_latest_value() -> None:
    raised = alerts()
    [event] = raised.evaluate("memory", "", "", Reading(11.0, 3), 1.0)
    assert event == AlertRaised(at=1.0, alert="memory", value=11.0, threshold=10.0, count=3)
    assert raised.evaluate("memory", "", "", Reading(9.0, 4), 2.0) == []
    [alert] = raised.raised
    assert (alert.since, alert.value, alert.count) == (1.0, 9.0, 4)
    assert raised.is_raised("memory", "", "")


def test_each_key_has_alerts_of_its_own() -> None:
    raised = alerts()
    raised.evaluate("success", "fetch", "one", Reading(0.5, 10), 1.0)
    assert raised.evaluate("success", "fetch", "other", Reading(1.0, 10), 1.0) == []
    assert [alert.key for alert in raised.raised] == ["one"]


def test_an_alert_without_a_threshold_is_never_raised() -> None:
    assert Alerts(NONE).evaluate("memory", "", "", Reading(1e12, 1), 0.0) == []


def test_the_default_thresholds_are_those_of_the_requirements() -> None:
    given = Thresholds()
    raised = {name: getattr(given, name).raised for name in given.__struct_fields__}
    assert raised == {"overhead": 0.05, "success": 0.90, "lag": 0.5, "memory": 5e6}


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"raised": 1.0, "cleared": 1.0}, ValueError, "flap"),
        ({"raised": float("nan"), "cleared": 1.0}, ValueError, "raised must be finite"),
        ({"raised": "1", "cleared": 1.0}, TypeError, "raised must be a number"),
        ({"raised": 1.0, "cleared": -1.0}, ValueError, "cleared must be at least 0"),
        ({"raised": 2.0, "cleared": 1.0, "least": 0}, ValueError, "least must be at least 1"),
    ],
)
def test_an_impossible_threshold_is_refused(fields: dict[str, float], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Threshold(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"overhead": 0.05}, TypeError, "overhead must be a Threshold or None"),
        ({"overhead": UNDER}, ValueError, "overhead: raised must be above cleared"),
        ({"success": Threshold(raised=0.95, cleared=0.9)}, ValueError, "success: raised must be below cleared"),
        ({"success": Threshold(raised=0.9, cleared=93)}, ValueError, "success: cleared is a share"),
    ],
)
def test_thresholds_on_the_wrong_side_are_refused(
    fields: dict[str, Threshold], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Thresholds(**fields)
