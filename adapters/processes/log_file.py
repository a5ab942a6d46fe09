"""The log of a command: bounded, with the beginning and the end of what it printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from adapters.disk import open_plain

EARLIER = 262_144
"""Default of *earlier*: 256 KiB."""

HEAD = 65_536
"""Default of *head*: 64 KiB."""

TAIL = 1_048_576
"""Default of *tail*: 1 MiB."""

TOLD = 32_768
"""Characters of the beginning, and of the end, that the error of a failed run tells."""


class LogFile:
    """The log of a command, at *path* (0600). What earlier runs printed stays before what this one prints.

    Args:
        path: Where it is.
        earlier: Bytes that are kept of what earlier runs have printed.
        head: Bytes that are kept of the beginning of a run.
        tail: Bytes that are kept of the end of a run, at least; the file is cut once it has twice as many.

    Raises:
        UnsafeFileError: *path* is a link, a pipe, a folder.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, *, earlier: int = EARLIER, head: int = HEAD, tail: int = TAIL) -> None:
        self._earlier, self._head_size, self._tail_size = earlier, head, tail
        self._file = os.fdopen(open_plain(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        self.begin()

    def begin(self) -> None:
        """Begin a run."""
        size = self._file.seek(0, os.SEEK_END)
        if size > self._earlier:
            kept = self._read(size - self._earlier, self._earlier).partition(b"\n")[2]
            size = self._replace(0, kept)
        self._begin = self._size = size
        self._cut: int | None = None
        self._left_out, self._gap = 0, b""
        self._head = self._tail = ""

    def write(self, lines: Sequence[str]) -> None:
        """Append *lines*. Raises OSError if the disk is full; the error of a failed run tells them all the same."""
        text = "".join(f"{line}\n" for line in lines)
        room = TOLD - len(self._head)
        self._head += text[:room]
        self._tail = (self._tail + text[room:])[-TOLD:]
        data = text.encode("utf-8", "replace")
        self._file.seek(self._size)
        self._size += self._file.write(data)
        if self._size > self._begin + self._head_size + 2 * self._tail_size:
            self._leave_out_the_middle()

    def told(self) -> str:
        """The beginning and the end of what this run has printed."""
        return self._head + self._tail

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _leave_out_the_middle(self) -> None:
        if self._cut is None:
            head = self._read(self._begin, self._head_size)
            self._cut = self._begin + head.rfind(b"\n") + 1
        tail = self._read(self._size - self._tail_size, self._tail_size).partition(b"\n")[2]
        self._left_out += self._size - self._cut - len(tail) - len(self._gap)
        self._gap = b"[... %d bytes are left out ...]\n" % self._left_out
        self._size = self._replace(self._cut, self._gap + tail)

    def _replace(self, begin: int, data: bytes) -> int:
        """Make *data* what follows the first *begin* bytes, and return the size. A reader of the file stays with it."""
        self._file.seek(begin)
        size = begin + self._file.write(data)
        self._file.truncate(size)
        return size

    def _read(self, begin: int, size: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(size)
