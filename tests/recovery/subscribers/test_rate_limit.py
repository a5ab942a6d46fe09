"""A server that asks for a pause, and everybody who would ask it next."""

from __future__ import annotations

import anyio
import pytest

from events.attempt import Attempt
from events.call import Call
from events.errors import CallRejectedError
from events.operation import Operation
from events.operation_events import FailureClassified, Parked
from events.verdicts import Park
from recovery.service import Recovery
from recovery.subscribers import rate_limit
from recovery.testing import VirtualClock
from tests.recorded_events import events_of

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class LimitedError(Exception):
    status = 429

    def __init__(self, wait: int) -> None:
        self.headers = {"Retry-After": str(wait)}


class Hosts:
    """Downloads from several hosts, emitted by hand."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock)
        self.call = self.service.recoverable("download", key=lambda host: host)(lambda _: None)

    def part(self, host: str) -> Operation:
        definition = self.service._registry.get("download")
        assert definition is not None
        return definition.keyed(host)

    def limit(self, host: str, wait: int = 60) -> None:
        """Somebody who asked *host* is told to wait."""
        attempt = Attempt(Call(self.part(host), "a"))
        assert isinstance(attempt.fail(LimitedError(wait)), Park)


@BACKENDS
def test_a_rate_limit_holds_the_whole_host_and_costs_the_others_no_attempt(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    failures = events_of(service, FailureClassified)
    done: dict[int, float] = {}

    @service.recoverable("download", key=lambda host, _: host)
    async def download(host: str, number: int) -> None:
        if number == 0 and clock() < 60.0:
            raise LimitedError(60)
        assert clock() >= 60.0, "it was asked during the pause"
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


def test_other_hosts_are_asked_as_before() -> None:
    hosts = Hosts()
    hosts.limit("hf.co")
    hosts.part("civitai.com").start().succeed()
    with pytest.raises(CallRejectedError, match=r"rate limit: download\[hf.co\]; come back in 6"):
        hosts.part("hf.co").start()


def test_when_the_pause_is_over_nobody_looks_at_starts_any_more() -> None:
    hosts = Hosts()
    hosts.limit("hf.co", wait=60)
    part = hosts.part("hf.co")
    assert part.is_observed
    hosts.clock.advance(60.0)
    part.start().succeed()
    assert not part.is_observed


@pytest.mark.parametrize("waits", [(100, 20), (20, 100)])
def test_of_several_pauses_the_longest_counts(waits: tuple[int, int]) -> None:
    hosts = Hosts()
    for wait in waits:
        hosts.limit("hf.co", wait=wait)
    hosts.clock.advance(99.0)
    with pytest.raises(CallRejectedError):
        hosts.part("hf.co").start()


def test_nobody_comes_back_before_the_pause_is_over() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0)
    parked = events_of(service, Parked)
    told: list[float] = []

    attempt = service.operation("fetch").start()
    attempt.fail(LimitedError(60))
    service.recoverable("fetch")(lambda: told.append(clock()))()
    assert told == [60.0]
    assert [event.after for event in parked] == [60.0, 60.0]  # type: ignore[attr-defined]


def test_a_limit_without_a_wish_holds_nobody() -> None:
    class BareError(Exception):
        status = 429

    service = Recovery(clock=VirtualClock())
    operation = service.operation("fetch")
    operation.start().fail(BareError())
    assert not operation.is_observed


def test_the_pauses_of_very_many_hosts_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rate_limit.MAX_KEYS == 1024
    monkeypatch.setattr(rate_limit, "MAX_KEYS", 64)
    hosts = Hosts()
    for number in range(100):
        hosts.limit(f"host {number}")
    assert len(hosts.service.pauses._subscriptions) == len(hosts.service.pauses._until) == 64
