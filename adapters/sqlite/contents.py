"""Whether a database and its log hold what SQLite has put there, followed from batch to batch.

The log's index tells where the log ends. Every frame up to there bears the mark of this log, and the last one has the
checksum that the index names. The database begins with page 1, as a frame has it that was written back: never with an
earlier one than before. Other programs that write, or write the log back, by SQLite's rules keep all of this true.

The formats are those of https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

INDEX = struct.Struct(
    "=14xH2I2I8s8x"
)  # page size, frames, pages of the database, two sums of the last frame, two salts
FRAME = struct.Struct(">16x2I")  # behind page, size and salts: two sums
FIRST_PAGE = bytes((0, 0, 0, 1))
LOG_HEADER = 32
SALTS, FRAME_SALTS = slice(16, 24), slice(8, 16)
"""Where the header of the log, and that of a frame, have the salts: a log that begins again has others."""
HEAD = 100
"""Bytes of SQLite's header, at the beginning of page 1."""

FRAMES_AT_ONCE = 64
"""Frames of a log that are read at once: a quarter of a megabyte, and one batch of events writes about as many."""


class LogEnd(NamedTuple):
    """The end of a log, as its index tells it."""

    page_size: int
    frames: int
    pages: int
    sums: tuple[int, int]
    salts: bytes

    @property
    def least_size(self) -> int:
        """Bytes that the database has once the log is written back."""
        return self.pages * self.page_size

    def place(self, frame: int) -> int:
        """Where *frame* begins in the log; frames count from 1."""
        return LOG_HEADER + (frame - 1) * (FRAME.size + self.page_size)


class Contents:
    """The contents of three open files: the descriptors of a *database*, its *log* and the log's *index*.

    They are taken to be right as they are now.
    """

    def __init__(self, database: int, log: int, index: int) -> None:
        self._database, self._log, self._index = database, log, index
        self.accept()

    def accept(self) -> None:
        """Take the database to be right as it is: another program has written it by SQLite's rules."""
        self._size = os.fstat(self._database).st_size
        # Of page 1: as it is in the database, and then as each frame of the log has it that was not written back since.
        self._heads = [read(self._database, HEAD)]
        self._salts = b""
        self._frames = 0
        self._last = b""

    def changed(self) -> frozenset[str]:
        """Which of "database" and "log" others have cut or overwritten.

        To be called after each transaction of this process: SQLite may write the log back after one and begin it again
        with the next. While another program writes, the answer may be wrong. In a transaction it is right.
        """
        end = self._end()
        if end is None:
            return frozenset({"index"})
        if not self._follow(end):
            return frozenset({"log"})
        size = os.fstat(self._database).st_size
        head = read(self._database, HEAD)
        if size < min(self._size, end.least_size) or head not in self._heads:
            return frozenset({"database"})
        del self._heads[: self._heads.index(head)]
        self._size = size
        return frozenset()

    def _end(self) -> LogEnd | None:
        """Where the log ends; ``None`` while another program writes that down."""
        data = read(self._index, 2 * INDEX.size)
        if len(data) < 2 * INDEX.size or data[: INDEX.size] != data[INDEX.size :]:
            return None
        size, frames, pages, first, second, salts = INDEX.unpack_from(data)
        return LogEnd(65536 if size == 1 else size, frames, pages, (first, second), salts)

    def _follow(self, end: LogEnd) -> bool:
        """Look at the frames that are new, and return whether the log is right up to *end*."""
        frames, last, heads = self._frames, self._last, list(self._heads)
        if end.salts != self._salts:  # it has begun again: then all of the earlier one is in the database
            frames, last, heads = 0, b"", heads[-1:]
        if end.frames:
            if read(self._log, LOG_HEADER)[SALTS] != end.salts:
                return False
            if frames and read(self._log, FRAME.size, end.place(frames)) != last:
                return False
            # Several frames at once: each reading gives up the interpreter lock, and gets it back when others let go.
            step = FRAME.size + end.page_size
            for first in range(frames + 1, end.frames + 1, FRAMES_AT_ONCE):
                many = min(FRAMES_AT_ONCE, end.frames + 1 - first)
                data = read(self._log, many * step, end.place(first))
                for at in range(0, many * step, step):
                    last = data[at : at + FRAME.size]
                    if last[FRAME_SALTS] != end.salts:
                        return False
                    if last.startswith(FIRST_PAGE):
                        heads.append(data[at + FRAME.size : at + FRAME.size + HEAD])
            if len(last) < FRAME.size or FRAME.unpack(last) != end.sums:
                return False
        self._salts, self._frames, self._last, self._heads = end.salts, end.frames, last, heads
        return True


def read(file: int, size: int, at: int = 0) -> bytes:
    """*size* bytes of the open *file* from *at* on, or fewer at its end."""
    os.lseek(file, at, os.SEEK_SET)
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data
