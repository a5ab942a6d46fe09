"""When to stop trying."""

from __future__ import annotations

import math
from typing import Any

import pytest

from events.facts import Category, Evidence, FailureClassified, GaveUp, OperationCancelled, OperationSucceeded
from recovery.breaker import BreakerPolicy, Circuit, Closed, HalfOpen, Open, Permit, admit, step

POLICY = BreakerPolicy(failure_threshold=2, break_duration=10.0, lease=5.0)
HOST = BreakerPolicy(
    failure_threshold=2, break_duration=10.0, counts="attempts", categories=frozenset({Category.UNREACHABLE})
)
PROBING = HalfOpen((Permit("probe", 25.0),))


def failed(category: Category = Category.TRANSIENT, at: float = 0.0, call: str = "a") -> FailureClassified:
    evidence = Evidence(type="builtins.OSError")
    return FailureClassified(at=at, call=call, category=category, evidence=evidence)


def gave_up(category: Category | None = Category.TRANSIENT, at: float = 0.0, call: str = "a") -> GaveUp:
    return GaveUp(at=at, call=call, category=category)


def succeeded(call: str = "a") -> OperationSucceeded:
    return OperationSucceeded(at=0.0, call=call)


def cancelled(call: str = "a") -> OperationCancelled:
    return OperationCancelled(at=0.0, call=call)


@pytest.mark.parametrize(
    ("circuit", "fact", "after"),
    [
        (Closed(), gave_up(), Closed(1)),
        (Closed(1), gave_up(at=3.0), Open(13.0, 2)),
        (Closed(1), gave_up(None, at=3.0), Open(13.0, 2)),
        (Closed(1), gave_up(Category.PERMANENT), Closed(1)),
        (Closed(1), gave_up(Category.AUTH), Closed(1)),
        (Closed(1), gave_up(Category.SPENT), Closed(1)),
        (Closed(1), gave_up(Category.CANCELLED), Closed(1)),
        (Closed(1), failed(), Closed(1)),
        (Closed(1), succeeded(), Closed(1)),
        (Closed(1), cancelled(), Closed(1)),
        (Open(10.0, 2), gave_up(at=9.0), Open(10.0, 2)),
        (Open(10.0, 2), succeeded(), Open(10.0, 2)),
        (PROBING, succeeded("probe"), Closed()),
        (PROBING, gave_up(at=22.0, call="probe"), Open(32.0, 1)),
        (PROBING, gave_up(Category.PERMANENT, call="probe"), HalfOpen()),
        (PROBING, gave_up(Category.SPENT, call="probe"), HalfOpen()),
        (PROBING, cancelled("probe"), HalfOpen()),
        (PROBING, failed(call="probe"), PROBING),
        (PROBING, succeeded("late"), PROBING),
        (PROBING, gave_up(call="late"), PROBING),
    ],
)
def test_a_circuit_that_counts_calls_follows_the_table(circuit: Circuit, fact: Any, after: Circuit) -> None:
    assert step(POLICY, circuit, fact) == after


@pytest.mark.parametrize(
    ("circuit", "fact", "after"),
    [
        (Closed(), failed(Category.UNREACHABLE), Closed(1)),
        (Closed(1), failed(Category.UNREACHABLE, at=3.0), Open(13.0, 2)),
        (Closed(1), failed(Category.TRANSIENT), Closed(0)),
        (Closed(1), failed(Category.PERMANENT), Closed(0)),
        (Closed(1), failed(Category.CANCELLED), Closed(1)),
        (Closed(1), gave_up(Category.UNREACHABLE), Closed(1)),
        (PROBING, failed(Category.UNREACHABLE, at=22.0, call="probe"), Open(32.0, 1)),
        (PROBING, failed(Category.PERMANENT, call="probe"), Closed(0)),
        (PROBING, gave_up(Category.UNREACHABLE, call="probe"), HalfOpen()),
    ],
)
def test_a_circuit_of_a_host_follows_the_table(circuit: Circuit, fact: Any, after: Circuit) -> None:
    assert step(HOST, circuit, fact) == after


def test_a_success_since_the_last_failure_breaks_the_row() -> None:
    assert step(POLICY, Closed(1, successes=7), gave_up(), successes=8) == Closed(1, successes=8)


def test_a_circuit_that_closes_remembers_the_success_counter() -> None:
    assert step(POLICY, PROBING, succeeded("probe"), successes=3) == Closed(0, successes=3)


@pytest.mark.parametrize(
    ("circuit", "now", "after", "wait"),
    [
        (Closed(1), 0.0, Closed(1), None),
        (Open(10.0), 4.0, Open(10.0), 6.0),
        (Open(10.0), 10.0, HalfOpen((Permit("a", 15.0),)), None),
        (PROBING, 20.0, PROBING, 5.0),
        (PROBING, 25.0, HalfOpen((Permit("a", 30.0),)), None),
        (HalfOpen(), 1.0, HalfOpen((Permit("a", 6.0),)), None),
        (HalfOpen((Permit("a", 3.0),)), 1.0, HalfOpen((Permit("a", 6.0),)), None),
    ],
)
def test_who_may_begin_follows_the_table(circuit: Circuit, now: float, after: Circuit, wait: float | None) -> None:
    assert admit(POLICY, circuit, "a", now) == (after, wait)


def test_as_many_may_probe_as_there_are_permits() -> None:
    policy, circuit, waits = BreakerPolicy(half_open_permits=2, lease=5.0), Open(0.0), []
    for call in "abc":
        circuit, wait = admit(policy, circuit, call, 1.0)
        waits.append(wait)
    assert waits == [None, None, 5.0]


def test_categories_may_be_given_by_name() -> None:
    assert BreakerPolicy(categories=["unreachable"]).categories == frozenset({Category.UNREACHABLE})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("failure_threshold", 0, ValueError),
        ("failure_threshold", True, TypeError),
        ("failure_threshold", 2.5, TypeError),
        ("break_duration", 0.0, ValueError),
        ("break_duration", math.inf, ValueError),
        ("break_duration", None, TypeError),
        ("counts", "minutes", ValueError),
        ("half_open_permits", 0, ValueError),
        ("lease", math.nan, ValueError),
        ("lease", 0, ValueError),
        ("categories", ["nonsense"], ValueError),
        ("categories", "transient", (TypeError, ValueError)),
        ("categories", 5, TypeError),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: Any, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    with pytest.raises(error, match=f"^{field} must "):
        BreakerPolicy(**{field: value})
