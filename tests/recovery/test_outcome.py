"""How a call ended, read from the exception that its caller got."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from events import CallRejectedError, GiveUp, OperationFailed, OperationStarted
from recovery import CallOutcome, Recovery, RetryBudget, outcome_of
from recovery.testing import Script, VirtualClock
from tests.recovery.waiting.parked import background

FAST: dict[str, Any] = {"initial_delay": 1.0, "jitter": "none", "backoff_factor": 1.0}


def outcome(service: Recovery, error: Any, **settings: Any) -> CallOutcome:
    script = Script(*[error] * 50)
    with pytest.raises(Exception) as caught:  # which one, is not the point
        service.recoverable("fetch", **(FAST | settings))(script)()
    found = outcome_of(caught.value)
    assert found is not None
    assert found.attempts == script.calls
    assert (found.operation, found.call != "") == ("fetch", True)
    return found


@pytest.fixture
def service() -> Recovery:
    return Recovery(clock=VirtualClock(), rng=lambda: 0.5)


def test_retries_that_are_used_up(service: Recovery) -> None:
    found = outcome(service, ConnectionError, max_retries=2)
    assert (found.kind, found.attempts, found.elapsed, found.reason) == ("exhausted", 3, 2.0, "out of retries (2)")
    assert found.category == "transient"


def test_a_budget_that_is_used_up(service: Recovery) -> None:
    budget = RetryBudget(reserve=1.0, ratio=0.0, per_second=0.0)
    assert outcome(service, ConnectionError, budget=budget).kind == "exhausted"


def test_no_time_is_left(service: Recovery) -> None:
    found = outcome(service, ConnectionError, max_retries=None, max_elapsed=3.5)
    assert (found.kind, found.attempts, found.elapsed) == ("out of time", 4, 3.0)


def test_a_retry_cannot_help(service: Recovery) -> None:
    assert outcome(service, PermissionError("denied")).kind == "permanent"


def test_a_subscriber_ends_it(service: Recovery) -> None:
    service.bus.subscribe(OperationFailed, lambda _: GiveUp("maintenance"))
    found = outcome(service, ConnectionError)
    assert (found.kind, found.reason) == ("stopped", "maintenance")


def test_an_open_circuit_turns_a_new_call_away(service: Recovery) -> None:
    service.recoverable("fetch", **FAST)(len)
    service.circuits.force("fetch", "open")
    found = outcome(service, ConnectionError)
    assert (found.kind, found.attempts, found.reason) == ("rejected", 0, "circuit open: fetch")


def test_a_command_ends_it(service: Recovery) -> None:
    script = Script(*[ConnectionError] * 9)
    fetch = service.recoverable("fetch", **FAST)(script.as_async())

    async def main() -> None:
        async with background(fetch, seconds=0.5) as errors:
            [waits] = service.calls.waiting()
            service.calls.give_up(waits.call)
        found = outcome_of(errors[0])
        assert found is not None
        assert (found.kind, found.attempts, found.reason) == ("stopped", 1, "given up by hand")

    service.bus.clock.run(main)  # type: ignore[attr-defined]  # a virtual clock


def test_a_subscriber_turns_the_next_attempt_away(service: Recovery) -> None:
    service.bus.subscribe(OperationStarted, lambda event: GiveUp("late") if event.attempt == 3 else None)
    found = outcome(service, ConnectionError)
    assert (found.kind, found.attempts, found.reason) == ("rejected", 2, "late")


def test_the_inner_call_has_tried(service: Recovery) -> None:
    inner = service.recoverable("inner", **FAST)(Script(*[ConnectionError] * 50))
    with pytest.raises(ConnectionError) as caught:
        service.recoverable("outer", **FAST)(lambda: inner())()
    found = outcome_of(caught.value)
    assert found is not None
    assert (found.kind, found.operation, found.attempts) == ("exhausted", "outer", 1)


@pytest.mark.parametrize("error", [ValueError("plain"), KeyboardInterrupt()])
def test_an_exception_of_no_call_has_none(error: BaseException) -> None:
    assert outcome_of(error) is None


@pytest.mark.parametrize("value", ["mine", {"kind": "mine"}, {}])
def test_a_foreign_attribute_of_that_name_is_no_outcome(value: object) -> None:
    error = ValueError("plain")
    error.__recovery_outcome__ = value  # type: ignore[attr-defined]
    assert outcome_of(error) is None


def test_a_rejection_made_by_hand_has_one() -> None:
    found = outcome_of(CallRejectedError("fetch", "closed today"))
    assert found == CallOutcome(kind="rejected", attempts=0, operation="fetch", reason="closed today")


def test_it_arrives_with_a_pickled_exception(service: Recovery) -> None:
    with pytest.raises(ConnectionError) as caught:
        service.recoverable("fetch", max_retries=0)(Script(ConnectionError("gone")))()
    assert outcome_of(pickle.loads(pickle.dumps(caught.value))) == outcome_of(caught.value)


def test_the_pickled_exception_loads_without_this_library(service: Recovery) -> None:
    with pytest.raises(ConnectionError) as caught:
        service.recoverable("fetch", max_retries=0)(Script(ConnectionError("gone")))()
    script = "import pickle, sys; print(repr(pickle.load(sys.stdin.buffer)))"
    blocked = "import sys; sys.modules['recovery'] = sys.modules['events'] = sys.modules['msgspec'] = None; " + script
    done = subprocess.run(
        [sys.executable, "-S", "-c", blocked], input=pickle.dumps(caught.value), capture_output=True, check=True
    )
    assert done.stdout == b"ConnectionError('gone')\n"
