"""What a server goes on without: parts that its output says do not work, also before it was adopted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.disk import decode_plain, write_whole
from recovery.redact import brief

MOST_BYTES = 65_536

MOST_NAMES = 200
"""Names that are kept."""

MOST_OF_A_NAME = 100


class Degraded:
    """The names of what a server lacks, in a file: the lines of before an adoption are not read again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: tuple[str, ...] = ()

    def read(self) -> None:
        """Take what an earlier launcher noted of the server that is adopted."""
        with suppress(OSError, ValueError):
            self.names = decode_plain(self._path, tuple[str, ...], MOST_BYTES)

    def add(self, name: str) -> None:
        """Note *name*, once. Where that cannot be written, an adoption does not know it."""
        name = brief(name, MOST_OF_A_NAME)
        if name in self.names or len(self.names) >= MOST_NAMES:
            return
        self.names = (*self.names, name)
        with suppress(OSError):
            write_whole(self._path, msgspec.json.encode(self.names))

    def clear(self) -> None:
        """Forget all: the server is started anew."""
        self.names = ()
        with suppress(OSError):
            self._path.unlink()
