"""``service.incidents``: the trouble of many calls, listed and steered as one; which call probes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from events.conditions import Condition
from events.errors import CallRejectedError
from events.evidence import Category
from events.incident_events import IncidentClosed
from events.operation import Operation
from events.operation_events import OperationStarted, Parked, RetryScheduled
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of

BREAKER = BreakerPolicy(failure_threshold=1, break_duration=10.0, break_growth=1.0, counts="attempts", lease=60.0)


class Host:
    """A host behind a circuit, which is open when its ``calls`` begin."""

    def __init__(self, breaker: BreakerPolicy = BREAKER, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock, rng=lambda: 0.0)
        self.is_up, self.takes = False, 0.01
        self.missing: set[int] = set()
        self.once: dict[int, Exception] = {}
        self.attempts: list[tuple[float, int]] = []
        self.done: list[int] = []
        self.errors: dict[int, Exception] = {}
        self.parked = events_of(self.service, Parked)

        settings = {"max_retries": 9, "when_open": "wait", **settings}

        @self.service.recoverable("get", breaker=breaker, key=lambda _: "host", **settings)
        async def get(number: int) -> None:
            self.attempts.append((self.clock(), number))
            await anyio.sleep(self.takes)
            if number in self.once:
                raise self.once.pop(number)
            if number in self.missing:
                raise LookupError(number)
            if not self.is_up:
                raise ConnectionRefusedError
            self.done.append(number)

        self.get = get

    async def call(self, number: int) -> None:
        try:
            await self.get(number)
        except Exception as error:
            self.errors[number] = error

    @asynccontextmanager
    async def calls(self, number: int) -> AsyncIterator[list[anyio.CancelScope]]:
        """The scopes of that many calls, which wait for the circuit."""
        scopes: list[anyio.CancelScope] = []

        async def call(one: int) -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await self.call(one)

        Operation("get", self.service.bus, key="host").start().fail(ConnectionRefusedError())
        async with anyio.create_task_group() as group:
            for one in range(number):
                group.start_soon(call, one)
            await anyio.sleep(1.0)
            yield scopes

    def run(self, main: Callable[[], Any], backend: str = "asyncio") -> None:
        self.clock.run(main, backend=backend)


def test_an_incident_is_one_line_with_one_estimate() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(30):
            (incident,) = host.service.incidents.open()
            assert str(incident) == "get[host]: unreachable: ConnectionRefusedError; 30 calls wait, next probe in 9 s"
            assert (incident.category, len(incident.waiting)) == (Category.UNREACHABLE, 30)
            host.takes = 5.0
            await anyio.sleep(10.0)
            assert str(host.service.incidents.open()[0]).endswith("29 calls wait, a probe is under way")
            host.is_up = True
        assert host.service.incidents.open() == []
        assert repr(host.service.incidents) == "<Incidents: none>"

    host.run(main)
    assert len(host.done) == 30


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_retry_now_has_one_call_probe_and_the_others_follow(backend: str) -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(10):
            host.is_up = True
            assert host.service.incidents.retry_now("get", key="host")
            await anyio.sleep(2.0)
            assert len(host.done) == 10
            assert not host.service.incidents.retry_now("get", key="host")  # there is none any more

    host.run(main, backend)
    assert host.clock() < 5.0


def test_to_give_up_an_incident_gives_up_its_calls_alone() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(5):
            assert host.service.incidents.give_up("get", "the site has moved", key="host") == 5
            await anyio.sleep(0.1)
            assert sorted(host.errors) == [0, 1, 2, 3, 4]

    host.run(main)
    assert all(isinstance(error, CallRejectedError) for error in host.errors.values())
    assert "the site has moved" in str(host.errors[0])


def test_the_turn_of_a_call_that_is_cancelled_goes_to_the_next() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3) as scopes:
            scopes[0].cancel()
            host.is_up = True
            await anyio.sleep(9.5)
            assert [number for _, number in host.attempts][:1] == [1]

    host.run(main)
    assert sorted(host.done) == [1, 2]


def test_a_probe_that_is_cancelled_hands_its_turn_to_the_next() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3) as scopes:
            host.takes = 30.0
            await anyio.sleep(15.0)  # call 0 probes
            host.is_up, host.takes = True, 0.01
            scopes[0].cancel()
            await anyio.sleep(1.0)
            assert len(host.done) == 2

    host.run(main)


def test_a_probe_that_hangs_holds_the_others_no_longer_than_its_lease() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3) as scopes:
            host.takes = 1000.0
            await anyio.sleep(60.0)
            assert [number for _, number in host.attempts] == [0]
            host.is_up, host.takes = True, 0.01
            await anyio.sleep(15.0)
            assert sorted(host.done) == [1, 2]
            scopes[0].cancel()

    host.run(main)


def test_a_call_that_comes_while_a_second_probe_is_under_way_waits_for_its_answer() -> None:
    host = Host()
    asked = events_of(host.service, OperationStarted)

    async def main() -> None:
        async with host.calls(2) as scopes:
            host.takes = 1000.0
            await anyio.sleep(80.0)  # call 1 probes, since call 0 has lost its permit
            assert [number for _, number in host.attempts] == [0, 1]
            asked.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(host.call, 2)
                await anyio.sleep(10.0)
                assert len(asked) == 1
                group.cancel_scope.cancel()
            for scope in scopes:
                scope.cancel()

    host.run(main)


def test_a_paused_call_does_not_probe_and_uses_no_retry() -> None:
    host = Host(max_retries=2)

    async def main() -> None:
        async with host.calls(2):
            first = host.service.incidents.open()[0].waiting[0]
            host.service.calls.pause(first)
            await anyio.sleep(100.0)
            assert sorted(host.errors) == [1]
            host.is_up = True
            host.service.calls.unpause(first)

    host.run(main)
    assert host.done == [0]


def test_a_probe_that_fails_for_a_reason_of_its_own_counts_for_its_call_alone() -> None:
    host = Host(max_retries=1)
    host.missing = {0}

    async def main() -> None:
        async with host.calls(3):
            pass

    host.run(main)
    assert isinstance(host.errors.pop(0), LookupError)
    assert host.clock() == pytest.approx(20.0, abs=0.1)  # two more probes: a retry for each of the others
    assert [number for _, number in host.attempts] == [0, 1, 2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_health_probe_closes_the_circuit_and_no_call_spends_a_retry(backend: str) -> None:
    asked: list[float] = []

    def reachable() -> bool:
        asked.append(host.clock())
        return host.is_up

    probe = Condition("host answers", reachable, every=5.0)
    host = Host(BreakerPolicy(failure_threshold=1, break_duration=10.0, counts="attempts", probe=probe), max_retries=0)
    retries = events_of(host.service, RetryScheduled)
    closed = events_of(host.service, IncidentClosed)

    async def main() -> None:
        async with host.calls(10):
            await anyio.sleep(3600.0)
            assert host.attempts == []
            host.is_up = True
            await anyio.sleep(15.0)

    host.run(main, backend)
    assert (sorted(host.done), retries) == (list(range(10)), [])
    assert asked[0] >= 10.0  # not during the break
    assert len(asked) < 3600 / 5 + 15  # one poll for all
    assert [event.outcome for event in closed if isinstance(event, IncidentClosed)] == ["recovered"]


def test_a_call_that_is_not_to_wait_probes_itself_where_a_health_probe_is_set() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    never = Condition("never", lambda: False)
    outcomes: list[Exception | None] = [ConnectionRefusedError(), None]

    @service.recoverable("get", max_retries=0, breaker=BreakerPolicy(failure_threshold=1, probe=never))
    def get() -> str:
        if (error := outcomes.pop(0)) is not None:
            raise error
        return "page"

    with pytest.raises(ConnectionRefusedError):
        get()
    with pytest.raises(CallRejectedError):
        get()
    clock.advance(30.0)
    assert get() == "page"


def test_a_circuit_that_is_forced_open_is_an_incident_until_it_is_forced_again() -> None:
    host = Host()
    closed = events_of(host.service, IncidentClosed)

    async def main() -> None:
        host.is_up = True
        host.service.circuits.force("get", "open", key="host")
        async with anyio.create_task_group() as group:
            group.start_soon(host.call, 1)
            await anyio.sleep(1.0)
            assert (
                str(host.service.incidents.open()[0])
                == "get[host]: forced open; 1 call waits, until it is forced again"
            )
            assert not host.service.incidents.retry_now("get", key="host")
            host.service.circuits.force("get", "auto", key="host")

    host.run(main)
    assert host.done == [1]
    assert [event.outcome for event in closed if isinstance(event, IncidentClosed)] == ["forced"]
