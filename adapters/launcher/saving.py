"""Save how far a download is: in its checkpoint, and as the progress of its call."""

from __future__ import annotations

from collections.abc import Callable

from recovery import context


def saver() -> Callable[[int, int | None], None]:
    """What saves how far one attempt is; its first call says with how many bytes that begins."""
    begins: list[int] = []

    def save(offset: int, size: int | None) -> None:
        if not begins:
            begins.append(offset)
        if offset:
            context.checkpoint({"offset": offset, "size": size, "start": begins[0]})
            context.progress(offset)

    return save
