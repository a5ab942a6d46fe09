"""Room on the disk for downloads: checked and claimed before the bytes come, and waited for where there is none.

    Strategy(wait_for=(when_full,), wait_timeout=3600.0)

A download claims what it still needs as soon as it knows how much that is. The claim shrinks with each save and ends
with the attempt, or with the process. Nothing is reserved: other programs may still fill the disk, and then the attempt
fails with the same error, with its bytes kept.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

from adapters.downloads.claims import CLAIMS, Claims
from adapters.downloads.partial_file import DownloadError, PartialFile
from adapters.downloads.writing import SAVE_BYTES, OnProgress
from events.conditions import Condition
from events.errors import Permanent
from events.evidence import Evidence, Room
from events.operation_events import FailureClassified
from recovery.conditions import device_of, disk_usage, existing
from recovery.policies.resources import amount
from recovery.presets import ROOM, is_full

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a system says when a disk, or a user's quota of it, is full."""

HEADROOM = 16 * 1024 * 1024
"""Bytes that a download leaves free for the journal, logs and sidecars..."""

MOST_HEADROOM = 0.01
"""...and the most of a small file system that this may be."""

SMALL = 1024 * 1024
"""Bytes up to which a download needs no claim: ``HEADROOM`` has them."""

PROBE = 16 * 1024 * 1024
"""The most bytes that are written to see whether a quota has room, which the system does not tell."""

GUESS = 0.1
"""Share of a file system that a guess may ask for: a small one would never have more."""

POLL = 5.0
"""Seconds between two looks for room."""


LATER = "make room; the next attempt goes on where this one stopped"


class NoRoomError(DownloadError, OSError):
    """The disk, or the user's quota of it, has no room for the rest of a file. What came so far is kept.

    Args:
        problem: Why, for people.
        room: What is missing.
        number: ``errno.ENOSPC`` or ``errno.EDQUOT``.
    """

    def __init__(self, problem: str, room: Room, number: int = errno.ENOSPC) -> None:
        super().__init__(number, problem, room.folder)
        self.room = room

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its own arguments, as its ``OSError`` keeps them outside its attributes."""
        return type(self), (str(self.strerror), self.room, self.errno), self.__getstate__()


class NeverFitsError(NoRoomError, Permanent):
    """The rest of a file is larger than the whole disk: no waiting helps."""


class Claim:
    """The claim of one download on the file system of *destination*. Use it as a context manager around the attempt.

    A full disk that the system reports within leaves it as NoRoomError, with what is missing.
    """

    def __init__(self, destination: Path, claims: Claims = CLAIMS) -> None:
        self._name = destination.name
        self._folder = destination.parent.absolute()
        self._claims = claims
        self._missing: int | None = None
        self._partial: PartialFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self._claims.shrink(self, 0)
        if isinstance(error, OSError) and error.errno in FULL and not isinstance(error, NoRoomError):
            if self._partial is not None and self._partial.sidecar.size is not None:
                self._missing = max(self._partial.sidecar.size - self._partial.offset, 0)
            what = "the disk" if error.errno == errno.ENOSPC else "the disk quota"
            missing = guessed(self._folder, PROBE) if self._missing is None else self._missing
            needs = "its size is unknown" if self._missing is None else f"it needs {amount(missing, 'B')} more"
            text = f"{self._name}: {what} of {self._folder} became full, and {needs}; {LATER}"
            raise NoRoomError(text, Room(str(self._folder), missing), error.errno) from error

    async def cover(self, partial: PartialFile, *, is_described: bool = False) -> None:
        """Claim what *partial* still needs, if its size is known.

        Args:
            partial: The partial file.
            is_described: Whether a response has said what comes. That is noted now if it is more than comes before the
                first save: a disk that is full by then has no room for the note, and all bytes would be lost.

        Raises:
            NoRoomError: There is no room for it beside what others claim.
        """
        self._partial = partial
        if partial.sidecar.size is None:
            return
        missing = max(partial.sidecar.size - partial.offset, 0)
        if is_described and missing > SAVE_BYTES:
            await anyio.to_thread.run_sync(partial.note)
        if missing == self._missing:
            return
        if missing <= SMALL:
            self.take(missing)
        else:
            await anyio.to_thread.run_sync(self.take, missing)

    def take(self, missing: int) -> None:
        """Claim *missing* bytes, in the place of what was claimed. Raises NoRoomError."""
        total, free = disk_usage(self._folder)
        self._missing = missing
        if not missing or not total:  # some network disks tell nothing
            self._claims.shrink(self, 0)
            return
        left = free - headroom(total)
        if missing <= SMALL:
            self._claims.shrink(self, 0)
            others = None if missing <= left else 0
        else:
            device = device_of(self._folder)
            others = self._claims.take(self, device, missing, lambda others: missing <= left - others)
        if others is not None:
            claimed = f", and other downloads claim {amount(others, 'B')} of that" if others else ""
            text = (
                f"{self._name} needs {amount(missing, 'B')} more; the disk of {self._folder} has {amount(free, 'B')} "
                f"free of {amount(total, 'B')}{claimed}"
            )
            room = Room(str(self._folder), missing)
            if missing > total - headroom(total):
                raise NeverFitsError(f"{text}; choose a folder on a larger disk", room)
            raise NoRoomError(f"{text}; {LATER}", room)

    def following(self, on_progress: OnProgress) -> OnProgress:
        """*on_progress*, which also shrinks the claim to what is not on the disk yet."""

        def note(saved: int, size: int | None) -> None:
            if self._missing is not None and size is not None:
                self._missing = max(size - saved, 0)
                self._claims.shrink(self, self._missing)
            on_progress(saved, size)

        return note


def headroom(total: int) -> int:
    """The bytes that a download leaves free on a file system of *total* bytes."""
    return min(HEADROOM, int(total * MOST_HEADROOM))


def guessed(folder: str | os.PathLike[str], most: int) -> int:
    """Bytes to wait for where nothing tells how many are missing: *most*, or ``GUESS`` of a small disk."""
    total, _ = disk_usage(Path(folder).absolute())
    return min(most, int(total * GUESS)) if total else most


def room_for(
    folder: str | os.PathLike[str], missing: int, *, claims: Claims = CLAIMS, every: float = POLL
) -> Condition:
    """*missing* bytes are free at *folder*, beside what downloads claim there, and can be written.

    The system does not tell how much a quota has left. So once enough is free, up to ``PROBE`` bytes are written to a
    file without a name, and dropped.

    Args:
        folder: A folder, which need not exist yet.
        missing: Bytes.
        claims: What downloads claim.
        every: Seconds between two looks.
    """
    place = Path(folder).absolute()

    def is_met() -> bool:
        total, free = disk_usage(place)
        if total and free - headroom(total) - claims.claimed(device_of(place)) < missing:
            return False
        with tempfile.TemporaryFile(dir=existing(place), buffering=0) as probe:
            left = min(missing, PROBE)
            while left > 0:
                left -= probe.write(os.urandom(min(left, SMALL)))
            os.fsync(probe.fileno())
        return True

    return Condition(f"room for {amount(missing, 'B')} at {place}", is_met, blocks=True, every=every)


def when_full(failure: FailureClassified, *, folder: str | os.PathLike[str] = ".") -> Condition | None:
    """Room for what *failure* lacked, if a disk or a quota was full. For ``Strategy.wait_for``.

    Args:
        failure: What went wrong.
        folder: Where a failure lacked room that does not say where: a command's, say. It waits for ``presets.ROOM``.
    """
    if not is_full(failure):
        return None
    room = _room_of(failure.evidence)
    return room_for(folder, guessed(folder, int(ROOM))) if room is None else room_for(room.folder, room.bytes)


def _room_of(evidence: Evidence | None) -> Room | None:
    return None if evidence is None else evidence.room or _room_of(evidence.cause)
