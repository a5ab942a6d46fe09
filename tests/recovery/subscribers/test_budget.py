"""Retry budgets: which retries cost a token, and which tokens are refunded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from events.operation import Operation
from events.operation_events import FailureClassified, GaveUp
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.policies.budget import RetryBudget
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.http_errors import answered

SPARSE = RetryBudget(reserve=2.0, ratio=0.5, per_second=0.0)


def service_with(budget: RetryBudget = SPARSE, **given: Any) -> tuple[Recovery, VirtualClock]:
    clock = VirtualClock()
    return Recovery(clock=clock, rng=lambda: 0.0, breaker=None, budget=budget, **given), clock


def exhausted(service: Recovery, **settings: Any) -> tuple[Script, Callable[..., Any]]:
    """A script that always fails, and the recoverable call of it."""
    script = Script(*[ConnectionError()] * 9999)
    fetch = service.recoverable("fetch", **settings)(script)

    def failing(*arguments: Any) -> None:
        with pytest.raises(ConnectionError):
            fetch(*arguments)

    return script, failing


def retries_left(service: Recovery, key: str = "") -> int:
    """How many retries the budget has left; it uses them up."""
    operation = Operation("fetch", service.bus, key=key)
    return next(n for n in range(99) if isinstance(operation.start().fail(ConnectionError()), GiveUp))


def test_an_exhausted_budget_leaves_the_first_attempts() -> None:
    service, _ = service_with()
    script, fetch = exhausted(service)
    for _ in range(10):
        fetch()
    assert script.calls == 10 + 2


def test_a_call_without_a_token_gives_up_with_that_reason() -> None:
    service, _ = service_with()
    gave_up = events_of(service, GaveUp)
    error = ConnectionError()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(Script(*[error] * 9))()
    assert [event.reason for event in gave_up] == ["retry budget exhausted: fetch"]  # type: ignore[attr-defined]
    assert error.__notes__[0].startswith("recovery: fetch gave up after 3 attempts, retry budget exhausted: fetch: ")


def test_successes_bring_tokens() -> None:
    service, _ = service_with()
    fetch = service.recoverable("fetch")(Script(ConnectionError(), ConnectionError()))
    fetch()
    fetch()
    assert retries_left(service) == 1  # for two successes


def test_time_brings_tokens() -> None:
    service, clock = service_with(RetryBudget(reserve=2.0, ratio=0.0, per_second=0.1))
    script, fetch = exhausted(service)
    fetch()
    assert retries_left(service) == 0
    clock.advance(10.0)
    fetch()
    assert script.calls == 3 + 2


def test_each_key_has_a_budget_of_its_own() -> None:
    service, _ = service_with()
    script, fetch = exhausted(service, key=lambda host: host)
    fetch("a")
    fetch("b")
    assert (script.calls, retries_left(service, "a"), retries_left(service, "b")) == (6, 0, 0)


def test_a_failure_that_is_not_retried_costs_nothing() -> None:
    service, _ = service_with()
    with pytest.raises(ValueError, match="wrong"):
        service.recoverable("fetch")(Script(ValueError("wrong")))()
    assert retries_left(service) == 2


@pytest.mark.parametrize(("verdict", "left"), [(GiveUp("no"), 2), (Park(1.0), 1)])
def test_a_retry_that_is_overruled_is_refunded_unless_it_is_only_parked(verdict: Verdict, left: int) -> None:
    service, _ = service_with()
    script = Script(ConnectionError())
    with service.bus.subscribe(FailureClassified, lambda _: verdict), suppress(ConnectionError):
        service.recoverable("fetch")(script)()
    assert (script.calls, retries_left(service)) == (1 if left == 2 else 2, left)


def test_the_last_failure_refunds_nothing() -> None:
    service, _ = service_with()
    exhausted(service, max_retries=1)[1]()
    assert retries_left(service) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("where", "left"), [("waiting", 2), ("running", 1)])
def test_a_cancelled_retry_is_refunded_unless_it_ran(backend: str, where: str, left: int) -> None:
    service, clock = service_with()

    @service.recoverable("fetch", initial_delay=10.0, jitter="none")
    async def fetch() -> None:
        if clock() < 10.0:
            raise ConnectionError
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.move_on_after(5.0 if where == "waiting" else 15.0):
            await fetch()

    clock.run(main, backend=backend)
    assert retries_left(service) == left


def test_a_retry_that_is_given_up_by_hand_is_refunded() -> None:
    service, clock = service_with()

    async def main() -> None:
        async def ended() -> None:
            with pytest.raises(ConnectionError):
                await service.recoverable("fetch", initial_delay=9.0, jitter="none")(
                    Script(ConnectionError()).as_async()
                )()

        async with anyio.create_task_group() as group:
            group.start_soon(ended)
            await anyio.sleep(1.0)
            [call] = service.calls.waiting()
            service.calls.give_up(call.call)

    clock.run(main)
    assert retries_left(service) == 2


def test_a_rate_limit_is_waited_for_though_the_budget_is_exhausted() -> None:
    service, _ = service_with()
    operation = service.operation("fetch")
    assert retries_left(service) == 2
    assert isinstance(operation.start().fail(answered(429)), GiveUp)  # it names no wait: a retry, which costs a token
    assert isinstance(operation.start().fail(answered(429, Retry_After="7")), Park)


def test_attempts_made_by_hand_cost_tokens_too() -> None:
    service, _ = service_with(RetryBudget(reserve=1.0, ratio=0.0, per_second=0.0))
    attempt = service.operation("fetch").start()
    assert isinstance(attempt.fail(ConnectionError()), Retry)
    assert attempt.next().fail(ConnectionError()) == GiveUp("retry budget exhausted: fetch")


def test_without_a_budget_retries_are_not_counted() -> None:
    operation = Recovery(clock=VirtualClock(), breaker=None).operation("fetch")
    assert all(isinstance(operation.start().fail(ConnectionError()), Retry) for _ in range(99))


def test_a_failure_that_is_judged_twice_costs_one_token() -> None:
    service, _ = service_with()
    again: list[FailureClassified] = []

    def judge_again(failure: FailureClassified) -> FailureClassified | None:
        again.append(failure)
        return failure if len(again) == 1 else None

    with service.bus.subscribe(FailureClassified, judge_again):
        service.recoverable("fetch")(Script(ConnectionError()))()
    assert retries_left(service) == 1


def test_a_key_that_is_forgotten_does_not_get_a_fresh_budget() -> None:
    service, _ = service_with(max_keys=64)
    script, fetch = exhausted(service, key=lambda host: host)
    made = 0
    for _ in range(3):
        before = script.calls
        fetch("hot")
        made += script.calls - before - 1
        for number in range(100):
            fetch(f"host {number}")
    assert made == 2


def test_a_policy_that_cannot_decide_ends_the_call_and_refunds_nothing() -> None:
    service, _ = service_with()

    def backoff(retry: int) -> float:
        return [0.0][retry - 1]

    error = ConnectionError()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", policy=RetryPolicy(backoff=backoff))(Script(*[error] * 9))()
    assert retries_left(service) == 1
    assert error.__notes__[0].startswith("recovery: fetch gave up after 2 attempts, the policy failed, IndexError: ")


def test_buckets_that_were_full_are_forgotten_without_a_trace() -> None:
    service, clock = service_with(RetryBudget(reserve=5.0, ratio=0.0, per_second=1.0), max_keys=64)
    _, fetch = exhausted(service, key=lambda host: host, max_retries=1)
    for number in range(100):
        clock.advance(10.0)
        fetch(f"host {number}")
    fetch("new")
    assert retries_left(service, "new") == 4
