"""Follow a journal: its status whenever its files have changed, and which calls stand otherwise than before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
from msgspec.structs import replace

from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.sqlite.files import journal_files, log_of
from events.errors import RecoveryError

FAILED = ("quarantined", "unreadable", "gave up", "rejected", "failed")
"""The states of calls that went wrong for good, unless a person does something."""
LOOK_AGAIN = 5.0
"""Seconds after which a journal is read although no file has changed: its process may have died."""
RESTS = 3.0
"""How much longer than a reading the pause after it is at least: a large journal takes a quarter of a processor."""

Stamp: TypeAlias = tuple[tuple[str, int, int], ...]


def only_failed(status: JournalStatus) -> JournalStatus:
    """*status* with the calls that went wrong for good, and no others."""
    calls = tuple(call for call in status.calls if call.state in FAILED)
    return replace(status, calls=calls, more={state: n for state, n in status.more.items() if state in FAILED})


def changed(before: JournalStatus | None, after: JournalStatus) -> list[CallStatus]:
    """The calls that stand otherwise in *after* than *before*, the earliest change first.

    Without *before*, these are the calls that are not over, and those that failed.
    """
    if before is None:
        found = [call for call in after.calls if not call.is_over or call.state in FAILED]
    else:
        known = {call.call: _standing(call) for call in before.calls}
        found = [call for call in after.calls if known.get(call.call) != _standing(call)]
    return sorted(found, key=lambda call: call.seen)


def _standing(call: CallStatus) -> tuple[object, ...]:
    return (
        call.state,
        call.attempt,
        call.restarts,
        call.waits_for,
        call.cause,
        call.reason,
        call.note,
        call.ordered,
        call.refused,
    )


def watched(
    journal: Path,
    *,
    show_all: bool = False,
    pause: Callable[[], object] = lambda: time.sleep(1.0),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[JournalStatus]:
    """The status of *journal*, and again whenever its files have changed, without an end.

    Args:
        journal: The journal's file.
        show_all: As in ``read_status``.
        pause: Waits between two looks.
        clock: Returns monotonic seconds.

    Raises:
        FileNotFoundError, JournalError: The first reading failed. Later ones are tried again.
    """
    stamp, began = stamp_of(journal), clock()
    yield _read(journal, show_all=show_all)
    read_at = clock()
    while True:
        pause()
        latest, now = stamp_of(journal), clock()
        is_changed = latest != stamp or now - read_at >= LOOK_AGAIN
        if not is_changed or now - read_at < RESTS * (read_at - began):
            continue
        with suppress(RecoveryError, OSError):  # the file is moved, or being replaced
            began = now
            status = _read(journal, show_all=show_all)
            stamp, read_at = latest, clock()
            yield status


def stamp_of(journal: Path) -> Stamp:
    """What changes whenever a process writes to *journal*."""
    stamp: Stamp = ()
    for file in journal_files(journal):
        for one in (file, log_of(file)):
            with suppress(OSError):
                found = one.stat()
                stamp = (*stamp, (one.name, found.st_size, found.st_mtime_ns))
    return stamp


def _read(journal: Path, *, show_all: bool) -> JournalStatus:
    return anyio.run(partial(read_status, journal, show_all=show_all))
