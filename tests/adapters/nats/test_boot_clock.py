"""A machine that was suspended: what it held and was sent before is as old as the servers find it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from adapters.nats.leases import Leases
from adapters.nats.names import Lane, Subjects
from adapters.nats.pulls import PUT_BACK, Pulls
from adapters.nats.server_clock import ServerClock
from tests.adapters.nats.test_pulls import Link

LEASE = 30.0
LANE = Lane("render")

pytestmark = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock runs while the machine sleeps")


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock that never stops run ahead of the monotonic one, as after a suspension of so many seconds."""
    read, slept = time.clock_gettime, list[float]()

    def clock_gettime(clock: int) -> float:
        return read(clock) + (sum(slept) if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    return slept.append


def test_a_lease_goes_on_while_the_machine_is_suspended(suspend: Callable[[float], None]) -> None:
    leases = Leases(lambda: pytest.fail("it is not started"), on_lost=print, on_cancel=print)
    leases.keep("lease", "render/one", 1, "token")
    suspend(LEASE)
    assert leases.clock() >= leases.confirmed("render/one", 1) + LEASE


def test_the_servers_time_goes_on_while_the_machine_is_suspended(suspend: Callable[[float], None]) -> None:
    async def main() -> None:
        async def ask() -> float:
            return 1000.0

        clock = ServerClock(ask)
        assert await clock.now() == pytest.approx(1000.0, abs=1.0)
        suspend(5.0)
        assert await clock.now() == pytest.approx(1005.0, abs=1.0)

    asyncio.run(main())


@pytest.mark.parametrize("slept", [0.0, LEASE])
def test_what_came_before_a_suspension_is_let_alone(suspend: Callable[[float], None], slept: float) -> None:
    async def flush(seconds: int) -> None:
        """What was on its way has come."""

    link = Link([LANE], are_empty=True)
    link.connection = SimpleNamespace(new_inbox=lambda: "inbox", flush=flush)
    message = SimpleNamespace(subject=Subjects("p").queue(LANE, "render/k"), reply="ack", headers=None)

    async def taken() -> object:
        pulls = Pulls(link, Subjects("p"), LEASE)  # type: ignore[arg-type]
        async with pulls.running():
            taking = asyncio.create_task(pulls.take([LANE], 0.05))
            while not any(b"expires" in wanted for _, wanted in link.asked):
                await asyncio.sleep(0)
            suspend(slept)
            await link.deliver(message)
            return await taking

    assert asyncio.run(taken()) is (None if slept else message)
    assert PUT_BACK not in [data for _, data in link.asked]
