"""The servers' clock, as an offset to the monotonic clock of this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from adapters.nats.boot_clock import boottime
from adapters.nats.errors import UnreachableError

REFRESHED = 10.0
"""Seconds after which the servers are asked again."""

EXACT = 0.05
"""Seconds of error up to which an answer is gone by for so long: one that came late tells little of their clock."""

ASKED_AGAIN = 0.2
"""Seconds after which they are asked again otherwise."""

DRIFT = 1e-4
"""How much less is known of the offset with each second: two clocks run apart by that at most."""


class Offset(msgspec.Struct, frozen=True):
    """What one answer tells of the servers' clock.

    Args:
        seconds: The servers' time, in seconds since the epoch, less the monotonic time.
        error: Seconds by which it may be wrong, either way.
        at: The monotonic time of the answer.
    """

    seconds: float
    error: float
    at: float


def estimate(sent: float, stamped: float, received: float) -> Offset:
    """The offset of an answer that the servers *stamped*, between the monotonic times *sent* and *received*."""
    return Offset(stamped - (sent + received) / 2, (received - sent) / 2, received)


def better(known: Offset | None, new: Offset) -> Offset:
    """The offset to go by: the *new* one, unless the *known* one is more exact and does not contradict it."""
    if known is None:
        return new
    doubt = known.error + DRIFT * (new.at - known.at)
    agrees = abs(new.seconds - known.seconds) <= doubt + new.error
    return Offset(known.seconds, doubt, new.at) if agrees and doubt < new.error else new


class ServerClock:
    """The servers' time, asked for now and then.

    Args:
        ask: Asks the servers for their time: seconds since the epoch. Raises UnreachableError.
        monotonic: Seconds of this process.
    """

    def __init__(self, ask: Callable[[], Awaitable[float]], monotonic: Callable[[], float] = boottime) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._offset: Offset | None = None
        self._next = 0.0

    async def now(self) -> float:
        """Seconds since the epoch, by the servers' clock; while no server answers, by the latest answer.

        Raises:
            UnreachableError: No server has ever answered.
        """
        if self._offset is None or self._monotonic() >= self._next:
            self._next = self._monotonic() + REFRESHED
            try:
                await self._refresh()
            except UnreachableError:
                if self._offset is None:
                    raise
            if self._offset is not None and self._offset.error > EXACT:
                self._next = self._monotonic() + ASKED_AGAIN
        assert self._offset is not None
        return self._monotonic() + self._offset.seconds

    async def _refresh(self) -> None:
        sent = self._monotonic()
        stamped = await self._ask()
        self._offset = better(self._offset, estimate(sent, stamped, self._monotonic()))
