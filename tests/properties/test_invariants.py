"""Laws of whole calls, with any failures: attempts, waits, probes, cancellation, budgets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anyio
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.errors import CallRejectedError, Permanent
from events.event import Event
from events.operation_events import FailureClassified, GaveUp, OperationCancelled, OperationStarted, RetryScheduled
from events.verdicts import Park, Retry
from recovery import context
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_states import Forced, HalfOpen
from recovery.policies.retry import RetryPolicy
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock, seeded_rng
from recovery.testing.strategies import budgets, draws, policies
from tests.recorded_events import events_of, names
from tests.slow import few

BACKENDS = st.sampled_from(["asyncio", "trio"])


def failed_for_good(service: Recovery, function: Any, **settings: Any) -> Exception:
    """The exception that comes out of a call of *function*."""
    call = service.recoverable("fetch", breaker=None, **settings)(function)
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


# Attempts


@given(policies(), draws())
def test_a_permanent_failure_is_attempted_once(policy: RetryPolicy, draw: float):
    script = Script(Permanent("no"), "a second attempt")
    service = Recovery(clock=VirtualClock(), rng=lambda: draw)
    assert isinstance(failed_for_good(service, script, policy=policy), Permanent)
    assert script.calls == 1


@given(retries=st.integers(0, 4), progress_resets=st.integers(0, 4), reached=st.lists(st.integers(1, 6), max_size=40))
@example(retries=1, progress_resets=1, reached=[1, 2, 3, 4, 5, 6])
def test_attempts_stay_within_retries_and_progress_resets(retries: int, progress_resets: int, reached: list[int]):
    made = 0

    def download() -> None:
        nonlocal made
        made += 1
        if made <= len(reached):
            context.progress(reached[made - 1])
        raise ConnectionResetError

    policy = RetryPolicy(max_retries=retries, progress_resets=progress_resets)
    has_context = {"durability": "journal"} if not progress_resets else {}
    with Recovery(clock=VirtualClock(), store=MemoryStore()) as service:
        failed_for_good(service, download, policy=policy, **has_context)
    assert retries + 1 <= made <= retries + 1 + progress_resets * retries


class Crash(BaseException):
    """Stands for a crash of the process: no code of ours may run after it."""


@settings(max_examples=40)
@given(
    retries=st.integers(0, 4),
    crashes=st.lists(
        st.tuples(st.sampled_from([FailureClassified, RetryScheduled, None]), st.integers(1, 3)), max_size=4
    ),
)
@example(retries=1, crashes=[(FailureClassified, 1), (RetryScheduled, 1)])
@example(retries=2, crashes=[(FailureClassified, 2)])
@example(retries=1, crashes=[(None, 1), (None, 1)])
def test_a_restart_gives_a_call_no_more_retries(retries: int, crashes: list[tuple[type[Event] | None, int]]):
    """Without a kind of event, the process dies in the body."""
    store, made, resumption = MemoryStore(), [], Resumption(bool)
    resumed = True
    for run, (kind, crash_at) in enumerate([*crashes, (GaveUp, 99)]):
        with Recovery(store=store, clock=VirtualClock(), run=f"run{run}") as service:
            journal = service.journal
            events = events_of(service, *(kind,) if kind else ())
            made_before = len(made)

            def fetch(url: str) -> None:
                made.append(url)
                if kind is None and len(made) - made_before == crash_at:  # noqa: B023  # called within its run
                    journal.seal()  # noqa: B023
                    raise Crash
                raise ConnectionResetError

            def die(_: Event) -> None:
                if len(events) == crash_at:  # noqa: B023  # called within its run
                    journal.seal()  # noqa: B023  # nothing after the crash is written
                    raise Crash

            call = service.recoverable("fetch", resumable=True, max_retries=retries, breaker=None)(fetch)
            if kind is not None:
                service.bus.subscribe(kind, die)
            with contextlib.suppress(Crash, ConnectionResetError):
                if run == 0:
                    call("url")
                else:
                    resumption = service.resume()
                    assert resumption.wait(10.0)
                    resumed = bool(resumption.calls or resumption.quarantined)
    assert len(made) <= retries + 1
    assert not resumed or len(made) == retries + 1
    assert not resumption.quarantined or "GaveUp" not in [row.kind for row in store.rows]


# Waits


@given(policies(max_retries=3), draws())
def test_no_call_waits_after_its_last_attempt_or_its_deadline(policy: RetryPolicy, draw: float):
    clock, attempts = VirtualClock(), []

    def fetch() -> None:
        attempts.append(clock())
        raise ConnectionResetError

    failed_for_good(Recovery(clock=clock, rng=lambda: draw), fetch, policy=policy)
    assert clock() == attempts[-1]
    assert policy.max_elapsed is None or clock() <= policy.max_elapsed + 1e-9


@given(
    deadline=st.floats(0.0, 100.0), until=st.floats(0.0, 200.0), backend=st.sampled_from(["plain", "asyncio", "trio"])
)
def test_no_deferred_call_waits_past_its_deadline(deadline: float, until: float, backend: str):
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.bus.subscribe(OperationStarted, lambda started: Park(until - started.at) if started.at < until else None)
    script = Script()
    fetch = service.recoverable("fetch", max_elapsed=deadline)
    with contextlib.suppress(CallRejectedError):
        fetch(script)() if backend == "plain" else clock.run(fetch(script.as_async()), backend=backend)
    assert clock() <= deadline + 1e-6
    if abs(until - deadline) > 1e-6:  # less is a matter of rounding
        assert script.calls == (until <= deadline)


# Probes


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("permits", few([1, 3], 3))
def test_a_thousand_callers_at_half_open_share_the_permits(backend: str, permits: int):
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=seeded_rng(1))
    breaker = BreakerPolicy(failure_threshold=1, break_duration=10.0, half_open_permits=permits)
    inside = most = 0

    @service.recoverable("fetch", breaker=breaker, when_open="wait", max_retries=0)
    async def fetch(number: int) -> None:
        nonlocal inside, most
        if number < 0:
            raise ConnectionRefusedError
        if ("fetch", "") in service.circuits.states():
            inside += 1
            most = max(most, inside)
            await anyio.sleep(0.5)
            inside -= 1

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await fetch(-1)
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(fetch, number)

    clock.run(main, backend=backend)
    assert 1 <= most <= permits
    assert service.circuits.states() == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_lost_probe_does_not_block_the_circuit_for_ever(backend: str):
    clock = VirtualClock()
    service = Recovery(clock=clock)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=10.0, lease=60.0)
    operation = service.operation("fetch", breaker=breaker, when_open="wait", max_retries=0)
    operation.start().fail(ConnectionRefusedError())
    clock.advance(10.0)
    lost = operation.start()  # by hand, and then forgotten
    fetch = service.recoverable("fetch", breaker=breaker, when_open="wait", max_retries=0)

    @fetch
    async def probe() -> str:
        lost.fail(ConnectionRefusedError())  # after its lease: it decides nothing
        circuit = service.circuits.states()["fetch", ""]
        assert isinstance(circuit, HalfOpen)
        assert len(circuit.permits) == 1
        return "done"

    assert clock.run(probe, backend=backend) == "done"
    assert clock() == pytest.approx(70.0)
    assert service.circuits.states() == {}


# Cancellation


@given(backend=BACKENDS, at=st.floats(0.001, 40.0), failures=st.integers(0, 5), held=st.booleans())
def test_a_cancelled_call_publishes_one_event_and_changes_nothing(backend: str, at: float, failures: int, held: bool):
    clock = VirtualClock()
    budget = RetryBudget(reserve=10.0, ratio=0.0, per_second=0.0)
    service = Recovery(clock=clock, budget=budget, rng=lambda: 0.5)
    events = events_of(service)
    caught: list[BaseException] = []
    if held:
        service.circuits.force("fetch", "open")

    @service.recoverable("fetch", initial_delay=2.0, max_retries=9, when_open="wait")
    async def fetch() -> None:
        await anyio.sleep(3.0)
        if clock() < failures * 5.0:
            raise ConnectionResetError
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.move_on_after(at):
            try:
                await fetch()
            except BaseException as error:
                caught.append(error)
                raise

    clock.run(main, backend=backend)
    [error] = caught
    assert isinstance(error, asyncio.CancelledError | trio.Cancelled)
    assert getattr(error, "__notes__", []) == []
    cancelled = [event for event in events if isinstance(event, OperationCancelled)]
    assert (len(cancelled), events[-1]) == (1, cancelled[0])
    assert service.circuits.states() == ({("fetch", ""): Forced("open")} if held else {})
    retried = sum(isinstance(event, RetryScheduled) for event in events)
    assert service.calls.waiting() == []
    service.circuits.force("fetch", "closed")
    left = sum(isinstance(service.operation("fetch").start().fail(OSError()), Retry) for _ in range(20))
    assert left == 10 - retried + cancelled[0].waiting * (retried > 0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("before", [0, 2])
def test_control_flow_exceptions_pass_unchanged(kind: type[BaseException], before: int):
    service = Recovery(clock=VirtualClock(), breaker=BreakerPolicy(failure_threshold=1))
    events = events_of(service)
    error = kind()
    script = Script(*[ConnectionResetError()] * before, error)
    with pytest.raises(kind) as caught:
        service.recoverable("fetch")(script)()
    assert caught.value is error
    assert names(events).count("OperationCancelled") == 1
    assert service.circuits.states() == {}


# Budgets


@settings(max_examples=50)
@given(budget=budgets(), gaps=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60))
@example(budget=RetryBudget(reserve=1.0, ratio=0.0, per_second=1.0), gaps=[0.0, 20.0])
def test_total_failure_stays_within_the_budget_in_every_window(budget: RetryBudget, gaps: list[float]):
    clock = VirtualClock()
    service = Recovery(clock=clock, budget=budget, breaker=None)
    retried: list[float] = []
    service.bus.subscribe(RetryScheduled, lambda event: retried.append(event.at))
    first_tries: list[float] = []
    fetch = service.recoverable("fetch", initial_delay=0.0)(Script(*[ConnectionResetError()] * 999))
    for gap in gaps:
        clock.advance(gap)
        first_tries.append(clock())
        with pytest.raises(ConnectionResetError):
            fetch()
    for begin in first_tries:
        for end in first_tries:
            retries = sum(begin <= at <= end for at in retried)
            assert end < begin or retries <= budget.reserve + budget.per_second * (end - begin) + 1e-6


# Noise


def test_noise_on_many_keys_is_recovered():
    draw = seeded_rng(11)
    service = Recovery(clock=VirtualClock(), rng=draw)
    failed = events_of(service, FailureClassified)

    @service.recoverable("fetch", key=lambda number: f"host {number % 7}")
    def fetch(number: int) -> str:
        if draw() < 0.3:
            raise ConnectionResetError
        return "page"

    done = 0
    for number in range(5000):
        with contextlib.suppress(ConnectionResetError):
            done += fetch(number) == "page"
    assert done >= 0.99 * 5000
    assert len(failed) > 1500
