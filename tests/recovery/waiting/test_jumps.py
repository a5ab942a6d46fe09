"""Jumps of the clock: what a machine that sleeps, or a process that is stopped, does to calls."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from typing import Any, Literal, TypeAlias

import anyio
import pytest

from events import (
    CircuitOpened,
    ClockJumped,
    Condition,
    FailureClassified,
    GaveUp,
    OperationRecovered,
    Parked,
    RetryScheduled,
)
from events.evidence import Category
from recovery import BreakerPolicy, Recovery, RetryBudget, RetryPolicy, Strategy
from recovery.policies.backoff import Constant
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.http_errors import answered
from tests.recovery.waiting.parked import BACKENDS, background, only, parks, run_all

Jump: TypeAlias = Literal["suspend", "freeze"]
NIGHT = 8 * 3600.0
EITHER = pytest.mark.parametrize("jump", ["suspend", "freeze"])


def policy(seconds: float = 20.0, **fields: Any) -> RetryPolicy:
    return RetryPolicy(**{"backoff": Constant(seconds), "jitter": "none", "max_retries": 3, **fields})


def let(clock: VirtualClock, jump: Jump, seconds: float = NIGHT) -> None:
    """Let the machine sleep, or the process be stopped."""
    (clock.suspend if jump == "suspend" else clock.freeze)(seconds)


class Downloads:
    """Fifty downloads from three hosts that are down before a night, and for ten seconds after it."""

    def __init__(self, asks_to_wait: str | None = None, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock, rng=random.Random(7).random, policy=policy())
        self.jumps, self.failures = events_of(self.service, ClockJumped), events_of(self.service, FailureClassified)
        self.opened, self.gave_up = events_of(self.service, CircuitOpened), events_of(self.service, GaveUp)
        self.starts: list[tuple[float, int]] = []
        self.done: list[int] = []
        self.down_until = 1.0
        self.asks_to_wait = asks_to_wait
        breaker = BreakerPolicy(counts="attempts", failure_threshold=20)  # the first failures alone do not open it
        self.download = self.service.recoverable(
            "download", key=lambda number: f"host-{number % 3}", breaker=breaker, when_open="wait", **settings
        )(self._download)

    async def _download(self, number: int) -> None:
        self.starts.append((self.clock(), number))
        await anyio.sleep(0.05)
        if self.clock() < self.down_until:
            is_first = not self.jumps
            raise answered(503, retry_after=self.asks_to_wait) if self.asks_to_wait and is_first else ConnectionError
        self.done.append(number)

    async def night(self, jump: Jump) -> None:
        """Begin them all, then the night; they go on after it."""
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(self.download, number)
            await anyio.sleep(0.5)
            assert len(self.service.calls.waiting()) == 50
            let(self.clock, jump)
            self.down_until = self.clock() + 10.0

    def after(self, seconds: float) -> int:
        """Attempts that began within *seconds* after the jump was seen."""
        [jumped] = self.jumps
        return sum(jumped.at <= at < jumped.at + seconds for at, _ in self.starts)


@BACKENDS
@EITHER
@pytest.mark.parametrize("asks_to_wait", [None, "3600"])
def test_fifty_downloads_of_three_hosts_survive_a_night(backend: str, jump: Jump, asks_to_wait: str | None) -> None:
    downloads = Downloads(asks_to_wait)
    downloads.clock.run(downloads.night, jump, backend=backend)
    assert sorted(downloads.done) == list(range(50))
    assert downloads.after(1.0) <= 3
    assert (downloads.opened, downloads.gave_up) == ([], [])
    uncharged = Counter(failure.call for failure in downloads.failures if failure.uncharged)
    assert max(uncharged.values(), default=0) <= 1
    [jumped] = downloads.jumps
    assert jumped.kind == ("sleep" if jump == "suspend" else "stopped")
    assert jumped.slept == pytest.approx(NIGHT, abs=3700.0 if jump == "freeze" else 0.0)
    if jump == "freeze":  # all were overdue: they came back while the network was down
        assert len(uncharged) == 50
        assert downloads.after(10.0) >= 50
    elif asks_to_wait:  # likewise, but the look came later
        assert downloads.after(10.0) == 50


@EITHER
def test_calls_that_sleep_without_a_wait_come_back_staggered(jump: Jump) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(), rng=random.Random(7).random)
    jumps, recovered = events_of(service, ClockJumped), events_of(service, OperationRecovered)
    starts: list[float] = []

    @service.recoverable("fetch")  # it has no key: its failures take the compiled path
    async def fetch() -> None:
        starts.append(clock())
        if len(starts) <= 50:
            raise ConnectionError("reset")

    async def main() -> None:
        async with background(*[fetch] * 50):
            assert len(service.calls.waiting()) == 50
            let(clock, jump)

    clock.run(main)
    [jumped] = jumps
    assert sum(jumped.at <= at < jumped.at + 1.0 for at in starts) == 1
    assert len(recovered) == 50
    assert max(event.lag for event in recovered) < 0.1


def test_a_subscriber_that_cancels_calls_as_the_clock_jumps_loses_no_other() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    done: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    async def fetch(number: int) -> None:
        if clock() < 1.0:
            raise ConnectionError("reset")
        done.append(number)

    short, long = (service.recoverable(f"{each}", policy=policy(each))(fetch) for each in (20.0, 9 * NIGHT))

    async def main() -> None:
        calls = [long(number) for number in range(12)] + [short(number) for number in range(12, 15)]
        tasks.extend(asyncio.get_running_loop().create_task(call) for call in calls)
        await anyio.sleep(0.5)
        clock.freeze(NIGHT)
        await asyncio.wait(tasks, timeout=10 * NIGHT)

    service.bus.subscribe(ClockJumped, lambda _: [task.cancel() for task in tasks[1:8]] and None)
    clock.run(main)
    assert sorted(done) == [0, *range(8, 15)]


@BACKENDS
def test_a_wait_that_a_server_asked_for_goes_on_while_the_machine_sleeps(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(0.0))
    fetch = service.recoverable("fetch")(Script(answered(429, retry_after="3600"), "done").as_async())

    async def main() -> None:
        async with background(fetch):
            clock.suspend(NIGHT)
        assert clock() < 30.0  # it looked at the clocks meanwhile

    clock.run(main, backend=backend)


@BACKENDS
def test_a_rate_limit_goes_on_for_every_call_while_the_machine_sleeps(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(0.0))
    script = Script(answered(429, retry_after="3600"), "done", "done")
    fetch = service.recoverable("fetch", when_open="wait")(script.as_async())

    async def main() -> None:
        async with background(fetch), background(fetch):
            clock.suspend(NIGHT)
        assert clock() < 30.0

    clock.run(main, backend=backend)


@BACKENDS
def test_our_own_delay_stands_still_while_the_machine_sleeps(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(60.0))
    fetch = service.recoverable("fetch", key=lambda: "host")(Script(ConnectionError(), "done").as_async())

    async def main() -> None:
        async with background(fetch):
            clock.suspend(NIGHT)

    clock.run(main, backend=backend)
    assert clock() == 60.0


def test_a_condition_is_polled_soon_after_the_machine_slept() -> None:
    clock = VirtualClock()
    asked: list[float] = []
    room = Condition("room on the disk", lambda: asked.append(clock()) or len(asked) > 1, every=3600.0)
    service = Recovery(clock=clock, policy=RetryPolicy(per_category={Category.TRANSIENT: Strategy(wait_for=room)}))
    fetch = service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())

    async def main() -> None:
        async with background(fetch):
            clock.suspend(NIGHT)

    clock.run(main)
    assert len(asked) == 2
    assert asked[1] < 30.0


@EITHER
def test_a_failure_of_an_attempt_that_a_jump_met_uses_no_retry(jump: Jump) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(5.0, max_retries=1, max_elapsed=300.0))
    failures, scheduled = events_of(service, FailureClassified), events_of(service, RetryScheduled)
    attempts: list[float] = []

    async def download() -> None:
        attempts.append(clock())
        await anyio.sleep(20.0)
        if len(attempts) == 1:
            let(clock, jump)
        raise ConnectionError("reset")

    async def waits() -> None:
        raise ConnectionError("it waits, and wakes late")

    other = service.recoverable("other", policy=policy(5.0, max_retries=9))(waits)
    errors = run_all(clock, service.recoverable("download")(download), other)
    assert len(errors) == 2
    of_download = [failure for failure in failures if failure.operation == "download"]
    assert [failure.uncharged for failure in of_download] == [True, False, False]
    assert [failure.retries for failure in of_download] == [0, 0, 1]
    delays = [event.after for event in scheduled if event.operation == "download"]
    assert delays == [5.0, 5.0]  # the next delay is that of a failure which is charged
    assert of_download[-1].elapsed == pytest.approx(70.0, abs=21.0)  # the night is no part of max_elapsed


def test_one_failure_of_a_call_is_excused_for_each_jump() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(5.0, max_retries=1))
    failures = events_of(service, FailureClassified)
    nights = iter([NIGHT, 0.0, NIGHT, 0.0])

    @service.recoverable("fetch")
    def fetch() -> None:
        clock.suspend(next(nights))
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError):
        fetch()
    assert [failure.uncharged for failure in failures] == [True, False, True, False]


def test_an_attempt_a_minute_after_a_jump_uses_a_retry() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(59.0))
    failures = events_of(service, FailureClassified)

    def call(name: str, delay: float, slept: float) -> None:
        script = Script(ConnectionError(), ConnectionError(), "done")
        fetch = service.recoverable(name, policy=policy(delay))(script)
        clock.suspend(slept)
        fetch()

    call("soon", 59.0, 0.0)
    del failures[:]
    call("begun with a jump", 59.0, NIGHT)
    assert [failure.uncharged for failure in failures] == [True, False]
    clock.advance(61.0)
    del failures[:]
    call("later", 59.0, 0.0)
    assert [failure.uncharged for failure in failures] == [False, False]


def test_what_no_retry_can_help_is_not_excused() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    failures = events_of(service, FailureClassified)

    @service.recoverable("fetch")
    def fetch() -> None:
        clock.suspend(NIGHT)
        raise ValueError("no number")

    with pytest.raises(ValueError, match="no number"):
        fetch()
    assert [failure.uncharged for failure in failures] == [False]


@pytest.mark.parametrize("counts", ["attempts", "calls"])
def test_an_excused_failure_opens_no_circuit(counts: Literal["attempts", "calls"]) -> None:
    clock = VirtualClock()
    breaker = BreakerPolicy(counts=counts, failure_threshold=1)
    service = Recovery(clock=clock, policy=policy(max_elapsed=10.0), breaker=breaker)  # no retry: out of time
    failures, opened = events_of(service, FailureClassified), events_of(service, CircuitOpened)

    @service.recoverable("fetch")
    def fetch() -> None:
        clock.suspend(NIGHT)
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError):
        fetch()
    assert [failure.uncharged for failure in failures] == [True]
    assert (opened, service.circuits.states()) == ([], {})


def test_a_probe_that_a_jump_met_neither_opens_nor_closes_the_circuit() -> None:
    clock = VirtualClock()
    breaker = BreakerPolicy(counts="attempts", failure_threshold=2)
    service = Recovery(clock=clock, policy=policy(5.0, max_retries=9), breaker=breaker)
    opened = events_of(service, CircuitOpened)
    attempts: list[float] = []

    @service.recoverable("fetch", when_open="wait")
    def fetch() -> str:
        attempts.append(clock())
        if len(attempts) == 3:
            clock.suspend(NIGHT)
        if len(attempts) < 4:
            raise ConnectionError("reset")
        return "done"

    assert fetch() == "done"
    assert len(opened) == 1
    assert attempts == [0.0, 5.0, 35.0, 40.0]  # the probe is made again after the delay of its policy


def test_an_excused_failure_takes_no_token_of_a_budget() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(), budget=RetryBudget(reserve=1.0, per_second=0.0, ratio=0.0))

    @service.recoverable("fetch")
    def fetch() -> str:
        attempts.append(clock())
        if len(attempts) == 1:
            clock.suspend(NIGHT)
        if len(attempts) < 3:
            raise ConnectionError("reset")
        return "done"

    attempts: list[float] = []
    assert fetch() == "done"


def test_a_program_that_works_for_long_has_not_jumped() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy())
    jumps = events_of(service, ClockJumped)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())):
            clock.advance(NIGHT)  # the loop is blocked, and the processor works

    clock.run(main)
    assert jumps == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_a_forked_child_that_works_for_long_has_not_jumped() -> None:
    class Clock(VirtualClock):
        """The processors have worked no second for a child that begins."""

        parent = os.getpid()

        def process_time(self) -> float:
            return super().process_time() - (NIGHT if os.getpid() != self.parent else 0.0)

    clock = Clock()
    clock.advance(NIGHT)
    service = Recovery(clock=clock, policy=policy())
    jumps = events_of(service, ClockJumped)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())):
            clock.advance(NIGHT / 2)

    child = os.fork()
    if child == 0:
        try:
            clock.run(main)
            os._exit(len(jumps))
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_function_that_blocks_its_loop_again_and_again_is_not_tried_for_ever() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy(5.0, max_retries=2))
    failures = events_of(service, FailureClassified)

    async def blocks() -> None:
        await anyio.sleep(1.0)
        clock.freeze(100.0)
        raise ConnectionError("reset")

    async def waits() -> None:
        raise ConnectionError("reset")

    other = service.recoverable("other", policy=policy(5.0, max_retries=200))
    run_all(clock, service.recoverable("blocks")(blocks), other(waits))
    of_blocks = [failure.uncharged for failure in failures if failure.operation == "blocks"]
    assert of_blocks == [True, False, True, False, True, False]


@EITHER
def test_a_jump_is_told_with_what_happens_next(jump: Jump, caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy())
    with caplog.at_level(logging.WARNING, "recovery"):

        async def main() -> None:
            async with background(service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())):
                let(clock, jump)

        clock.run(main)
    what = "the machine slept" if jump == "suspend" else "the process or its event loop stood still"
    [line] = [record for record in caplog.records if "overdue" in record.getMessage()]
    assert line.levelname == "WARNING"
    assert line.getMessage().startswith(f"{what} for ")


def test_a_jump_is_no_lag_of_a_retry() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy())
    recovered = events_of(service, OperationRecovered)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())):
            clock.freeze(NIGHT)

    clock.run(main)
    assert [event.lag for event in recovered] == [0.0]


def test_a_deadline_of_a_wait_moves_by_the_time_for_which_the_process_was_stopped() -> None:
    clock = VirtualClock()
    room = Condition("room on the disk", lambda: clock() > NIGHT + 100.0, every=10.0)
    strategy = Strategy(wait_for=room, wait_timeout=200.0)
    service = Recovery(clock=clock, policy=RetryPolicy(per_category={Category.TRANSIENT: strategy}))
    parked, gave_up = events_of(service, Parked), events_of(service, GaveUp)

    async def main() -> None:
        async with background(service.recoverable("fetch")(Script(ConnectionError(), "done").as_async())):
            assert only(service)
            clock.freeze(NIGHT)

    clock.run(main)
    assert (len(parked), gave_up) == (1, [])


@BACKENDS
@EITHER
def test_calls_that_come_back_staggered_are_not_out_of_time(backend: str, jump: Jump) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=random.Random(7).random, policy=policy(20.0, max_elapsed=20.5), breaker=None)
    recovered, gave_up = events_of(service, OperationRecovered), events_of(service, GaveUp)
    calls = [service.recoverable("fetch")(Script(ConnectionError(), "done").as_async()) for _ in range(5)]

    async def main() -> None:
        async with background(*calls):
            let(clock, jump)

    clock.run(main, backend=backend)
    assert (len(recovered), gave_up) == (5, [])
    assert len({event.at for event in recovered}) > 2


def test_a_condition_that_is_asked_for_long_is_no_stop() -> None:
    """The call that asks has no time at which it wakes until the answer comes."""
    clock = VirtualClock()
    service = Recovery(clock=clock, policy=policy())
    jumps, gave_up = events_of(service, ClockJumped), events_of(service, GaveUp)
    slow = service.recoverable("slow")(Script(ConnectionError(), "done"))

    def asked() -> bool:
        if clock() < 10.0:
            return False
        clock.freeze(30.0)  # the answer is on its way
        slow()  # another call fails meanwhile
        return True

    room = Condition("room on the disk", asked, every=12.0)
    service.recoverable("fetch", policy=parks(room, wait_timeout=200.0))(Script(ConnectionError(), "done"))()
    assert (jumps, gave_up) == ([], [])
