"""The checkpoints of a download: how far it is, and where its attempt began."""

from __future__ import annotations

from recovery import context


class Saver:
    """Saves how far a download is, and with how many bytes its attempt began."""

    def __init__(self) -> None:
        self._start = 0

    def begin(self, offset: int, size: int | None) -> None:
        """The attempt begins with *offset* bytes."""
        self._start = offset
        self.save(offset, size)

    def save(self, offset: int, size: int | None) -> None:
        """*offset* bytes of *size* are on the disk."""
        if offset:
            context.checkpoint({"offset": offset, "size": size, "start": self._start})
            context.progress(offset)
