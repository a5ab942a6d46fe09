"""Write the body of a response into a partial file, and have what came synced at intervals."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Protocol, TypeAlias

import anyio
import anyio.to_thread

from adapters.downloads.partial_file import PartialFile

SAVE_INTERVAL = 1.0
"""Seconds after which received bytes are brought to the disk."""
SAVE_BYTES = 16 * 1024 * 1024
"""Bytes after which they are, if these come before ``SAVE_INTERVAL`` has passed."""
FIRST_SAVE = 1024 * 1024
"""Bytes after which they are for the first time, so that the death of the process does not lose them."""

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
    """Append *chunks* to *partial*, which is saved in another thread while further ones come.

    Args:
        chunks: The body, from the byte on that *partial* has next.
        partial: The open partial file.
        on_progress: Called with the bytes that are safely on the disk and the size of the whole file (None if
            unknown), about once a second.
        watch: Fed with the length of each chunk.
        save_every: Bytes after which the file is synced, if that comes before ``SAVE_INTERVAL`` has passed.
    """
    saving: Future[int] | None = None
    due, due_at = partial.offset + min(FIRST_SAVE, save_every), anyio.current_time() + SAVE_INTERVAL
    try:
        async for chunk in chunks:
            if watch is not None:
                watch.feed(len(chunk))
            partial.write(chunk)
            if saving is not None and saving.done():
                on_progress(saving.result(), partial.sidecar.size)
                saving = None
            if saving is None and (partial.offset >= due or anyio.current_time() >= due_at):
                due, due_at = partial.offset + save_every, anyio.current_time() + SAVE_INTERVAL
                saving = _in_thread(partial.save)
    finally:
        if saving is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(saving.exception)  # until it has ended
    if saving is not None:
        on_progress(saving.result(), partial.sidecar.size)


def _in_thread(function: Callable[[], int]) -> Future[int]:
    """Call *function* in a thread of its own: a pool of threads would not survive a fork."""
    future = Future[int]()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # it is raised again where the result is wanted
            future.set_exception(error)

    threading.Thread(target=run, name="recovery-sync", daemon=True).start()
    return future
