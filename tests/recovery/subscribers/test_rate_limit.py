"""A rate limit that a server tells one call defers the other calls to the same host."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from events.attempt import Attempt
from events.call import Call
from events.errors import CallRejectedError
from events.operation import Operation
from events.operation_events import CallSteered, FailureClassified, Parked
from events.verdicts import Park
from recovery.presets import launcher
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.http_errors import answered


def limited(wait: int) -> Exception:
    return answered(429, Retry_After=str(wait))


class Hosts:
    """Downloads from several hosts, emitted by hand."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock, **options)
        self.download = self.service.recoverable("download", key=lambda host: host)(lambda _: None)

    def keyed(self, host: str) -> Operation:
        return Operation("download", self.service.bus, key=host)

    def limit(self, host: str, wait: int = 60) -> None:
        """The server tells one call to *host* to wait."""
        attempt = Attempt(Call(self.keyed(host), "a"))
        assert isinstance(attempt.fail(limited(wait)), Park)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_rate_limit_defers_the_other_calls_to_its_host(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    failures = events_of(service, FailureClassified)
    done: dict[int, float] = {}

    @service.recoverable("download", key=lambda host, _: host)
    async def download(host: str, number: int) -> None:
        if number == 0 and clock() < 60.0:
            raise limited(60)
        assert clock() >= 60.0, "the host was asked during the limit"
        done[number] = clock()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(download, "hf.co", 0)
            await anyio.sleep(1.0)
            for number in range(1, 20):
                group.start_soon(download, "hf.co", number)

    clock.run(main, backend=backend)
    assert (len(done), len(failures)) == (20, 1)
    assert len(set(done.values())) > 15  # each at its own moment


@pytest.mark.parametrize("key", [None, lambda _: "hf.co"])
def test_neither_first_attempts_nor_retries_begin_during_the_limit_of_their_host(key: Any) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    began: list[float] = []

    @service.recoverable("download", key=key, initial_delay=2.0, jitter="none")
    async def download(number: int) -> None:
        began.append(clock())
        if clock() >= 31.0:
            return
        if number == 0:
            await anyio.sleep(1.0)
            raise limited(30)
        raise ConnectionResetError  # to be retried after 2 s

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(download, number)
            await anyio.sleep(5.0)
            for number in range(4, 8):
                group.start_soon(download, number)

    clock.run(main)
    assert began[:4] == [0.0] * 4
    assert len(began) == 12
    assert 31.0 <= min(began[4:]) < max(began[4:]) <= 36.0
    assert len(set(began[4:])) > 5


@pytest.mark.parametrize("preset", [Recovery, launcher])
def test_eight_rate_limits_of_a_second_take_hardly_more_than_eight_seconds(preset: Any) -> None:
    clock = VirtualClock()
    attempts = 0

    @preset(clock=clock, enable_logging=False).recoverable("fetch")
    def fetch() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 8:
            raise limited(1)

    fetch()
    assert 8.0 <= clock() <= 10.0


def test_until_the_limit_is_over_starts_of_that_host_alone_are_observed() -> None:
    hosts = Hosts()
    hosts.limit("hf.co", wait=60)
    host = hosts.keyed("hf.co")
    hosts.keyed("civitai.com").start().succeed()
    with pytest.raises(CallRejectedError, match=r"rate limit: download\[hf.co\]; come back in 6"):
        host.start()
    assert host.is_observed
    hosts.clock.advance(60.0)
    host.start().succeed()
    assert not host.is_observed


@pytest.mark.parametrize("waits", [(100, 20), (20, 100)])
def test_of_several_limits_the_longest_counts(waits: tuple[int, int]) -> None:
    hosts = Hosts()
    for wait in waits:
        hosts.limit("hf.co", wait=wait)
    hosts.clock.advance(99.0)
    with pytest.raises(CallRejectedError):
        hosts.keyed("hf.co").start()


def test_no_call_resumes_before_the_limit_is_over() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0)
    parked = events_of(service, Parked)
    asked: list[float] = []
    attempt = service.operation("fetch").start()
    attempt.fail(limited(60))
    service.recoverable("fetch")(lambda: asked.append(clock()))()
    assert asked == [60.0]
    assert [event.after for event in parked] == [60.0, 60.0]  # type: ignore[attr-defined]


def test_a_limit_without_a_wait_defers_no_call() -> None:
    operation = Recovery(clock=VirtualClock()).operation("fetch")
    operation.start().fail(answered(429))
    assert not operation.is_observed


def test_the_number_of_rate_limits_is_bounded() -> None:
    hosts = Hosts(max_keys=64)
    for number in range(100):
        hosts.limit(f"host {number}")
    assert sum(hosts.keyed(f"host {number}").is_observed for number in range(100)) == 64


def test_a_person_hastens_no_call_that_waits_for_a_rate_limit_alone() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, enable_logging=False)
    steered = events_of(service, CallSteered)
    script = Script(limited(60), "first", "second")
    download = service.recoverable("download")(script.as_async())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):  # the second one is deferred
                group.start_soon(download)
                await anyio.sleep(1.0)
            before = {call.call: call.due for call in service.calls.waiting()}
            assert [service.calls.retry_now(call) for call in before] == [False, False]
            assert ({call.call: call.due for call in service.calls.waiting()}, steered) == (before, [])
            one, _ = before
            assert [service.calls.pause(one), service.calls.retry_now(one)] == [True, True]  # that continues it
            await anyio.sleep(1.0)
            assert [call.is_paused for call in service.calls.waiting()] == [False, False]
            assert script.calls == 1

    clock.run(main)
    assert (script.calls, clock() >= 60.0) == (3, True)
