from __future__ import annotations

import inspect

import pytest

import events
from events import alert_events, bus_events, circuit_events, journal_events, operation_events
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.kinds import EVENTS, ON_REQUEST, kinds_of
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationFailed,
    OperationStarted,
    OperationSucceeded,
    Outcome,
    Parked,
    RetryScheduled,
)

EVENT_MODULES = (alert_events, bus_events, circuit_events, journal_events, operation_events)


class Unlisted(CallEvent, frozen=True):
    """A kind of event that no bus has a signal for."""


def classified(**evidence: object) -> FailureClassified:
    return FailureClassified(
        at=0.0,
        call="c",
        category=Category.TRANSIENT,
        rule="HTTP status",
        evidence=Evidence(**{"type": "x.E", **evidence}),
    )


def test_an_event_cannot_be_changed() -> None:
    event = GaveUp(at=0.0, call="c")
    with pytest.raises(AttributeError):
        event.reason = "changed my mind"  # type: ignore[misc]


def test_every_event_defined_is_listed() -> None:
    defined = {
        value
        for module in EVENT_MODULES
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Event)
    }
    bases = {base for one in defined for base in one.__mro__[1:]}
    assert defined - bases == set(EVENTS)


def test_every_event_is_public() -> None:
    assert {kind.__name__ for kind in EVENTS} <= set(events.__all__)


def test_only_starts_failures_and_classifications_ask_for_verdicts() -> None:
    assert {kind for kind in EVENTS if kind.asks} == {OperationStarted, OperationFailed, FailureClassified}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_stands_for_itself(kind: type[Event]) -> None:
    assert kinds_of(kind) == (kind,)


def test_the_base_class_stands_for_all_but_starts_and_successes() -> None:
    assert set(kinds_of(Event)) == set(EVENTS) - {OperationStarted, OperationSucceeded}


def test_a_base_stands_for_what_is_below_it() -> None:
    assert set(kinds_of(Outcome)) == {RetryScheduled, Parked, GaveUp}


def test_call_event_stands_for_no_start_and_no_success() -> None:
    assert not set(kinds_of(CallEvent)) & set(ON_REQUEST)


@pytest.mark.parametrize("no_event", [int, Category, "GaveUp", None, GaveUp(at=0.0, call="c")])
def test_what_is_no_event_stands_for_nothing(no_event: object) -> None:
    with pytest.raises(TypeError, match="is not a kind of event"):
        kinds_of(no_event)  # type: ignore[arg-type]


def test_a_kind_without_a_signal_stands_for_nothing() -> None:
    with pytest.raises(TypeError):
        kinds_of(Unlisted)


def test_a_summary_names_the_exception_without_its_module() -> None:
    assert Evidence(type="httpx2.ReadTimeout", message="too slow").summary == "ReadTimeout: too slow"


def test_a_summary_without_a_message_is_the_name() -> None:
    assert Evidence(type="KeyError").summary == "KeyError"


@pytest.mark.parametrize("number", [{"status": 503}, {"exit_code": -9}, {"exit_code": 0}])
def test_brief_names_the_rule_where_a_number_decided(number: dict[str, int]) -> None:
    assert classified(**number).brief == "transient: HTTP status"


def test_brief_names_the_exception_where_no_number_decided() -> None:
    assert classified(message="gone").brief == "transient: E: gone"
