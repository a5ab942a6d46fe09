"""The retry budget: who pays, and who gets a token back."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
import pytest

from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp
from events.verdicts import GiveUp, Park, Retry
from recovery import operations
from recovery.policies.budget import Bucket, RetryBudget, full, refill, refund, reserve
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.subscribers import budget
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of

SPARSE = RetryBudget(reserve=2.0, ratio=0.5, per_second=0.0)


def service_with(budget: RetryBudget = SPARSE, **given: Any) -> tuple[Recovery, VirtualClock]:
    clock = VirtualClock()
    return Recovery(clock=clock, rng=lambda: 0.0, breaker=None, budget=budget, **given), clock


def tokens(service: Recovery, key: str = "") -> float | None:
    return service.budgets.tokens("fetch", key)


def test_a_budget_that_is_spent_leaves_the_first_tries() -> None:
    service, _ = service_with()
    script = Script(*[ConnectionError()] * 99)
    fetch = service.recoverable("fetch")(script)
    for _ in range(10):
        with pytest.raises(ConnectionError):
            fetch()
    assert script.calls == 10 + 2


def test_who_could_not_pay_is_told() -> None:
    service, _ = service_with()
    gave_up = events_of(service, GaveUp)
    error = ConnectionError()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(Script(*[error] * 9))()
    assert [event.reason for event in gave_up] == ["retry budget exhausted: fetch"]  # type: ignore[attr-defined]
    assert error.__notes__ == ["recovery: fetch gave up after attempt 3: retry budget exhausted: fetch"]


def test_successes_bring_tokens() -> None:
    service, _ = service_with()
    healthy = iter([ConnectionError(), ConnectionError(), "x", "x", "x", ConnectionError(), "x"])

    @service.recoverable("fetch")
    def fetch() -> object:
        answer = next(healthy)
        if isinstance(answer, Exception):
            raise answer
        return answer

    fetch()
    assert tokens(service) == 0.0
    fetch()
    fetch()
    fetch()
    assert tokens(service) == 0.5


def test_time_brings_tokens() -> None:
    service, clock = service_with(RetryBudget(reserve=2.0, ratio=0.0, per_second=0.1))
    script = Script(*[ConnectionError()] * 99)
    fetch = service.recoverable("fetch")(script)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            fetch()
    clock.advance(10.0)
    before = script.calls
    with pytest.raises(ConnectionError):
        fetch()
    assert script.calls - before == 2


def test_each_key_has_a_budget_of_its_own() -> None:
    service, _ = service_with()
    script = Script(*[ConnectionError()] * 99)
    fetch = service.recoverable("fetch", key=lambda host: host)(lambda _: script())
    for host in ("a", "b"):
        with pytest.raises(ConnectionError):
            fetch(host)
    assert (script.calls, tokens(service, "a"), tokens(service, "b")) == (6, 0.0, 0.0)


def test_a_failure_that_is_not_retried_costs_nothing() -> None:
    service, _ = service_with()
    with pytest.raises(ValueError, match="wrong"):
        service.recoverable("fetch")(Script(ValueError("wrong")))()
    assert tokens(service) is None


def test_a_retry_that_somebody_overruled_is_given_back() -> None:
    service, _ = service_with()
    service.bus.subscribe(FailureClassified, lambda _: GiveUp("no"))
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(Script(ConnectionError()))()
    assert tokens(service) == 2.0


def test_a_retry_that_somebody_parked_is_paid_for_all_the_same() -> None:
    service, _ = service_with()
    service.bus.subscribe(FailureClassified, lambda _: Park(1.0))
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert tokens(service) == 1.0


def test_the_last_failure_gives_nothing_back() -> None:
    service, _ = service_with()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=1)(Script(ConnectionError(), ConnectionError()))()
    assert tokens(service) == 1.0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("where", "left"), [("waiting", 2.0), ("running", 1.0)])
def test_a_cancelled_retry_is_given_back_unless_it_ran(backend: str, where: str, left: float) -> None:
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
    assert tokens(service) == left


def test_a_retry_that_is_given_up_by_hand_is_given_back() -> None:
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
    assert tokens(service) == 2.0


def test_a_rate_limit_is_waited_for_though_the_budget_is_spent() -> None:
    service, _ = service_with()
    service.configure(classifier=lambda e: Category.RATE_LIMITED if "429" in e.message else None)
    fetch = service.recoverable("fetch")
    with pytest.raises(ConnectionError):
        fetch(Script(*[ConnectionError()] * 9))()
    attempt = service.operation("fetch").start()
    heard = attempt.fail(ConnectionError("429"))
    assert isinstance(heard, GiveUp)  # no wish of the server: a retry, which costs

    class LimitedError(Exception):
        status = 429
        headers: ClassVar = {"Retry-After": "7"}

    assert isinstance(service.operation("fetch").start().fail(LimitedError()), Park)


def test_attempts_made_by_hand_pay_too() -> None:
    service, _ = service_with(RetryBudget(reserve=1.0, ratio=0.0, per_second=0.0))
    attempt = service.operation("fetch").start()
    assert isinstance(attempt.fail(ConnectionError()), Retry)
    attempt = attempt.next()
    assert attempt.fail(ConnectionError()) == GiveUp("retry budget exhausted: fetch")


def test_without_a_budget_nobody_counts() -> None:
    service = Recovery(clock=VirtualClock())
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert tokens(service) is None


def test_the_bucket_follows_the_table() -> None:
    budget = RetryBudget(reserve=3.0, ratio=0.5, per_second=0.25)
    bucket = full(budget, 10.0, successes=100)
    assert bucket == Bucket(3.0, 10.0, 100)
    taken = reserve(bucket)
    assert taken == Bucket(2.0, 10.0, 100)
    assert reserve(Bucket(0.999, 0.0, 0)) is None
    assert refill(budget, Bucket(0.0, 10.0, 100), 12.0, 103) == Bucket(2.0, 12.0, 103)
    assert refill(budget, Bucket(2.0, 10.0, 100), 1e9, 100) == Bucket(3.0, 1e9, 100)
    assert refill(budget, Bucket(1.0, 10.0, 100), 5.0, 90) == Bucket(1.0, 10.0, 90)  # nothing runs backwards
    assert refund(budget, Bucket(2.5, 0.0, 0)) == Bucket(3.0, 0.0, 0)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("reserve", 0.5, ValueError),
        ("reserve", True, TypeError),
        ("reserve", float("inf"), ValueError),
        ("reserve", 1e10, ValueError),
        ("ratio", -0.1, ValueError),
        ("ratio", "10 %", TypeError),
        ("per_second", float("nan"), ValueError),
    ],
)
def test_a_budget_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{field} must be"):
        RetryBudget(**{field: value})


def test_a_failure_that_is_judged_twice_costs_one_token() -> None:
    service, _ = service_with()
    again: list[FailureClassified] = []

    def judge_again(failure: FailureClassified) -> FailureClassified | None:
        again.append(failure)
        return failure if len(again) == 1 else None

    service.bus.subscribe(FailureClassified, judge_again)
    service.recoverable("fetch")(Script(ConnectionError()))()
    assert tokens(service) == 1.0


def test_nobody_gets_a_fresh_budget_by_being_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (operations, budget):
        monkeypatch.setattr(module, "MAX_KEYS", 64)
    service, _ = service_with()
    script = Script(*[ConnectionError()] * 9999)
    fetch = service.recoverable("fetch", key=lambda host: host)(lambda _: script())
    made = 0
    for _ in range(3):
        before = script.calls
        with pytest.raises(ConnectionError):
            fetch("hot")
        made += script.calls - before - 1
        for number in range(100):
            with pytest.raises(ConnectionError):
                fetch(f"host {number}")
    assert made == 2


def test_a_policy_that_cannot_decide_ends_the_call_and_pays_back_nothing() -> None:
    service, _ = service_with()

    def backoff(retry: int) -> float:
        return [0.0][retry - 1]

    error = ConnectionError()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", policy=RetryPolicy(backoff=backoff))(Script(*[error] * 9))()
    assert tokens(service) == 1.0
    assert error.__notes__ == ["recovery: fetch gave up after attempt 2: the policy failed, IndexError"]


def test_buckets_that_were_full_are_forgotten_without_a_trace() -> None:
    service, clock = service_with(RetryBudget(reserve=5.0, ratio=0.0, per_second=1.0))
    fetch = service.recoverable("fetch", key=lambda host: host, max_retries=1)(Script(*[ConnectionError()] * 9999))
    for number in range(1100):
        clock.advance(10.0)
        with pytest.raises(ConnectionError):
            fetch(f"host {number}")
    with pytest.raises(ConnectionError):
        fetch("new")
    assert tokens(service, "new") == 4.0
