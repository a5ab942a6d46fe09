"""What the circuit, the rate limit and the budget of one key cost among those of very many others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from events.operation import Operation
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.http_errors import answered
from tests.slow import few
from tests.steps import steps_of

FEW, MANY = 4, 1024
Waiting = Callable[[], Awaitable[None]]
DOWN, LIMITED = ConnectionError("reset"), answered(429, Retry_After="60")


async def coroutine_function() -> None: ...


class Hosts:
    """Downloads by hand: one operation with a key for each host, or an operation for each host."""

    def __init__(self, number: int, *, is_keyed: bool = True, max_keys: int = MANY) -> None:
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock, rng=lambda: 0.0, max_keys=max_keys)
        breaker = BreakerPolicy(failure_threshold=1, break_duration=60.0, counts="attempts")
        named = "download" if is_keyed else "download {}"
        for one in range(number):
            self.service.operation(named.format(one), max_retries=1, breaker=breaker, budget=RetryBudget())
        bus, key = self.service.bus, "{}" if is_keyed else ""
        self.operations = [Operation(named.format(one), bus, key=key.format(one)) for one in range(number)]

    def fail(self, number: int, error: Exception) -> None:
        """A download fails: that opens the circuit of its host, or limits its rate."""
        self.operations[number].start().fail(error)

    def succeed(self, number: int) -> None:
        self.operations[number].start().succeed()

    @property
    def observed(self) -> int:
        return sum(operation.is_observed for operation in self.operations)


KINDS = [(True, DOWN), (True, LIMITED), (False, DOWN), (False, LIMITED)]


@pytest.mark.parametrize(("is_keyed", "error"), few(KINDS, (True, DOWN)))
@pytest.mark.slow
def test_among_a_thousand_circuits_or_limits_one_comes_and_goes_as_among_four(is_keyed: bool, error: Exception) -> None:
    coming, going = {}, {}
    for number in (FEW, MANY):
        hosts = Hosts(number, is_keyed=is_keyed)
        for one in range(number - 1):
            hosts.fail(one, error)
        coming[number] = steps_of(hosts.fail, number - 1, error)
        assert hosts.observed == number
        hosts.clock.advance(61.0)
        going[number] = steps_of(hosts.succeed, number - 1)
        assert hosts.observed == number - 1
    assert coming[MANY] <= 1.2 * coming[FEW]
    assert going[MANY] <= 1.2 * going[FEW]


@pytest.mark.parametrize("error", few([DOWN, LIMITED], DOWN))
@pytest.mark.slow
def test_one_that_takes_the_place_of_another_costs_the_same_among_any_number(error: Exception) -> None:
    costs = {}
    for number in (FEW, MANY):
        hosts = Hosts(number + 8, max_keys=number)
        for one in range(number + 7):
            hosts.fail(one, error)
        costs[number] = steps_of(hosts.fail, number + 7, error)
        assert hosts.observed == number
    assert costs[MANY] <= 1.2 * costs[FEW]


@pytest.mark.slow
def test_to_forget_the_state_of_a_reused_name_costs_the_same_among_any_number() -> None:
    costs = {}
    for number in (FEW, MANY):
        hosts = Hosts(number)
        for one in range(number):
            hosts.fail(one, DOWN)
        for _ in range(3):
            costs[number] = steps_of(hosts.service.recoverable(max_retries=1), len)
    assert costs[MANY] <= 1.2 * costs[FEW]


@pytest.mark.slow
def test_to_wake_the_calls_of_one_operation_costs_the_same_among_any_number() -> None:
    costs = {}
    for number in (FEW, MANY):
        service = Recovery(clock=VirtualClock(), when_open="wait")
        waiting = [service.recoverable(f"{one}")(coroutine_function) for one in range(number)]

        async def main(service: Recovery = service, waiting: list[Waiting] = waiting) -> int:
            for one in range(len(waiting)):
                service.circuits.force(f"{one}", "open")
            async with anyio.create_task_group() as group:
                for call in waiting:
                    group.start_soon(call)
                while len(service.calls.waiting()) < len(waiting):
                    await anyio.sleep(0)
                cost = steps_of(service.circuits.force, "0", "auto")
                group.cancel_scope.cancel()
            return cost

        costs[number] = anyio.run(main)
    assert costs[MANY] <= 1.2 * costs[FEW]
