"""When received bytes reach the disk, and what is left of them when the process or the machine ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from adapters.downloads.partial_file import PartialFile
from adapters.downloads.sidecar import Sidecar
from adapters.downloads.writing import write_body
from tests.adapters.downloads.targets import CONTENT, HALF, Target
from tests.until import wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator 'httpcore2"),  # trio tells of one that httpx2 does not close
]


async def test_nothing_is_noted_before_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fdatasync, synced, notes = os.fdatasync, [0], []
    with Target(tmp_path, rate=1e7) as target:

        def watch(descriptor: int) -> None:
            assert noted(target) <= synced[-1]
            length = os.fstat(descriptor).st_size
            fdatasync(descriptor)
            synced.append(length)

        def note(offset: int, size: int | None) -> None:
            notes.append(offset)
            assert offset <= synced[-1]
            assert size == len(CONTENT)
            assert noted(target) <= synced[-1]

        monkeypatch.setattr(os, "fdatasync", watch)
        await target.attempt(on_progress=note, save_every=100_000)
    assert len(notes) > 1  # as many as the machine had time for
    assert notes == sorted(notes)
    assert notes[-1] == synced[-1] == len(CONTENT)


async def test_bytes_go_on_coming_while_a_sync_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fdatasync, lengths = os.fdatasync, []
    with Target(tmp_path, rate=2e7) as target:

        def wait_for_all(descriptor: int) -> None:
            lengths.append(os.fstat(descriptor).st_size)
            wait_until(lambda: os.fstat(descriptor).st_size == len(CONTENT), within=2.0)
            fdatasync(descriptor)

        monkeypatch.setattr(os, "fdatasync", wait_for_all)
        progress: list[int] = []
        noted: list[int] = []

        def note(offset: int, _size: int | None) -> None:
            progress.append(offset)
            if target.sidecar.exists():
                noted.append(msgspec.json.decode(target.sidecar.read_bytes(), type=Sidecar).offset)

        await target.attempt(on_progress=note, save_every=100_000)
    assert progress[0] == noted[0] <= lengths[0] < len(CONTENT) == progress[-1]  # what came meanwhile was not synced


async def test_a_sync_that_fails_ends_the_attempt_and_what_it_lost_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fdatasync, syncs = os.fdatasync, []
    with Target(tmp_path, rate=1e7) as target:

        def fail_once(descriptor: int) -> None:
            syncs.append(os.fstat(descriptor).st_size)
            if len(syncs) == 2:
                raise OSError(errno.EIO, "planted")
            fdatasync(descriptor)

        monkeypatch.setattr(os, "fdatasync", fail_once)
        with pytest.raises(OSError, match="planted"):
            await target.attempt(save_every=100_000)
        assert target.partial.stat().st_size <= syncs[0] < syncs[1]
        assert 0 < (await target.attempt()).start <= syncs[0]
    assert target.destination.read_bytes() == CONTENT


FETCH = """
import sys
from pathlib import Path
import anyio, httpx2
from adapters.downloads import download

async def fetch():
    async with httpx2.AsyncClient(timeout=5) as client:
        await download(client, sys.argv[1], Path(sys.argv[2]), save_every=300_000)

anyio.run(fetch)
"""


def noted(target: Target) -> int:
    """How many bytes the sidecar of *target* says are on the disk."""
    with suppress(FileNotFoundError):
        return msgspec.json.decode(target.sidecar.read_bytes(), type=Sidecar).offset
    return 0


def has_half(target: Target) -> bool:
    return target.partial.stat().st_size > HALF


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_death_of_a_process_loses_no_byte_that_it_wrote(tmp_path: Path) -> None:
    with Target(tmp_path, rate=5e6) as target:
        with subprocess.Popen([sys.executable, "-c", FETCH, target.url, str(target.destination)]) as process:
            wait_until(lambda: 0 < noted(target) < target.partial.stat().st_size and has_half(target))
            process.kill()
        kept, synced = target.partial.stat().st_size, noted(target)
        target.hosted.rate = None
        arrived = await target.attempt()
    assert (
        0 < synced <= kept == arrived.start
    )  # and the file is no longer than that: no space is reserved by its length
    assert target.destination.read_bytes() == CONTENT


async def test_a_small_file_arrives_without_a_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, made = Path.replace, []

    def watch(path: Path, target: Path) -> Path:
        made.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watch)
    with Target(tmp_path) as target:
        await target.attempt()
    assert made == ["model.bin.part"]


async def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fdatasync, fsync, order = os.fdatasync, os.fsync, []
    with Target(tmp_path) as target:

        def watch(descriptor: int) -> None:
            fdatasync(descriptor)
            order.append(("file", target.destination.exists()))

        def watch_folder(descriptor: int) -> None:
            fsync(descriptor)
            assert os.path.samestat(os.fstat(descriptor), target.destination.parent.stat())
            order.append(("folder", target.destination.exists()))

        monkeypatch.setattr(os, "fdatasync", watch)
        monkeypatch.setattr(os, "fsync", watch_folder)
        await target.attempt()
    assert order == [("file", False), ("folder", True)]


async def test_the_watch_is_fed_with_each_chunk_as_it_comes(tmp_path: Path) -> None:
    class Fed:
        def __init__(self) -> None:
            self.counts: list[int] = []

        def feed(self, count: int) -> None:
            self.counts.append(count)

    async def chunks() -> AsyncGenerator[bytes, None]:
        for length in (3, 1, 2):
            yield bytes(length)

    partial, watch = PartialFile(tmp_path / "model.bin", url="https://example.org/", sha256=None, size=None), Fed()
    await write_body(chunks(), partial, on_progress=lambda *_: None, watch=watch)
    partial.close()
    assert (watch.counts, partial.offset) == ([3, 1, 2], 6)
