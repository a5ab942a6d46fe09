"""What is known of the servers' clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.nats.errors import UnreachableError
from adapters.nats.server_clock import REFRESHED, ServerClock, better, estimate

seconds = st.floats(0.0, 10.0)


@given(there=seconds, back=seconds, ahead=st.floats(-1e6, 1e6), sent=st.floats(0.0, 1e6))
def test_an_estimate_errs_by_half_the_way_at_most(there: float, back: float, ahead: float, sent: float) -> None:
    offset = estimate(sent, sent + there + ahead, sent + there + back)
    assert abs(offset.seconds - ahead) <= offset.error + 1e-6


def test_the_more_exact_of_two_that_agree_is_gone_by() -> None:
    exact, vague = estimate(0.0, 100.0, 0.002), estimate(10.0, 110.2, 10.5)
    assert better(exact, vague).seconds == exact.seconds
    assert better(vague, estimate(20.0, 120.0, 20.002)).error < vague.error


def test_a_clock_that_was_set_is_believed() -> None:
    old, new = estimate(0.0, 100.0, 0.002), estimate(10.0, 150.0, 10.5)
    assert better(old, new) == new


class Servers:
    """A clock of servers that is ahead, and may be silent."""

    def __init__(self) -> None:
        self.time, self.ahead, self.is_silent, self.asked, self.late = 50.0, 1000.0, False, 0, 0.0

    def monotonic(self) -> float:
        return self.time

    async def ask(self) -> float:
        self.asked += 1
        if self.is_silent:
            raise UnreachableError("silent")
        stamped, self.time, self.late = self.time + self.ahead, self.time + self.late, 0.0
        return stamped


@pytest.mark.anyio
async def test_the_servers_are_asked_now_and_then_alone() -> None:
    servers = Servers()
    clock = ServerClock(servers.ask, servers.monotonic)
    for _ in range(50):
        assert await clock.now() == servers.time + 1000.0
        servers.time += REFRESHED / 10
    assert servers.asked == 5


@pytest.mark.anyio
async def test_an_answer_that_came_late_is_gone_by_for_a_moment_alone() -> None:
    servers = Servers()
    servers.late = 4.0
    clock = ServerClock(servers.ask, servers.monotonic)
    assert await clock.now() == servers.time + 998.0
    servers.time += 0.5
    assert await clock.now() == servers.time + 1000.0


@pytest.mark.anyio
async def test_while_the_servers_are_silent_their_last_time_goes_on() -> None:
    servers = Servers()
    clock = ServerClock(servers.ask, servers.monotonic)
    await clock.now()
    servers.is_silent, servers.time = True, 500.0
    assert await clock.now() == 1500.0


@pytest.mark.anyio
async def test_a_time_that_was_never_told_is_an_error() -> None:
    servers = Servers()
    servers.is_silent = True
    clock = ServerClock(servers.ask, servers.monotonic)
    for _ in "12":
        with pytest.raises(UnreachableError):
            await clock.now()
