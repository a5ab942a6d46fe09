"""What a call has come to while it runs here: written to its record, the latest of it, one write at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from adapters.nats import transitions
from adapters.nats.engine import AGAIN
from adapters.nats.errors import ChangeRefusedError, ClusterError, LeaseLostError, TooLargeError
from adapters.nats.holding import Holding
from adapters.nats.outcomes import Ends
from adapters.nats.record import MAX_CHECKPOINT, CallRecord, Change, Standing, too_large

PAUSE = 0.1
"""Seconds between two writes: what a body saves meanwhile takes the place of what it saved before."""


class Come(msgspec.Struct, frozen=True):
    """What is not written yet.

    Args:
        standing: Where another attempt has begun; None if none has.
        saved: The latest checkpoint; None for none.
        done: How far the attempt that runs has come.
        is_further: Whether it has saved a checkpoint, or made progress.
    """

    standing: Standing | None = None
    saved: bytes | None = None
    done: float = 0.0
    is_further: bool = False

    def change(self, record: CallRecord, now: float) -> Change:
        """What is written of it."""
        if self.standing is not None:
            standing = msgspec.structs.replace(self.standing, as_of=now)
            record = transitions.goes_on(record, standing, now).record
        if self.is_further:
            return transitions.came_further(record, self.saved, self.done, now)
        return Change(record=msgspec.structs.replace(record, updated=now), saved=self.saved)


class Checkpoints:
    """Writes what a call has come to while it runs. All of it happens in one asyncio loop.

    Args:
        holding: The call.
        now: Seconds since the epoch, by the servers' clock.
        on_lost: Told that the call is not held here any more, and why.
        on_refused: Told that a checkpoint is not written, and why.
        on_written: Told of the record after each write.
    """

    def __init__(
        self,
        holding: Holding,
        now: Callable[[], Awaitable[float]],
        on_lost: Callable[[str], None],
        on_refused: Callable[[str], None],
        on_written: Callable[[CallRecord], None] = lambda record: None,
    ) -> None:
        self._holding, self._now = holding, now
        self._on_lost, self._on_refused, self._on_written = on_lost, on_refused, on_written
        self._come = Come()
        self._has_come, self._is_over = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._write_all())

    def saved(self, data: bytes) -> None:
        """The call has saved a checkpoint."""
        if len(data) > MAX_CHECKPOINT:
            cure = "save where the data is, not the data; the checkpoint before stays"
            self._on_refused(too_large("a checkpoint", len(data), MAX_CHECKPOINT, cure))
            self._noted(msgspec.structs.replace(self._come, is_further=True))
        else:
            self._noted(msgspec.structs.replace(self._come, saved=data, is_further=True))

    def progressed(self, done: float) -> None:
        """The call has come as far as *done*."""
        self._noted(msgspec.structs.replace(self._come, done=max(done, self._come.done), is_further=True))

    def retried(self, standing: Standing) -> None:
        """Another attempt begins here."""
        self._noted(msgspec.structs.replace(self._come, standing=standing, is_further=False))

    async def end(self, ends: Ends) -> Ends:
        """Write no more by itself, and return *ends* with the checkpoint that is not written yet."""
        self.close()
        await asyncio.wait([self._task])
        come = self._come

        def ended(record: CallRecord, now: float) -> Change | str:
            change = ends(record, now)
            if isinstance(change, str) or come.saved is None or change.record.state == "succeeded":
                return change
            return msgspec.structs.replace(change, saved=come.saved)

        return ended

    def close(self) -> None:
        """Write no more by itself."""
        self._is_over.set()
        self._has_come.set()

    def _noted(self, come: Come) -> None:
        self._come = come
        self._has_come.set()

    async def _write_all(self) -> None:
        while not self._is_over.is_set():
            await self._has_come.wait()
            self._has_come.clear()
            if not self._is_over.is_set() and not await self._write():
                return
            await self._pause(PAUSE)

    async def _write(self) -> bool:
        come, self._come = self._come, Come()
        now = 0.0

        def written(record: CallRecord) -> Change:
            return come.change(record, now)

        while True:
            try:
                now = await self._now()
                self._on_written(await self._holding.apply(written))
                return True
            except LeaseLostError as error:
                self._on_lost(str(error))
                return False
            except (TooLargeError, ChangeRefusedError) as error:
                self._on_refused(str(error))
                return True
            except ClusterError:  # no server answers, or they refuse it: their disk may be full
                if self._is_over.is_set():
                    if self._come.saved is None:  # it goes with the end of the call
                        self._come = msgspec.structs.replace(self._come, saved=come.saved)
                    return False
                await self._pause(AGAIN)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_over.wait(), seconds)
