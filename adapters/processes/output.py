"""The output of a command on its way from the process to the log.

The process writes to a file, ``<name>.raw`` (0600), and not to a pipe: it must not die of a broken pipe when its
launcher is killed. The launcher reads the file as it grows, copies redacted lines into the log, and empties the file
now and then. It is removed once no process writes to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path

from adapters.disk import open_plain, try_lock
from adapters.processes.lines import Lines
from adapters.processes.log_file import LogFile
from recovery.conditions import disk_usage

CHUNK = 131_072
"""Bytes that are read at once: as many as are cleaned and redacted in some 20 ms."""

MOST_BEHIND = 1_048_576
"""Bytes that may be unread; of more, the oldest are left out. That many at once come only from what floods the log."""

MOST_RAW = 16_777_216
"""Default of *most_raw*: 16 MiB."""

LEAST_FREE = 65_536
"""Bytes that are free on a disk where a command can still say why it has failed."""

log = logging.getLogger("recovery.launch")


class Output:
    """Copies what a command prints into its log.

    Args:
        name: The command's name, for warnings.
        raw: The file that its processes write to.
        log_file: The log.
        offset: Bytes of *raw* that an earlier launcher has copied.
        on_output: Called with each line, and each note of the launcher. What it raises is logged, and it is not called
            again.
        on_copied: Called with the bytes of *raw* that are copied.
        most_raw: Copied bytes in *raw* after which it is emptied.
    """

    def __init__(
        self,
        name: str,
        raw: Path,
        log_file: LogFile,
        *,
        offset: int = 0,
        on_output: Callable[[str], object] | None = None,
        on_copied: Callable[[int], object] = lambda _: None,
        most_raw: int = MOST_RAW,
    ) -> None:
        self._name = name
        self._path = raw
        self._raw = FileIO(open_plain(raw, os.O_RDWR | os.O_CREAT), "r+")
        self._log: LogFile | None = log_file
        self._log_file = log_file
        self._offset = offset if offset <= self._size() else 0
        self._on_output = on_output
        self._on_copied = on_copied
        self._most_raw = most_raw
        self._lines = Lines()
        self._is_at_the_beginning = False

    def begin(self) -> None:
        """Begin a run, once what earlier processes printed is copied."""
        self.copy_rest()
        self._empty()
        self._log_file.begin()
        self._is_at_the_beginning = True

    def open_for_process(self) -> int:
        """A descriptor for the standard output of the command. Close it once the process has inherited it.

        It has a lock, which tells as long as any process has inherited it that the file is in use.
        """
        file = open_plain(self._path, os.O_WRONLY | os.O_APPEND)
        with suppress(OSError):  # a file system without locks: the file is removed at the end
            try_lock(file, is_shared=True)
        return file

    def copy(self) -> bool:
        """Copy what is new, at most twice ``CHUNK`` bytes of it. Returns whether anything is."""
        size = self._size()
        must_empty = size >= self._most_raw
        left_out = size - self._offset - (CHUNK if must_empty else MOST_BEHIND)
        if self._is_at_the_beginning:  # that is kept, however fast the rest comes
            must_empty, self._is_at_the_beginning = False, size == 0
        elif left_out > 0:
            self._offset += left_out
            self._lines.skip()
            self._tell([f"[... {left_out} bytes are left out ...]"])
        self._raw.seek(self._offset)
        data = self._raw.read(CHUNK)
        if must_empty:
            data += self._raw.read(CHUNK)  # what came meanwhile
            self._empty()
        else:
            self._offset += len(data)
        self._tell(self._lines.feed(data))
        if must_empty:
            self._lines.skip()  # bytes that came just before the end of the file was moved are lost
        if data:
            self._on_copied(max(0, self._offset - self._lines.unfinished))
        return bool(data)

    def copy_rest(self) -> None:
        """Copy all that is there now, with the last line although it has no end."""
        for _ in range(MOST_BEHIND // CHUNK + 2):  # a process that goes on writing does not keep it here
            if not self.copy():
                break
        self._tell(self._lines.finish())

    def note(self, text: str) -> None:
        """Write a line of the launcher's own into the log."""
        self._tell([f"[{text}]"])

    def told(self) -> str:
        """The beginning and the end of what was copied, and whether the disk is full: then the last lines are lost."""
        total, free = disk_usage(self._path.parent)
        is_full = total and free < LEAST_FREE
        return self._log_file.told() + ("[no space left on device: its output is lost]\n" if is_full else "")

    def close(self) -> bool:
        """Close the file, and remove or empty it. Returns whether processes still write to it."""
        try:
            is_free = try_lock(self._raw.fileno())
        except OSError:
            is_free = True
        with suppress(OSError):
            self._empty()
        if is_free:
            with suppress(OSError):
                self._path.unlink()
        self._raw.close()
        return not is_free

    def _size(self) -> int:
        return self._raw.seek(0, os.SEEK_END)

    def _empty(self) -> None:
        self._raw.truncate(0)  # processes append: they go on at the beginning
        self._offset = 0

    def _tell(self, lines: list[str]) -> None:
        if self._log is not None:
            try:
                self._log.write(lines)
            except OSError as error:
                log.warning("the output of %s is not logged any more: %s", self._name, error)
                self._log = None
        for line in lines:
            try:
                if self._on_output is not None:
                    self._on_output(line)
            except Exception:
                log.exception("the function that is told the output of %s failed, and is not called again", self._name)
                self._on_output = None
