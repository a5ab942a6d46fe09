"""End a transfer that trickles: bytes come, but too few of them in a window of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import msgspec

from adapters.downloads.partial_file import DownloadError
from events.errors import Retryable

MOST_GAP = 0.25
"""Share of the window that one gap between two chunks counts for at most, however long it is.

A gap is no trickle. The server verifies the file (Hugging Face pauses for more than 120 s; tt-studio #1017 allows
600 s), or this process was suspended, or the disk was slow. The client's read timeout ends a silence.
"""


TAIL = 0.1
"""Share of the least bytes that are enough in a window where fewer than these are left of the file."""


class Trickle(msgspec.Struct, frozen=True):
    """How few bytes are too few: 8.7 kB/s by default, which a slow mobile connection reaches.

    Args:
        least: Bytes that must come in a window; 0 ends no transfer.
        window: Seconds.

    Source: FluidAudio #811 ends a transfer of less than 1 MiB in 120 s.
    """

    least: int = 1024 * 1024
    window: float = 120.0


TRICKLE = Trickle()
"""1 MiB in 120 s."""


class TrickleError(DownloadError, Retryable):
    """Too few bytes came for too long. What came is kept, and the next attempt goes on from there."""


class Watchdog:
    """Ends a transfer in which the *least* bytes take longer than a window, or the last of a file ten times as long.

        with Watchdog("model.bin", TRICKLE, rest=size) as watchdog:  # raises TrickleError
            async for chunk in chunks:
                watchdog.feed(len(chunk))

    It cancels what is inside: an error raised between two chunks would leave the client's generators half-way.

    Args:
        name: What is transferred, for the message.
        trickle: How few bytes are too few.
        rest: Bytes that are still to come; None if that is unknown.
        clock: Seconds; by default those of the event loop.
    """

    __slots__ = ("_came", "_clock", "_fed_at", "_least", "_most_gap", "_name", "_rest", "_scope", "_seconds", "_window",
                 "ended")  # fmt: skip

    def __init__(
        self,
        name: str,
        trickle: Trickle,
        *,
        rest: int | None = None,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._name, self._least, self._window = name, trickle.least, trickle.window
        self._rest = math.inf if rest is None else rest
        self._most_gap = trickle.window * MOST_GAP
        self._clock = clock
        self._fed_at = clock()
        self._came, self._seconds = 0, 0.0
        self._scope: anyio.CancelScope | None = None
        self.ended: TrickleError | None = None
        """Why the transfer is ended; None if it goes on."""

    def __enter__(self) -> Self:
        self._scope = anyio.CancelScope().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._scope is not None
        is_cancelled_here = bool(self._scope.__exit__(kind, error, traceback))
        if is_cancelled_here and self.ended is not None:
            raise self.ended
        return is_cancelled_here

    def feed(self, count: int, /) -> None:
        """Note that *count* bytes have come; end the transfer if they are too few for too long."""
        now = self._clock()
        gap, self._fed_at = now - self._fed_at, now
        self._seconds += gap if gap < self._most_gap else self._most_gap
        self._came += count
        self._rest -= count
        if self._came >= self._least:
            self._came, self._seconds = 0, 0.0
        elif self._seconds >= self._window and self.ended is None:
            least = self._least if self._rest >= self._least else int(self._least * TAIL)
            if self._came >= least or not self._rest:
                self._came, self._seconds = 0, 0.0
                return
            self.ended = TrickleError(
                f"{self._name}: only {self._came} bytes came in {self._seconds:.0f} s, and at least {least} are "
                "expected; the next attempt asks for the rest"
            )
            if self._scope is not None:
                self._scope.cancel()
