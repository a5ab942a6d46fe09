"""When to stop trying."""

from __future__ import annotations

import math
from typing import Any

import pytest

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, GaveUp, OperationCancelled, OperationSucceeded
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import admit, break_length, step
from recovery.policies.circuit_states import Circuit, Closed, HalfOpen, Open, Permit

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


@pytest.mark.parametrize(
    ("circuit", "event", "after"),
    [
        (Closed(), gave_up(), Closed(1)),
        (Closed(1), gave_up(at=3.0), Open(13.0, 2)),
        (Closed(1), gave_up(None, at=3.0), Open(13.0, 2)),
        (Closed(1), gave_up(Category.PERMANENT), Closed(1)),
        (Closed(1), failed(), Closed(1)),
        (Closed(1), succeeded(), Closed(1)),
        (Closed(1), OperationCancelled(at=0.0, call="a"), Closed(1)),
        (Open(10.0, 2), gave_up(at=9.0), Open(10.0, 2)),
        (Open(10.0, 2), succeeded(), Open(10.0, 2)),
        (PROBING, succeeded("probe"), Closed()),
        (PROBING, gave_up(at=22.0, call="probe"), Open(42.0, 1, 2)),
        (PROBING, gave_up(Category.PERMANENT, call="probe"), HalfOpen()),
        (PROBING, gave_up(Category.EXHAUSTED, call="probe"), HalfOpen()),
        (PROBING, OperationCancelled(at=0.0, call="probe"), HalfOpen()),
        (PROBING, failed(call="probe"), Open(20.0, 1, 2)),
        (PROBING, succeeded("late"), PROBING),
        (PROBING, gave_up(call="late"), PROBING),
    ],
)
def test_a_circuit_that_counts_calls_follows_the_table(circuit: Circuit, event: Any, after: Circuit) -> None:
    assert step(POLICY, circuit, event) == after


@pytest.mark.parametrize(
    ("circuit", "event", "after"),
    [
        (Closed(), failed(Category.UNREACHABLE), Closed(1)),
        (Closed(1), failed(Category.UNREACHABLE, at=3.0), Open(13.0, 2)),
        (Closed(1), failed(Category.TRANSIENT), Closed(0)),
        (Closed(1), failed(Category.PERMANENT), Closed(0)),
        (Closed(1), failed(Category.CANCELLED), Closed(1)),
        (Closed(1), gave_up(Category.UNREACHABLE), Closed(1)),
        (PROBING, failed(Category.UNREACHABLE, at=22.0, call="probe"), Open(42.0, 1, 2)),
        (PROBING, failed(Category.PERMANENT, call="probe"), Closed(0)),
        (PROBING, gave_up(Category.UNREACHABLE, call="probe"), HalfOpen()),
    ],
)
def test_a_circuit_of_a_host_follows_the_table(circuit: Circuit, event: Any, after: Circuit) -> None:
    assert step(HOST, circuit, event) == after


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
        (PROBING, 25.0, HalfOpen((Permit("probe", 25.0), Permit("a", 30.0))), None),
        (HalfOpen(), 1.0, HalfOpen((Permit("a", 6.0),)), None),
        (HalfOpen((Permit("a", 3.0),)), 1.0, HalfOpen((Permit("a", 6.0),)), None),
    ],
)
def test_admission_follows_the_table(circuit: Circuit, now: float, after: Circuit, wait: float | None) -> None:
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
    ("error", "field", "values"),
    [
        (ValueError, "failure_threshold", [0]),
        (TypeError, "failure_threshold", [True, 2.5]),
        (ValueError, "break_duration", [0.0, math.inf]),
        (TypeError, "break_duration", [None]),
        (ValueError, "counts", ["minutes"]),
        (ValueError, "half_open_permits", [0]),
        (ValueError, "lease", [math.nan, 0]),
        (ValueError, "categories", [["nonsense"]]),
        (TypeError, "categories", [5, "transient"]),
        (ValueError, "failure_rate", [0.0, 1.1]),
        (TypeError, "failure_rate", [True]),
        (ValueError, "window", [0]),
        (TypeError, "window", [1.5]),
        (ValueError, "break_growth", [0.9, math.nan]),
        (ValueError, "max_break", [0.0, math.inf]),
        (ValueError, "break_jitter", [-0.1, 1.1]),
        (ValueError, "half_open_successes", [0]),
        (TypeError, "half_open_successes", [True, 1.0]),
        (TypeError, "probe", ["example.org", lambda: True]),
        (ValueError, "forget_after", [0.0, math.inf]),
        (TypeError, "forget_after", ["1 h"]),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(
    error: type[Exception], field: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(error, match=f"^{field} must "):
            BreakerPolicy(**{field: value})


@pytest.mark.parametrize(("counts", "window"), [("calls", 9), ("attempts", 99)])
def test_a_rate_needs_a_wide_window(counts: Any, window: int) -> None:
    with pytest.raises(ValueError, match=r"^window must "):
        BreakerPolicy(failure_rate=0.5, window=window, counts=counts)


@pytest.mark.parametrize(
    ("growth", "times", "seconds"),
    [(3.0, 1, 10.0), (3.0, 2, 30.0), (3.0, 3, 90.0), (3.0, 4, 100.0), (3.0, 10**9, 100.0), (1.01, 1000, 100.0)],
)
def test_a_break_grows_whenever_a_probe_fails_and_no_longer_than_its_most(
    growth: float, times: int, seconds: float
) -> None:
    policy = BreakerPolicy(break_duration=10.0, break_growth=growth, max_break=100.0)
    assert break_length(policy, times) == pytest.approx(seconds)


def test_a_break_never_shrinks_below_its_duration() -> None:
    assert break_length(BreakerPolicy(break_duration=600.0, max_break=300.0), 2) == 600.0


def test_after_a_success_breaks_are_short_again() -> None:
    circuit: Circuit = HalfOpen((Permit("probe", 25.0),), times=4)
    circuit = step(POLICY, circuit, succeeded("probe"))
    circuit = step(POLICY, step(POLICY, circuit, gave_up()), gave_up(at=30.0))
    assert circuit == Open(40.0, 2, times=1)


RATE = BreakerPolicy(failure_rate=0.5, window=10)


def after(policy: BreakerPolicy, calls: str) -> Circuit:
    """The circuit after these calls: "x" for one that gave up, "." for a success."""
    circuit: Circuit = Closed()
    successes = 0
    for call in calls:
        if call == ".":
            successes += 1
        else:
            circuit = step(policy, circuit, gave_up(), successes)
    return circuit


@pytest.mark.parametrize(
    ("calls", "opens"),
    [
        ("xxxxxxxxx", False),  # nine: not a whole window yet
        ("xxxxxxxxxx", True),
        ("x.x.x.x.x.x", True),  # six of the last ten, then five of them: half
        ("x" + "." * 9 + "x" * 4, False),  # the first one has left the window
        ("x" * 4 + "." * 6 + "x", False),  # four of the last ten
        ("x" * 5 + "." * 4 + "x", True),
    ],
)
def test_a_rate_counts_the_failures_of_the_last_window(calls: str, opens: bool) -> None:
    assert isinstance(after(RATE, calls), Open) is opens


def test_the_memory_of_a_rate_is_bounded_by_its_window() -> None:
    policy = BreakerPolicy(failure_rate=1.0, window=10)
    circuit = after(policy, "xxxxxxxxx." * 500)
    assert isinstance(circuit, Closed)
    assert len(circuit.recent) <= 10


@pytest.mark.parametrize("failures", range(1, 101, 3))
def test_a_share_of_exactly_the_rate_opens(failures: int) -> None:
    policy = BreakerPolicy(failure_rate=failures / 100, window=100)
    circuit: Circuit = Closed()
    for _ in range(failures):
        assert isinstance(circuit, Closed)
        circuit = step(policy, circuit, gave_up(), 100 - failures)
    assert isinstance(circuit, Open)
