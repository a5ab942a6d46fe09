"""The kinds of events, and what a base class stands for."""

from __future__ import annotations

import typing

import pytest

import events
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
from tests.events.recorder import Unlisted


def below(kind: type[Event]) -> set[type[Event]]:
    """Every event of this distribution that *kind* is a base of, or *kind* itself if it is a base of none."""
    if not kind.__module__.startswith("events."):
        return set()
    return {one for derived in kind.__subclasses__() for one in below(derived)} or {kind}


def test_every_event_is_listed_and_public() -> None:
    assert below(Event) == set(EVENTS)
    assert {kind.__name__ for kind in EVENTS} <= set(events.__all__)


def test_an_event_cannot_be_changed() -> None:
    event = GaveUp(at=0.0, call="c")
    with pytest.raises(AttributeError):
        event.reason = "changed my mind"  # type: ignore[misc]


def test_only_starts_failures_and_classifications_ask_for_verdicts() -> None:
    assert {kind for kind in EVENTS if kind.asks} == {OperationStarted, OperationFailed, FailureClassified}


def test_an_event_stands_for_itself_and_a_base_for_what_is_below_it() -> None:
    assert all(kinds_of(kind) == (kind,) for kind in EVENTS)
    assert set(kinds_of(Outcome)) == {RetryScheduled, Parked, GaveUp}
    assert set(kinds_of(Event)) == set(EVENTS) - {OperationStarted, OperationSucceeded}
    assert not set(kinds_of(CallEvent)) & set(ON_REQUEST)


@pytest.mark.parametrize("no_event", [int, Category, "GaveUp", None, GaveUp(at=0.0, call="c"), Unlisted])
def test_what_is_no_event_stands_for_nothing(no_event: object) -> None:
    with pytest.raises(TypeError, match="is not a kind of event"):
        kinds_of(no_event)  # type: ignore[arg-type]


@pytest.mark.parametrize(("message", "summary"), [("too slow", "ReadTimeout: too slow"), ("", "ReadTimeout")])
def test_a_summary_names_the_exception_without_its_module(message: str, summary: str) -> None:
    assert Evidence(type="httpx2.ReadTimeout", message=message).summary == summary


@pytest.mark.parametrize(
    ("evidence", "brief"),
    [
        ({"status": 503}, "transient: HTTP status"),
        ({"exit_code": -9}, "transient: HTTP status"),
        ({"exit_code": 0}, "transient: HTTP status"),
        ({"message": "gone"}, "transient: E: gone"),
    ],
)
def test_brief_names_the_rule_where_a_number_decided(evidence: dict[str, typing.Any], brief: str) -> None:
    found, rule = Evidence(type="x.E", **evidence), "HTTP status"
    event = FailureClassified(at=0.0, call="c", category=Category.TRANSIENT, rule=rule, evidence=found)
    assert event.brief == brief
