"""What users of the library test with: the virtual clock, strategies, scripts and the pytest plugin."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import Permanent
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationFailed
from events.verdicts import GiveUp, Park, Retry
from recovery import Recovery
from recovery.policies.backoff import Constant, Exponential, Linear
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_states import Closed, HalfOpen, Open
from recovery.policies.retry import RetryPolicy
from recovery.testing import Script, VirtualClock, seeded_rng, strategies
from recovery.waiting.waiters import ThreadWaiter

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])
STEADY = RetryPolicy(max_retries=3, backoff=Constant(3600.0), jitter="none", max_delay=3600.0)


def test_time_passes_only_when_advanced():
    clock = VirtualClock(5.0)
    assert clock() == 5.0
    clock.advance(3600.0)
    assert clock() == 3605.0


def test_a_plain_wait_lets_the_time_pass_unless_its_event_is_set():
    clock, event = VirtualClock(), threading.Event()
    ThreadWaiter(clock).wait(3600.0)
    assert clock() == 3600.0
    event.set()
    assert (clock.wait(event, 3600.0), clock()) == (True, 3600.0)


def test_a_wait_without_an_end_is_refused():
    with pytest.raises(RuntimeError, match="nothing would end this wait"):
        VirtualClock().wait(threading.Event(), math.inf)


@BOTH
def test_timers_fire_in_the_right_order_without_waiting(backend: str):
    clock = VirtualClock(10.0)
    order: list[float] = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        order.append(seconds)

    async def main() -> float:
        async with anyio.create_task_group() as group:
            for seconds in (7200.0, 60.0, 3600.0):
                group.start_soon(sleeper, seconds)
        ThreadWaiter(clock).wait(60.0)  # a plain wait in a loop
        return clock()

    assert clock.run(main, backend=backend) == pytest.approx(7270.0)
    assert order == [60.0, 3600.0, 7200.0]


@BOTH
def test_a_timeout_is_kept_on_virtual_time(backend: str):
    clock = VirtualClock()

    async def main() -> bool:
        with anyio.move_on_after(10.0) as scope:
            await anyio.sleep(3600.0)
        return scope.cancelled_caught

    assert (clock.run(main, backend=backend), clock()) == (True, pytest.approx(10.0))


@BOTH
def test_a_clock_goes_on_from_where_a_loop_ended(backend: str):
    clock = VirtualClock()

    async def main() -> None:
        await anyio.sleep(5.0)
        raise Permanent

    clock.run(anyio.sleep, 5.0, backend=backend)
    clock.advance(1.0)
    with pytest.raises(Permanent):
        clock.run(main, backend=backend)
    clock.advance(1.0)
    assert clock() == pytest.approx(12.0)


@pytest.mark.parametrize("backend", ["plain", "asyncio", "trio"])
def test_a_call_recovers_on_virtual_time(backend: str):
    clock, script = VirtualClock(), Script(OSError(), OSError(), "fetched")
    recoverable = Recovery(clock=clock, policy=STEADY).recoverable("fetch")
    if backend == "plain":
        assert recoverable(script)() == "fetched"
    else:
        assert clock.run(recoverable(script.as_async()), backend=backend) == "fetched"
    assert clock() == pytest.approx(7200.0)


CLOCK = VirtualClock()


class TestWithTheFixtureOfAnyio:
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        yield CLOCK.backend(request.param)
        CLOCK.stop()

    @pytest.mark.anyio
    async def test_an_hour_passes_at_once(self):
        before = CLOCK()
        await anyio.sleep(3600.0)
        assert CLOCK() - before == pytest.approx(3600.0)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("seconds", float),
        ("draws", float),
        ("backoffs", (Constant, Linear, Exponential, tuple)),
        ("policies", RetryPolicy),
        ("categories", Category),
        ("evidences", Evidence),
        ("failures", FailureClassified),
        ("verdicts", (Retry, Park, GiveUp)),
        ("breaker_policies", BreakerPolicy),
        ("circuits", (Closed, Open, HalfOpen)),
    ],
)
@settings(max_examples=20)
@given(data=st.data())
def test_a_strategy_draws_values_of_its_kind(name: str, kinds: Any, data: st.DataObject):
    assert isinstance(data.draw(getattr(strategies, name)()), kinds)


@settings(max_examples=20)
@given(strategies.seconds(5.0), strategies.draws())
def test_seconds_and_draws_stay_in_range(seconds: float, draw: float):
    assert (0.0 <= seconds <= 5.0, 0.0 <= draw < 1.0) == (True, True)


@settings(max_examples=20)
@given(
    strategies.policies(max_retries=2),
    strategies.failures(category=Category.AUTH),
    strategies.breaker_policies(lease=7),
)
def test_a_field_may_be_fixed(policy: RetryPolicy, failure: FailureClassified, breaker: BreakerPolicy):
    assert (policy.max_retries, failure.category, breaker.lease) == (2, Category.AUTH, 7)


# Scripts and seeded randomness


def test_a_script_gives_its_outcomes_in_turn_then_done():
    script = Script(1, KeyError("x"), None)
    assert script("a", b=2) == 1
    with pytest.raises(KeyError):
        script()
    assert (script(), script(), script.calls) == (None, "done", 4)
    assert script.arguments[0] == (("a",), {"b": 2})


@BOTH
def test_a_script_can_be_awaited(backend: str):
    script = Script("page")
    assert (anyio.run(script.as_async(), backend=backend), script.calls) == ("page", 1)


def test_the_same_seed_makes_the_same_draws():
    one, same, other = seeded_rng(7), seeded_rng(7), seeded_rng(8)
    draws = [one() for _ in range(5)]
    assert draws == [same() for _ in range(5)] != [other() for _ in range(5)]
    assert all(0.0 <= draw < 1.0 for draw in draws)


def test_the_same_seed_makes_the_same_trace():
    def trace() -> list[object]:
        clock = VirtualClock()
        service = Recovery(clock=clock, rng=seeded_rng(3), run="run")
        events: list[object] = []
        service.bus.subscribe(Event, events.append)
        flaky = seeded_rng(5)

        async def fetch() -> None:
            if flaky() < 0.5:
                raise ConnectionError

        async def main() -> None:
            call = service.recoverable("fetch")(fetch)

            async def once() -> None:
                with contextlib.suppress(ConnectionError):
                    await call()

            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(once)

        clock.run(main)
        return [event for event in events if not isinstance(event, OperationFailed)]  # which holds an exception

    first = trace()
    assert first == trace() != []


# The pytest plugin

PLUGIN_TEST = """
import anyio, pytest
from recovery import Recovery, recoverable
from recovery.testing import Script
from recovery.testing.strategies import LimitedError

def test_plain(no_waiting):
    script = Script(ConnectionError(), ConnectionError())
    service = Recovery()
    assert service.recoverable("fetch", initial_delay=3600.0, max_delay=9999.0, jitter="none")(script)() == "done"
    assert no_waiting == [3600.0, 7200.0]

@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async(no_waiting, backend):
    script = Script(ConnectionError())
    fetch = recoverable(initial_delay=3600.0, max_delay=9999.0, jitter="none")(script.as_async())
    assert anyio.run(fetch, backend=backend) == "done"
    assert no_waiting == [3600.0]

def test_the_clock_and_the_draws(virtual_clock, seeded_rng):
    service = Recovery(clock=virtual_clock, rng=seeded_rng)
    service.recoverable("fetch", initial_delay=10.0)(Script(ConnectionError()))()
    assert virtual_clock() == pytest.approx(8.444218515250482)

def test_a_wait_without_an_end(no_waiting):
    service = Recovery()
    service.circuits.force("fetch", "open")
    with pytest.raises(RuntimeError, match="fetch would wait for ever"):
        service.recoverable("fetch", when_open="wait")(Script())()

@pytest.mark.parametrize("backend", ["plain", "asyncio", "trio"])
def test_a_limit_of_time_ends_endless_retries(no_waiting, backend):
    script = Script(*[ConnectionError] * 999)
    fetch = recoverable(max_retries=None, max_elapsed=600.0, initial_delay=60.0, jitter="none")(
        script if backend == "plain" else script.as_async()
    )
    with pytest.raises(ConnectionError):
        fetch() if backend == "plain" else anyio.run(fetch, backend=backend)
    assert (no_waiting, script.calls) == (pytest.approx([60.0] * 9, abs=1.0), 10)

def test_retries_without_any_limit(no_waiting):
    with pytest.raises(RuntimeError, match="would wait for ever"):
        recoverable(max_retries=None, initial_delay=0.001, max_delay=0.001)(Script(*[ConnectionError] * 99_999))()

def test_a_rate_limit_and_an_open_circuit_end(no_waiting):
    fetch = Recovery().recoverable("fetch", when_open="wait", circuit_breaker_threshold=1, max_retries=0)
    fetch = fetch(Script(LimitedError(30), TimeoutError(), "done"))
    with pytest.raises(TimeoutError):
        fetch()
    assert no_waiting.pop(0) >= 30.0
    assert fetch() == "done"
    assert sum(no_waiting) == pytest.approx(30.0, abs=1.0)

class BusyClock:
    now = 0.0

    def __call__(self):
        self.now += 0.004  # a busy machine: time passes between any two lines
        return self.now

@pytest.mark.parametrize("backend", ["plain", "asyncio", "trio"])
def test_the_list_has_whole_waits_on_a_busy_machine(no_waiting, backend):
    script = Script(ConnectionError(), ConnectionError())
    fetch = Recovery(clock=BusyClock()).recoverable("fetch", initial_delay=1.0, jitter="none")
    fetch = fetch(script if backend == "plain" else script.as_async())
    assert (fetch() if backend == "plain" else anyio.run(fetch, backend=backend)) == "done"
    assert no_waiting == [1.0, 2.0]

def test_a_clock_of_the_test_is_moved(no_waiting, virtual_clock):
    Recovery(clock=virtual_clock).recoverable("fetch", initial_delay=9.0, jitter="none")(Script(ConnectionError()))()
    assert virtual_clock() == 9.0
"""


@pytest.mark.slow
def test_the_plugin_is_enabled_by_its_name(pytester: pytest.Pytester):
    pytester.makeconftest('pytest_plugins = ["recovery.testing.plugin"]')
    pytester.makepyfile(PLUGIN_TEST)
    pytester.runpytest("-p", "no:anyio").assert_outcomes(passed=14)


def test_the_plugin_is_not_loaded_by_itself(pytester: pytest.Pytester):
    pytester.makepyfile(PLUGIN_TEST)
    pytester.runpytest().assert_outcomes(errors=14)


def test_conditions_are_checked_though_no_call_waits(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        from events import Category, Condition
        from recovery import Recovery, RetryPolicy, Strategy
        from recovery.testing import Script
        pytest_plugins = ["recovery.testing.plugin"]

        def test_it(no_waiting):
            answers = [False, False, True]
            disk = Condition("disk", lambda: answers.pop(0))
            policy = RetryPolicy(per_category={Category.TRANSIENT: Strategy(wait_for=[disk])})
            Recovery(policy=policy).recoverable("fetch")(Script(ConnectionError()))()
            assert answers == []
        """
    )
    pytester.runpytest("-p", "recovery.testing.plugin").assert_outcomes(passed=1)
