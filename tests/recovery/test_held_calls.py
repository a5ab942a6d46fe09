"""Calls that an open circuit holds: when their turn comes, what ends their wait, and what does not."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable

import anyio
import pytest

from events.conditions import Condition
from events.errors import CallRejectedError, Retryable
from events.incident_events import IncidentClosed
from events.operation import Operation
from events.operation_events import Parked
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.service import Recovery
from tests.recorded_events import events_of
from tests.recovery.test_incidents import BREAKER, Host


def test_retry_now_reaches_a_call_that_has_failed_itself_on_a_real_clock() -> None:
    service = Recovery()
    attempts: list[float] = []

    @service.recoverable("get", breaker=BREAKER, when_open="wait", initial_delay=0.0)
    def get() -> None:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            raise ConnectionRefusedError

    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    for _ in range(500):
        if service.incidents.open() and service.incidents.open()[0].waiting:
            break
        time.sleep(0.002)
    assert service.incidents.retry_now("get")
    thread.join(5.0)
    assert len(attempts) == 2


def test_a_circuit_that_closes_between_a_failure_and_its_wait_holds_the_call_no_longer() -> None:
    host = Host()

    def close(event: Parked) -> None:
        host.is_up = True
        host.service.circuits.force("get", "auto", key="host")

    host.service.bus.subscribe(Parked, close)
    host.run(lambda: host.call(1))
    assert host.done == [1]
    assert host.clock() < BREAKER.break_duration


def test_an_operation_that_is_forced_open_holds_the_calls_of_its_keys() -> None:
    host = Host()
    closed = events_of(host.service, IncidentClosed)

    async def main() -> None:
        host.service.circuits.force("get", "open")
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(host.call, number)
            await anyio.sleep(1.0)
            (incident,) = host.service.incidents.open()
            assert str(incident) == "get: forced open; 3 calls wait, until it is forced again"
            assert host.service.incidents.give_up("get", "maintenance") == 3

    host.run(main)
    assert all(isinstance(error, CallRejectedError) for error in host.errors.values())
    host.service.circuits.force("get", "auto")
    assert [(event.calls, event.gave_up) for event in closed if isinstance(event, IncidentClosed)] == [(3, 3)]


def test_an_operation_that_is_forced_leaves_the_open_circuit_of_a_key_its_calls() -> None:
    host = Host(max_retries=2)

    async def main() -> None:
        async with host.calls(9):
            host.service.circuits.force("get", "open")
            host.service.circuits.force("get", "auto")
            await anyio.sleep(1.0)
            assert len(host.service.incidents.open()[0].waiting) == 9

    host.run(main)
    assert len(host.errors) == 9
    assert [round(at) for at, _ in host.attempts] == [10, 20, 30]  # one probe for each break, which counts for all


def test_a_wait_that_a_server_asked_for_does_not_end_with_the_circuit() -> None:
    host = Host()
    host.once[0] = Retryable("busy", after=600.0)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(host.call, 0)
            group.start_soon(host.call, 1)
            await anyio.sleep(5.0)
            host.is_up = True

    host.run(main)
    assert [number for _, number in host.attempts] == [0, 1, 1, 0]
    assert [at for at, _ in host.attempts[2:]] == pytest.approx([10.0, 600.0], abs=0.5)  # the other did not wait for it


def test_a_call_that_is_refused_its_turn_asks_again_when_the_probe_may_have_answered() -> None:
    host = Host()

    def end_a_busy_loop(event: Parked) -> None:
        if len(host.parked) > 50:
            host.service.circuits.force("get", "closed", key="host")

    async def main() -> None:
        operation = Operation("get", host.service.bus, key="host")
        operation.start().fail(ConnectionRefusedError())
        host.service.bus.subscribe(Parked, end_a_busy_loop)
        await anyio.sleep(10.0)
        operation.start()  # it never ends
        await anyio.sleep(61.0)
        probe = operation.start()
        parked = len(host.parked)
        async with anyio.create_task_group() as group:
            group.start_soon(host.call, 1)
            await anyio.sleep(30.0)
            assert len(host.parked) == parked + 1
            host.is_up = True
            probe.succeed()

    host.run(main)
    assert host.done == [1]


def test_a_call_that_a_person_retries_leaves_the_turn_to_the_next() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3):
            host.service.calls.retry_now(host.service.incidents.open()[0].waiting[0])  # the circuit refuses it
            host.is_up = True

    host.run(main)
    assert sorted(host.done) == [0, 1, 2]
    assert host.attempts[0][0] == pytest.approx(10.0)


def test_the_turn_of_a_call_that_is_given_up_goes_to_the_next() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3):
            host.service.calls.give_up(host.service.incidents.open()[0].waiting[0])
            host.is_up = True

    host.run(main)
    assert sorted(host.done) == [1, 2]
    assert host.attempts[0][0] == pytest.approx(10.0)


def probed(host_is_up: list[bool], *, failures: int) -> BreakerPolicy:
    probe = Condition("host answers", lambda: host_is_up[0], every=5.0)
    return BreakerPolicy(failure_threshold=failures, break_duration=10.0, counts="attempts", probe=probe)


def test_a_circuit_is_not_forgotten_while_calls_wait_for_its_health_probe() -> None:
    is_up = [False]
    host = Host(probed(is_up, failures=1))

    @host.service.recoverable("other", max_retries=0)
    async def other() -> None:
        raise ConnectionError

    async def main() -> None:
        async with host.calls(3):
            await anyio.sleep(7200.0)
            with pytest.raises(ConnectionError):
                await other()
            await anyio.sleep(60.0)
            assert host.attempts == []
            is_up[0] = host.is_up = True

    host.run(main)
    assert len(host.done) == 3


def test_conditions_of_one_name_are_not_different() -> None:
    one, other = (Condition("host answers", lambda: False) for _ in range(2))
    assert not one != other  # noqa: SIM202  # which Python does not derive from ==, for a msgspec.Struct
    assert one != Condition("another", one.is_met)


def test_retry_now_asks_the_health_probe() -> None:
    is_up = [False]
    host = Host(probed(is_up, failures=1))

    async def main() -> None:
        async with host.calls(3):
            is_up[0] = host.is_up = True
            assert host.service.incidents.retry_now("get", key="host")
            assert str(host.service.incidents.open()[0]).endswith("3 calls wait, next probe at once")
            await anyio.sleep(1.0)
            assert len(host.done) == 3

    host.run(main)


@pytest.mark.parametrize("cancelled_after", [0.005, 5.0])
def test_a_call_that_probes_beside_a_health_probe_burns_no_retry_of_those_that_wait(cancelled_after: float) -> None:
    is_up = [False]
    host = Host(probed(is_up, failures=3), when_open="reject", max_retries=1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(host.call, number)
            await anyio.sleep(11.0)
            with anyio.move_on_after(cancelled_after):
                await host.call(3)
            await anyio.sleep(900.0)
            assert [number for _, number in host.attempts] == [0, 1, 2, 3]
            is_up[0] = host.is_up = True

    host.run(main)
    assert sorted(host.done)[:3] == [0, 1, 2]


def test_an_incident_whose_circuit_has_expired_is_over() -> None:
    host = Host()
    closed = events_of(host.service, IncidentClosed)
    Operation("get", host.service.bus, key="host").start().fail(ConnectionRefusedError())
    host.clock.advance(3700.0)
    assert host.service.incidents.open() == []
    host.service.circuits.force("get", "open", seconds=10.0)
    assert str(host.service.incidents.open()[0]) == "get: forced open; no call waits, for 10 s"
    host.clock.advance(20.0)
    assert host.service.incidents.open() == []
    assert [event.outcome for event in closed if isinstance(event, IncidentClosed)] == ["forgotten", "forced"]


def test_an_incident_tells_that_its_circuit_has_been_forced_open_since() -> None:
    host = Host()
    Operation("get", host.service.bus, key="host").start().fail(ConnectionRefusedError())
    host.service.circuits.force("get", "open", key="host")
    assert str(host.service.incidents.open()[0]) == ("get[host]: forced open; no call waits, until it is forced again")


def test_an_operation_that_takes_a_dead_name_begins_without_its_incident() -> None:
    service = Recovery()

    def define(answer: str) -> Callable[[], str]:
        @service.recoverable(when_open="reject")
        def get() -> str:
            return answer

        return get

    get = define("first")
    service.circuits.force(f"{get.__module__}.{get.__qualname__}", "open")
    del get
    gc.collect()
    assert len(service.incidents.open()) == 1
    assert define("second")() == "second"
    assert service.incidents.open() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_an_open_circuit_holds_the_calls_of_a_forked_child() -> None:
    service = Recovery()

    @service.recoverable("get", breaker=BREAKER, when_open="wait")
    def get() -> None:
        """Succeed."""

    Operation("get", service.bus).start().fail(ConnectionRefusedError())
    child = os.fork()
    if child == 0:
        threading.Thread(target=get, daemon=True).start()
        for _ in range(500):
            if service.incidents.open()[0].waiting:
                os._exit(0)
            time.sleep(0.002)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
