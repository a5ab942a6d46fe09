from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from adapters.downloads import Downloaded
from adapters.downloads.partial_file import PartialFile
from tests.adapters.downloads.targets import CONTENT, HALF, SHA256, Target
from tests.forked import forked
from tests.slow import few

SIZE = len(CONTENT)
RATE = 5e6
"""Bytes per second: a file takes 0.2 s."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_a_download_that_finds_another_one_under_way_says_so_once_and_joins_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrived: list[Downloaded] = []

    async def fetch() -> None:
        arrived.append(await target.attempt(sha256=SHA256))

    with Target(tmp_path, rate=RATE) as target:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(fetch)
        assert len(target.requests) == 1
    assert sorted(one.received for one in arrived) == [0, SIZE]
    waiting = [record.getMessage() for record in caplog.records if record.name == "recovery.downloads"]
    assert waiting == ["model.bin: another download of it is under way; waiting for it"]


@pytest.mark.anyio
async def test_a_wait_shows_how_far_the_other_is_and_can_be_cancelled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[tuple[int, int | None]] = []
    with Target(tmp_path) as target:
        other = PartialFile(target.destination, url=target.url, sha256=SHA256, size=SIZE)
        other.write(CONTENT[:430_000])
        other.save()
        with anyio.move_on_after(0.05) as scope:
            await target.attempt(sha256=SHA256, on_progress=lambda *both: notes.append(both))
        assert scope.cancelled_caught
        other.close()
    assert notes == [(430_000, SIZE)]
    assert "model.bin: another download of it is under way, 43 %; waiting for it" in caplog.text


@pytest.mark.anyio
async def test_a_download_goes_on_with_what_another_one_has_left(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        other = PartialFile(target.destination, url=target.url, sha256=SHA256, size=SIZE)
        other.write(CONTENT[:HALF])

        async def break_off() -> None:
            await anyio.sleep(0.05)
            other.close()

        async with anyio.create_task_group() as group:
            group.start_soon(break_off)
            arrived = await target.attempt(sha256=SHA256)
    assert (arrived.start, arrived.received) == (HALF, SIZE - HALF)
    assert target.destination.read_bytes() == CONTENT


def fetching(target: Target) -> Callable[[Callable[[str], object]], object]:
    """A download in a process of its own, which says how far it is."""

    async def fetch(say: Callable[[str], object]) -> None:
        arrived = await target.attempt(sha256=SHA256, save_every=200_000, on_progress=lambda done, _: say(str(done)))
        say(f"received {arrived.received}")

    return lambda say: anyio.run(fetch, say)


def test_a_download_joins_one_of_another_process(tmp_path: Path) -> None:
    notes: list[int] = []
    with Target(tmp_path, rate=RATE) as target, forked(fetching(target)) as other:
        assert int(other.next_line()) >= 200_000

        async def join() -> Downloaded:
            return await target.attempt(sha256=SHA256, on_progress=lambda done, _: notes.append(done))

        arrived = anyio.run(join)
        assert other.wait() == 0
        assert len(target.requests) == 1
    assert (arrived.received, arrived.size) == (0, SIZE)
    assert notes == sorted(notes)
    assert 200_000 <= notes[0] < notes[-1] == SIZE


def test_a_download_goes_on_where_a_killed_process_stopped(tmp_path: Path) -> None:
    async def take_over() -> Downloaded:
        async def kill() -> None:
            await anyio.sleep(0.05)
            other.end()
            target.hosted.rate = None

        async with anyio.create_task_group() as group:
            group.start_soon(kill)
            return await target.attempt(sha256=SHA256)

    with Target(tmp_path, rate=RATE / 2) as target, forked(fetching(target)) as other:
        while int(other.next_line()) < 400_000:
            time.sleep(0.001)
        arrived = anyio.run(take_over)
        assert [request.status for request in target.requests] == [200, 206]
    assert arrived.start >= 400_000
    assert arrived.received == SIZE - arrived.start
    assert target.destination.read_bytes() == CONTENT
