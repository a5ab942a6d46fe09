"""Write the body of a response into a partial file, and have what came synced at intervals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeAlias

import anyio
import anyio.to_thread

from adapters.downloads.partial_file import PartialFile

SAVE_INTERVAL = 1.0
"""Seconds after which received bytes are brought to the disk."""
SAVE_BYTES = 16 * 1024 * 1024
"""Bytes after which they are, if these come before ``SAVE_INTERVAL`` has passed."""

OnProgress: TypeAlias = Callable[[int, int | None], object]


class Watch(Protocol):
    """Told of what arrives; may end a transfer that is too slow."""

    def feed(self, count: int, /) -> object:
        """*count* bytes have arrived."""
        ...


async def write_body(
    chunks: AsyncIterator[bytes],
    partial: PartialFile,
    *,
    on_progress: OnProgress,
    watch: Watch | None = None,
    save_every: int = SAVE_BYTES,
) -> None:
    """Append *chunks* to *partial*.

    Args:
        chunks: The body, from the byte on that *partial* has next.
        partial: The open partial file.
        on_progress: Called with the bytes that are safely on the disk and the size of the whole file (None if
            unknown), about once a second.
        watch: Fed with the length of each chunk.
        save_every: Bytes after which the file is synced, if that comes before ``SAVE_INTERVAL`` has passed.
    """
    saved, saved_at = partial.offset, anyio.current_time()
    async for chunk in chunks:
        if watch is not None:
            watch.feed(len(chunk))
        partial.write(chunk)
        now = anyio.current_time()
        if now - saved_at >= SAVE_INTERVAL or partial.offset - saved >= save_every:
            saved_at, saved = now, await anyio.to_thread.run_sync(partial.save)
            on_progress(saved, partial.sidecar.size)
