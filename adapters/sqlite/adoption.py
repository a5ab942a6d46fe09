"""Adoption: what dead processes left in other files is copied into ours.

Their side files are removed then. From the journal's own file, only the calls that are not over are copied. That file
is neither changed nor removed: the process that opens it next adopts ours, and finds there how these calls went on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, suppress
from itertools import chain
from pathlib import Path

from adapters.sqlite.dating import Dating
from adapters.sqlite.files import companions_of, folder_of, journal_files, quarantine, side_files
from adapters.sqlite.lock import Lock
from adapters.sqlite.orphans import (
    Slice,
    Stamp,
    Unusable,
    calls_left_in,
    pending_in,
    slices_of,
    slices_of_calls,
    stamp_of,
)
from recovery.journal.errors import DamagedJournalError, ForeignJournalError, JournalError, NewerJournalError
from recovery.journal.history import CallRecord
from recovery.journal.store import Wants

LOOK_SECONDS = 0.05
"""How long an adoption takes at a time, about: commits wait for it."""

log = logging.getLogger("recovery.journal")


class Adoption:
    """Copies what dead processes left beside and in the journal *path* with *write*, and then calls *sync*.

    *dating* tells how this process dates its rows; without it, copied rows keep their dates.

    The lock of a side file that was copied but not removed yet is kept: another process would run its calls, too. The
    lock of the journal's own file is kept until ``release``, for the same reason.
    """

    def __init__(
        self,
        path: Path,
        write: Callable[[Slice], Awaitable[None]],
        sync: Callable[[], Awaitable[None]],
        dating: Dating | None = None,
    ) -> None:
        self._path = path
        self._write = write
        self._sync = sync
        self._dating = dating
        self._locks: dict[Path, Lock] = {}
        self._main = Lock(path)
        self._has_main = False
        self._looked_at: dict[Path, Stamp] = {}
        """Files of dead processes of which nothing can be adopted, as they were then: see ``_is_new``."""
        self._unwanted: dict[Path, tuple[Stamp, CallRecord]] = {}
        """Files of dead processes with a call that this one cannot resume, which is the other item."""
        self._said: set[str] = set()
        self._steps: AsyncGenerator[None, None] | None = None  # of an adoption that is not finished

    async def run(
        self, own: Path, *, with_main: bool = True, wants: Wants | None = None, seconds: float = LOOK_SECONDS
    ) -> bool:
        """Adopt every orphan but *own*, and the journal's own file only *with_main*; whether there was anything.

        A file with a pending call that *wants* refuses is left to another process.

        It takes about *seconds*, and the next call continues: until it returns False, there may be more. One process at
        a time adopts. To repeat an adoption that broke off adds nothing: rows have an identity.
        """
        end, found = time.monotonic() + seconds, False
        if self._steps is None:
            self._steps = self._adopt_all(own, with_main=with_main, wants=wants)
        try:
            async for _ in self._steps:
                found = True
                if time.monotonic() >= end:
                    return True
        except BaseException:
            self._steps = None
            raise
        self._steps = None
        return found

    async def break_off(self) -> None:
        """Let the next ``run`` begin again: it may write another file."""
        steps, self._steps = self._steps, None
        if steps is not None:
            await steps.aclose()

    async def _adopt_all(self, own: Path, *, with_main: bool, wants: Wants | None) -> AsyncGenerator[None, None]:
        """Adopt, a step after another."""
        with_main = with_main and own != self._path
        if not any(path != own for path in side_files(self._path)) and not (with_main and self._path.exists()):
            return
        lock = Lock(folder_of(self._path) / "adopting")
        if not lock.path.parent.is_dir() or not lock.take():
            return
        try:
            # Before the side files: an earlier heir of the journal releases its side file first, so it is found here.
            inherits = with_main and self._take_main()
            if inherits and not await self._is_wanted(self._path, wants):
                inherits = False
                self._main.release()
            for path, orphan in chain(list(self._locks.items()), self._orphans(own)):
                if path not in self._locks and not await self._is_wanted(path, wants):
                    orphan.release()
                    continue
                self._locks[path] = orphan
                async with aclosing(self._adopt(path, orphan)) as steps:
                    async for _ in steps:
                        yield
            if inherits:
                async with aclosing(self._copy_main(own)) as steps:
                    async for _ in steps:
                        yield
        finally:
            lock.release()

    async def _is_wanted(self, path: Path, wants: Wants | None) -> bool:
        """Whether *wants* accepts every call that is pending in *path*."""
        if wants is None:
            return True
        stamp, refused = self._unwanted.get(path, ((), None))
        if refused is not None and stamp == stamp_of(path) and not wants(refused):
            return False
        self._unwanted.pop(path, None)
        try:
            refused = next((record for record in await pending_in(path) if not wants(record)), None)
        except Unusable:
            return True  # the adoption says why
        if refused is not None:
            self._unwanted[path] = stamp_of(path), refused
        return refused is None

    def _orphans(self, own: Path) -> Iterator[tuple[Path, Lock]]:
        """The side files whose lock was free, each with that lock, which is ours now."""
        for path in side_files(self._path):
            lock = Lock(path)
            try:
                is_free = path != own and self._is_new(path) and lock.take()
            except (JournalError, OSError) as error:
                self._warn(error)
                continue
            if is_free:
                yield path, lock

    async def _adopt(self, path: Path, lock: Lock) -> AsyncGenerator[None, None]:
        try:
            async with aclosing(self._copy(slices_of(path, self._dating))) as steps:
                async for _ in steps:
                    yield
        except Unusable as unusable:
            [error] = unusable.args
            if isinstance(error, DamagedJournalError):
                log.warning("%s; it is kept as %s", error, quarantine(path))
                lock.retire()
            else:
                self._warn(error)
                if isinstance(error, ForeignJournalError | NewerJournalError):
                    self._looked_at[path] = stamp_of(path)
            self._locks.pop(path).release()
            return
        await self._sync()
        # The log goes before its file: what a kill in between leaves is whole.
        for name in (*companions_of(path), path):
            name.unlink(missing_ok=True)
        lock.retire()
        del self._locks[path]
        yield

    def _take_main(self) -> bool:
        """Whether the journal's own file is to be copied: its process is dead, and this has not been done."""
        if self._has_main or not self._path.exists() or not self._is_new(self._path):
            return False
        try:
            return self._main.is_held or self._main.take()
        except (JournalError, OSError) as error:
            self._warn(error)
            return False

    async def _copy_main(self, own: Path) -> AsyncGenerator[None, None]:
        try:
            calls = await calls_left_in(self._path, lambda: self.elsewhere(own))
            async with aclosing(self._copy(slices_of_calls(self._path, calls, self._dating))) as steps:
                async for _ in steps:
                    yield
        except Unusable as unusable:
            self._warn(unusable.args[0])
            calls = []
        if calls:
            await self._sync()
            self._has_main = True
        else:  # the process that opens it next finds its own calls and results in it, or quarantines it
            self._looked_at[self._path] = stamp_of(self._path)
            self._main.release()

    def _is_new(self, path: Path) -> bool:
        """Whether *path* has changed since it was found that nothing in it can be adopted, if ever."""
        return self._looked_at.get(path) != stamp_of(path)

    async def take_over(self, own: Path, calls: Collection[str]) -> None:
        """Copy every row of *calls* from the other files that can be read, those of living processes too."""
        while True:
            paths = [path for path in journal_files(self._path) if path != own]
            for path in paths:
                with suppress(Unusable):
                    async with aclosing(self._copy(slices_of_calls(path, calls, self._dating))) as steps:
                        async for _ in steps:
                            pass
            if all(path.exists() for path in paths):
                return  # otherwise a file was adopted meanwhile: its rows are in another one

    async def _copy(self, slices: AsyncGenerator[Slice, None]) -> AsyncGenerator[None, None]:
        """Write *slices*, one at each step."""
        async with aclosing(slices):
            async for one in slices:
                await self._write(one)
                yield

    def elsewhere(self, own: Path) -> list[Path]:
        """The side files that are not ours: those of living processes."""
        return [path for path in side_files(self._path) if path != own and path not in self._locks]

    def _warn(self, error: Exception) -> None:
        """Log why the file of a dead process is not adopted, once for each reason: the next look will try again."""
        if str(error) not in self._said:
            self._said.add(str(error))
            log.warning("the file of a dead process is not adopted: %s", error)

    def release(self) -> None:
        """Release every lock that is kept."""
        while self._locks:
            self._locks.popitem()[1].release()
        self._main.release()
        self._has_main = False
