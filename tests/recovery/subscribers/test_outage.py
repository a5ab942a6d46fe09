"""A host that is down, and a batch of calls that want something from it: one incident, which ends for all."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.circuit_events import CircuitOpened
from events.conditions import Condition
from events.errors import CallRejectedError
from events.event import Event
from events.evidence import Category
from events.incident_events import IncidentClosed, IncidentOpened
from events.operation import Operation
from events.operation_events import OperationStarted, OperationSucceeded, Parked
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.hosts import HOST_BREAKER
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of
from tests.slow import few

NEVER = 1e9
T = 450.0
"""Seconds after which one call that finds the circuit of a host open gives up: it probes after 30, 90, 210 and 450."""


class Outage:
    """Hosts that do not answer before the time *back*, and what came of calls to them."""

    def __init__(self, back: float, breaker: BreakerPolicy = HOST_BREAKER, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.back = back
        self.breaker = breaker
        self.service = Recovery(clock=self.clock, rng=random.Random(20).random)
        self.incidents = events_of(self.service, IncidentOpened, IncidentClosed)
        self.events = events_of(self.service, Event, OperationStarted, OperationSucceeded)
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.ends: dict[tuple[str, int], tuple[float, Exception | None]] = {}
        settings = {"max_retries": 3, **settings}
        if settings["max_retries"] is None:
            del settings["max_retries"]

        @self.service.recoverable("download", breaker=breaker, when_open="wait", key=lambda host, _: host, **settings)
        async def download(host: str, number: int) -> None:
            self.attempts[host, number] += 1
            await anyio.sleep(0.01)
            if self.clock() < self.back:
                raise ConnectionRefusedError(host)

        self.download = download

    async def call(self, number: int, host: str = "host") -> None:
        error: Exception | None = None
        try:
            await self.download(host, number)
        except Exception as raised:
            error = raised
        self.ends[host, number] = self.clock(), error

    def run(self, calls: int, *, backend: str = "asyncio", hosts: tuple[str, ...] = ("host",)) -> Outage:
        """Open the circuit of each host, by hand, then make that many calls to each of them."""

        async def main() -> None:
            for host in hosts:
                if self.breaker.counts == "calls":
                    self.service.circuits.open_for("download", self.breaker.break_duration, key=host)
                    continue
                for _ in range(self.breaker.failure_threshold):
                    Operation("download", self.service.bus, key=host).start().fail(ConnectionRefusedError(host))
            async with anyio.create_task_group() as group:
                for host in hosts:
                    for number in range(calls):
                        group.start_soon(self.call, number, host)

        self.clock.run(main, backend=backend)
        return self

    @property
    def last(self) -> float:
        return max(at for at, _ in self.ends.values())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("calls", [1, 30, 300])
def test_a_batch_on_a_host_that_stays_down_ends_as_early_as_one_call(backend: str, calls: int) -> None:
    outage = Outage(NEVER).run(calls, backend=backend)
    assert len(outage.ends) == calls
    assert outage.last <= 1.01 * T
    assert len(outage.events) <= 14 * calls + 60
    assert max(outage.attempts.values()) <= 4


@pytest.mark.parametrize("calls", [1, 30, 300])
@pytest.mark.parametrize("initial_delay", [0.1, 20.0])
def test_a_batch_ends_within_ten_minutes_with_the_default_breaker(calls: int, initial_delay: float) -> None:
    outage = Outage(NEVER, BreakerPolicy(), initial_delay=initial_delay).run(calls)
    assert outage.last <= 600.0
    assert sum(outage.attempts.values()) == 4  # a probe is one attempt, not a call with its retries


@pytest.mark.parametrize(("holds", "longest"), [(True, 2.0 * T), (False, 2.1 * 930.0)])
def test_a_batch_that_waits_for_a_condition_of_its_policy_ends_within_its_timeout(holds: bool, longest: float) -> None:
    condition = Condition("host answers", lambda: holds, every=5.0)
    waits = {Category.UNREACHABLE: Strategy(wait_for=(condition,), wait_timeout=900.0)}
    outage = Outage(NEVER, policy=RetryPolicy(max_retries=3, per_category=waits), max_retries=None).run(30)
    assert outage.last <= longest  # 9 150 s, if each call had to probe
    rejected = [error for _, error in outage.ends.values() if isinstance(error, CallRejectedError)]
    assert len(rejected) >= 24
    assert all("the probes of other calls failed" in str(error) for error in rejected)


def test_a_failed_probe_uses_no_retry_of_a_policy_that_waits_for_a_condition() -> None:
    clock_of: list[VirtualClock] = []
    condition = Condition("host answers", lambda: clock_of[0]() >= 800.0, every=5.0)
    waits = {Category.UNREACHABLE: Strategy(wait_for=(condition,))}
    outage = Outage(800.0, policy=RetryPolicy(max_retries=1, per_category=waits), max_retries=None)
    clock_of.append(outage.clock)
    outage.run(30)
    assert [error for _, error in outage.ends.values() if error] == []


def test_a_call_that_was_never_tried_is_rejected_for_the_incident_and_a_tried_one_raises_its_own_error() -> None:
    outage = Outage(NEVER).run(30)
    ends = [(outage.attempts[call], error) for call, (_, error) in outage.ends.items()]
    rejected = [error for made, error in ends if made == 0]
    tried = [error for made, error in ends if made]
    assert (len(tried), len(rejected)) == (4, 26)
    for error in rejected:
        assert isinstance(error, CallRejectedError)
        assert "incident download[host]: the probes of other calls failed, unreachable" in str(error)
        assert "out of retries (3)" in str(error)
    assert all(type(error) is ConnectionRefusedError for error in tried)
    assert len(set(map(id, tried))) == len(tried)  # none is raised in two calls
    assert sum("incident download[host]" in error.__notes__[0] for error in tried if error) == 3


@pytest.mark.parametrize("calls", few([1, 30, 300], 1, 30))
def test_a_batch_outlives_an_outage_of_twenty_minutes(calls: int) -> None:
    outage = Outage(1200.0, max_retries=8).run(calls)
    assert [error for _, error in outage.ends.values() if error] == []
    breaks = [event.after for event in outage.events if isinstance(event, CircuitOpened)]
    assert breaks == pytest.approx([30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0])
    assert max(outage.attempts.values()) <= (3 if calls > 1 else len(breaks))
    assert sum(outage.attempts.values()) == calls + len(breaks) - 1  # one probe for each break


def test_the_calls_come_back_spread_out_and_the_incident_tells_how_it_ended() -> None:
    outage = Outage(1200.0, max_retries=8).run(50)
    assert len({at for at, _ in outage.ends.values()}) > 40
    opened, closed = outage.incidents
    assert opened == IncidentOpened(
        at=0.0, operation="download", key="host", cause="unreachable: ConnectionRefusedError: host",
        category=Category.UNREACHABLE,
    )  # fmt: skip
    assert isinstance(closed, IncidentClosed)
    assert (closed.calls, closed.gave_up, closed.outcome) == (51, 0, "recovered")  # with the last call by hand
    assert closed.lasted == pytest.approx(1350.0, abs=1.0)


def test_an_incident_counts_the_calls_that_gave_up() -> None:
    outage = Outage(NEVER).run(30)
    outage.service.circuits.force("download", "closed", key="host")
    closed = outage.incidents[-1]
    assert isinstance(closed, IncidentClosed)
    assert (closed.calls, closed.gave_up, closed.outcome) == (31, 30, "forced")


def test_two_hosts_are_two_incidents() -> None:
    outage = Outage(NEVER).run(10, hosts=("one", "other"))
    assert sorted(event.key for event in outage.incidents if isinstance(event, IncidentOpened)) == ["one", "other"]
    assert outage.last <= 1.01 * T


def test_a_call_is_parked_once_for_each_cause_not_for_each_break() -> None:
    outage = Outage(1200.0, max_retries=8).run(30)
    parked = Counter(event.call for event in outage.events if isinstance(event, Parked))
    probes = sum(outage.attempts.values()) - 30
    assert sum(parked.values()) == 1 + 30 + probes  # once, and once again for a call that has probed


def test_a_failed_probe_counts_by_the_policy_of_its_category() -> None:
    few = {Category.UNREACHABLE: Strategy(max_retries=1)}
    outage = Outage(NEVER, per_category=few, max_retries=9).run(10)
    assert outage.last == pytest.approx(90.0, abs=1.0)
    assert "out of retries (1)" in str(outage.ends["host", 9][1])


def test_a_call_out_of_time_ends_alone() -> None:
    outage = Outage(NEVER, max_elapsed=100.0).run(10)
    assert outage.last == pytest.approx(100.0, abs=1.0)
    errors = [error for _, error in outage.ends.values() if isinstance(error, CallRejectedError)]
    assert errors
    assert all("circuit open: download[host]" in str(error) for error in errors)


@settings(max_examples=25, deadline=None)
@given(
    calls=st.integers(1, 12),
    max_retries=st.integers(0, 4),
    break_duration=st.floats(1.0, 60.0),
    break_growth=st.floats(1.0, 3.0),
    permits=st.integers(1, 3),
)
def test_no_batch_outlasts_twice_the_time_of_one_call(
    calls: int, max_retries: int, break_duration: float, break_growth: float, permits: int
) -> None:
    breaker = BreakerPolicy(
        failure_threshold=1,
        break_duration=break_duration,
        break_growth=break_growth,
        half_open_permits=permits,
        counts="attempts",
    )
    alone, batch = (Outage(NEVER, breaker, max_retries=max_retries).run(number) for number in (1, calls))
    assert batch.last <= 2.0 * alone.last
    assert max(batch.attempts.values()) <= max_retries + 1
    assert len(batch.events) <= (6 * max_retries + 12) * (calls + 6)
