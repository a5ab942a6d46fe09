"""The side files of dead processes are adopted once, whole, and by one process."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.journals.status import read_status
from adapters.sqlite import files
from adapters.sqlite.adoption import Adoption
from adapters.sqlite.connection import write
from adapters.sqlite.lock import Lock
from adapters.sqlite.orphans import Slice, slices_of
from adapters.sqlite.store import SQLiteStore
from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.adapters.sqlite import journals

RUN = Run(id="heir", boot="boot", monotonic=3.0, wall=4.0, pid=5)


def side_file(path: Path, name: str) -> Path:
    part: Path = files.folder_of(path) / f"{name}.db"
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def orphan(path: Path, name: str, calls: int = 3) -> Path:
    """The file of a process that was killed."""
    part = side_file(path, name)
    events = [journals.started(f"{name}-{number}") for number in range(calls)]
    run = Run(id=name, boot="boot", monotonic=1.0, wall=2.0, pid=6)
    journals.write_and_die(part, journals.rows_of(events, run=name), run=run)
    return part


def adopt(path: Path) -> bool:
    async def main() -> bool:
        store = SQLiteStore(path)
        try:
            await store.open(RUN)
            return await journals.adopted(store)
        finally:
            await store.close()

    return asyncio.run(main())


def calls_in(path: Path) -> list[str]:
    with journals.plain(path) as connection:
        return [call for (call,) in connection.execute("SELECT call FROM events ORDER BY id")]


async def adopting(path: Path, step: Callable[[object], object]) -> bool:
    """Adopt into the file *path*, with *step* after each slice and each sync."""
    async with journals.opened(path) as connection:

        async def copy(one: Slice) -> None:
            await write(connection, one)
            step(one)

        async def sync() -> None:
            step(None)

        adoption = Adoption(path, copy, sync)
        try:
            return await adoption.run(path, seconds=60.0)
        finally:
            adoption.release()


def test_orphans_are_copied_in_slices_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    orphan(path, "a", calls=1234)
    steps: list[Any] = []
    assert asyncio.run(adopting(path, steps.append))
    assert [one and len(one[1]) for one in steps] == [1, 500, 500, 234, None]
    assert len(calls_in(path)) == 1234
    assert not list(files.folder_of(path).glob("a.db*"))


def test_a_slice_has_about_a_megabyte(tmp_path: Path) -> None:
    part = side_file(tmp_path / "calls.db", "a")
    journals.write(
        part, [Row("dead", f"c-{number}", "OperationStarted", bytes(300_000), number + 1) for number in range(10)]
    )

    async def main() -> list[int]:
        return [len(values) async for statement, values in slices_of(part)]

    assert asyncio.run(main()) == [1, 4, 4, 2]


@pytest.mark.parametrize("at", range(1, 10))
def test_d3_an_adoption_that_breaks_off_is_repeated_harmlessly(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.db"
    orphan(path, "a", calls=1200)
    orphan(path, "b", calls=30)
    steps, unlink = itertools.count(1), os.unlink

    def step(_: object) -> None:
        if next(steps) == at:
            raise KeyboardInterrupt  # as good as a kill: nothing is written afterwards

    def unlink_and_step(name: Path) -> None:
        unlink(name)
        step(name)

    monkeypatch.setattr(os, "unlink", unlink_and_step)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(adopting(path, step))
    monkeypatch.undo()
    adopt(path)
    counts = Counter(calls_in(path))
    assert counts == Counter([*(f"a-{number}" for number in range(1200)), *(f"b-{number}" for number in range(30))])
    assert {one.name for one in files.folder_of(path).iterdir()} <= {"a.db-lock", "b.db-lock", "adopting-lock"}


@pytest.mark.slow
def test_d18_an_adoption_of_many_files_takes_a_moment_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    for number in range(40):
        orphan(path, f"o{number}")

    async def main() -> list[float]:
        store, took = SQLiteStore(path), [time.process_time()]
        await store.open(RUN)
        while await store.adopt():
            took.append(time.process_time())
        await store.close()
        return [later - earlier for earlier, later in itertools.pairwise(took)]

    took = asyncio.run(main())
    assert len(took) > 2
    assert max(took) < 0.3
    assert len(calls_in(path)) == 120


@pytest.mark.slow
def test_d18_an_adoption_goes_on_in_the_file_that_is_opened_next(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    for number in range(40):
        orphan(path, f"o{number}")

    async def main() -> None:
        store = SQLiteStore(path)
        await store.open(RUN)
        assert await store.adopt()
        path.unlink()
        Lock(path).path.unlink()
        with pytest.raises(JournalError):
            await store.adopt()
        await store.open(RUN)
        await journals.adopted(store)
        await store.close()

    asyncio.run(main())
    [kept] = tmp_path.glob("calls.db.removed-*")
    assert {*calls_in(path), *calls_in(kept)} == {f"o{one}-{two}" for one in range(40) for two in range(3)}


def test_a_copied_file_that_could_not_be_removed_stays_locked(tmp_path: Path) -> None:
    class Failing(SQLiteStore):
        fails = True

        async def sync(self) -> None:
            if self.fails:
                raise OSError("input/output error")

    async def main() -> None:
        store = Failing(tmp_path / "calls.db")
        await store.open(RUN)
        with pytest.raises(OSError, match="input/output"):
            await store.adopt()
        assert not Lock(part).take()
        store.fails = False
        assert await store.adopt()
        assert not part.exists()
        await store.close()

    part = orphan(tmp_path / "calls.db", "a")
    asyncio.run(main())
    assert len(calls_in(tmp_path / "calls.db")) == 3


@pytest.mark.slow
def test_two_processes_that_adopt_at_once_take_each_file_once(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    for number in range(20):
        orphan(path, f"o{number}", calls=20)
    script = """if True:
        import sys
        from adapters.sqlite.store import SQLiteStore
        from recovery.service import Recovery
        with Recovery(store=SQLiteStore(sys.argv[1])) as service:
            service.journal.receipt().wait(5.0)
            print("up", flush=True)
            sys.stdin.readline()
            service.journal.pending(10.0)
            print(service.journal.reason, flush=True)
            sys.stdin.readline()
    """
    command = [sys.executable, "-c", script, str(path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for word in ("up", "None"):
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{word}\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    for process in both:
        process.communicate(timeout=20)
        assert process.returncode == 0
    left = files.journal_files(path)
    counts = sum((Counter(calls_in(part)) for part in left), Counter[str]())
    ours = {call: count for call, count in counts.items() if call}
    assert ours == {f"o{number}-{call}": 1 for number in range(20) for call in range(20)}
    assert len(left) <= 2  # the journal, and what the second process wrote


def test_a_file_that_cannot_be_adopted_holds_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    orphan(path, "a")
    orphan(path, "z")
    folder = files.folder_of(path)
    side_file(path, "b").write_bytes(b"garbage" * 1000)
    os.mkfifo(side_file(path, "c"))
    side_file(path, "d").symlink_to(tmp_path / "elsewhere")
    side_file(path, "e").mkdir()
    orphan(path, "f")
    (folder / "f.db-lock").symlink_to(tmp_path / "elsewhere")
    with journals.plain(side_file(path, "g")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    side_file(path, "h").touch()
    began = time.monotonic()
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        pending = service.journal.pending(5.0)
        assert service.journal.reason is None
    assert time.monotonic() - began < 2.0
    assert {record.call for record in pending.calls} == {f"{one}-{number}" for one in "az" for number in range(3)}
    names = {
        one.name.split(".damaged-")[0] for one in folder.iterdir() if not one.name.endswith(("-lock", "-shm", "-wal"))
    }
    assert names == {"b.db", "c.db", "d.db", "e.db", "f.db", "g.db"}
    assert not (tmp_path / "elsewhere").exists()


def test_status_shows_the_calls_of_orphans_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("main")]))
    orphan(path, "a")
    side_file(path, "b").write_bytes(b"garbage" * 1000)
    os.mkfifo(side_file(path, "c"))
    os.mkfifo(files.folder_of(path) / "a.db-lock")
    before = journals.contents(tmp_path)
    status = asyncio.run(read_status(path))
    assert {call.call for call in status.calls} == {"main", "a-0", "a-1", "a-2"}
    assert not status.is_being_written
    assert [Path(one).name for one in status.damaged] == ["b.db"]
    assert journals.contents(tmp_path) == before


@pytest.mark.slow
def test_status_during_an_adoption_misses_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    for number in range(6):
        orphan(path, f"o{number}")
    script = """if True:
        import sys
        from adapters.sqlite.store import SQLiteStore
        from recovery.service import Recovery
        class Stepwise(SQLiteStore):
            async def sync(self):
                print("copied", flush=True)
                sys.stdin.readline()
                await super().sync()
        with Recovery(store=Stepwise(sys.argv[1])) as service:
            service.journal.pending(20.0)
    """

    def look() -> None:
        status = asyncio.run(read_status(path))
        assert len(status.calls) == 18
        assert all(call.attempt == 1 for call in status.calls)
        assert (status.unreadable, status.damaged) == (0, ())

    command, steps = [sys.executable, "-c", script, str(path)], 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in process.stdout:
            steps += 1
            look()  # the rows stand in two files
            process.stdin.write("\n")
            process.stdin.flush()
            look()  # while that file is removed, and the next one is copied
    assert steps == 6
    assert process.returncode == 0
    assert not list(files.folder_of(path).glob("*.db"))
