"""Secrets that a person wants remembered: the file ``<journal>.d/remembered``, which only its user can read (0600)."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec

from adapters.disk import decode_plain, try_lock, write_whole
from adapters.sqlite.files import check, folder_of, open_private, safe_folder_of
from recovery.journal.errors import JournalError
from recovery.journal.store import Remembered, Store, kept_after

MOST_BYTES = 1024 * 1024
LOCK_TIMEOUT = 2.0
"""Seconds to wait for another process that writes the file, which takes it milliseconds."""

log = logging.getLogger("recovery.journal")


def remembered_at(journal: Path) -> Path:
    """The file with the secrets of *journal*."""
    return folder_of(journal) / "remembered"


class KeepsSecrets(Store):
    """The part of a store with a file *path* that keeps secrets beside it."""

    path: Path

    async def remembered(self) -> Sequence[Remembered]:
        """The secrets in the file beside the journal; none, and a warning, if the file must not be believed."""
        try:
            return read_remembered(self.path)
        except (OSError, ValueError, JournalError) as error:
            log.warning("the answers that were remembered are not used: %s", error)
            return ()

    async def remember(self, changed: Sequence[Remembered]) -> None:
        """Keep or drop secrets in the file beside the journal, for every process of the journal."""
        await write_remembered(self.path, changed)


def read_remembered(journal: Path) -> list[Remembered]:
    """The secrets of *journal*. Raises JournalError, OSError or ValueError for a file that must not be believed."""
    path = remembered_at(journal)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    check(path, found)
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        raise JournalError(f"{path} can be read by other users: run `chmod 600` on it, or remove it")
    return decode_plain(path, list[Remembered], MOST_BYTES)


async def write_remembered(journal: Path, changed: Sequence[Remembered]) -> None:
    """Keep or drop secrets of *journal*; the file is replaced whole. Raises as ``read_remembered``."""
    if not any(one.value for one in changed) and not os.path.lexists(remembered_at(journal)):
        return
    folder = safe_folder_of(journal)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = open_private(folder / "remembered-lock")
    try:
        with anyio.fail_after(LOCK_TIMEOUT):
            while not try_lock(lock):
                await anyio.sleep(0.005)
        kept = kept_after(read_remembered(journal), changed)
        write_whole(remembered_at(journal), msgspec.json.encode(list(kept.values())))
    except TimeoutError:
        raise JournalError(f"another process has locked {folder / 'remembered-lock'} for {LOCK_TIMEOUT:g} s") from None
    finally:
        os.close(lock)
