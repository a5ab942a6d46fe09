from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.sqlite.lock import written_files
from adapters.sqlite.reading import reading
from adapters.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from adapters.sqlite.store import SQLiteStore
from recovery.journal.errors import ForeignJournalError, JournalBusyError, JournalError, NewerJournalError
from recovery.journal.history import Run
from recovery.journal.store import Row
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.corruptions import execute

pytestmark = pytest.mark.anyio

RUN = Run(id="r1", boot="boot", monotonic=1.5, wall=2.5, pid=3)
OTHER = Run(id="r2", boot="boot", monotonic=2.5, wall=3.5, pid=4)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiosqlite knows no other


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "calls.db"


def row(number: int = 1, kind: str = "OperationStarted", *, call: str = "c1", body: bytes = b"{}") -> Row:
    return Row("r1", call, kind, body, number)


@asynccontextmanager
async def opened(path: Path, run: Run = RUN) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    try:
        await store.open(run)
        yield store
    finally:
        await store.close()


async def unfinished(path: Path) -> list[Row]:
    async with opened(path) as store:
        return list((await store.unfinished())[1])


# What is written


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
async def test_a_batch_of_any_length_is_written_once_and_in_order(path: Path, count: int) -> None:
    written = [Row("r1", f"c{number % 3}", "OperationStarted", b"%d" % number, number) for number in range(1, 201)]
    async with opened(path) as store:
        await store.append(written[:count])
        await store.append(written)
    assert await unfinished(path) == written


@pytest.mark.parametrize("count", [1, 63, 140])
@pytest.mark.parametrize(
    "bad",
    [Row("r1", "c1", None, b"{}", 500), row(500, call="\ud800")],  # type: ignore[arg-type]  # the point
    ids=["refused by the table", "refused by the driver"],
)
async def test_a_batch_that_fails_leaves_nothing_and_the_next_one_is_written(path: Path, bad: Row, count: int) -> None:
    async with opened(path) as store:
        with pytest.raises(Exception, match=r"cannot be written|surrogates not allowed"):
            await store.append([*map(row, range(1, count + 1)), bad])
        await store.append([row(call="c2")])
    assert await unfinished(path) == [row(call="c2")]


async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(JournalError, match=r"calls\.db is not open"):
        await SQLiteStore(path).append([row()])


# One writer per file


async def test_files_are_0600_in_a_0700_folder(path: Path) -> None:
    mask = os.umask(0)
    try:
        async with opened(path) as store:
            await store.append([row()])
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(["calls.db", "calls.db-lock", "calls.db-shm", "calls.db-wal"], 0o600)


async def test_a_second_writer_gets_a_file_of_its_own_and_the_first_goes_on(path: Path) -> None:
    async with opened(path) as first, opened(path, OTHER) as second:
        await second.append([row(call="c2")])
        await first.append([row()])
        assert (first.own, second.own) == (path, path.parent / "calls.db.d" / "r2.db")
        assert (await first.unfinished())[1] == [row()]
        assert (await second.unfinished())[1] == [row(call="c2")]


async def test_two_processes_of_one_name_do_not_write_one_file(path: Path) -> None:
    async with opened(path), opened(path, OTHER):
        with pytest.raises(JournalBusyError, match=r"r2\.db is being written"):
            async with opened(path, OTHER):
                pass


async def test_a_run_needs_its_own_name(path: Path) -> None:
    async with opened(path):
        pass
    with pytest.raises(JournalError, match="another run called 'r1'"):
        async with opened(path, msgspec.structs.replace(RUN, pid=RUN.pid + 1)):
            pass


# What is not ours


def database(folder: Path, *statements: str) -> Path:
    execute(folder / "other.db", *statements)
    return folder / "other.db"


def foreign(folder: Path) -> Path:
    return database(folder, "CREATE TABLE theirs (x)")


def foreign_without_tables(folder: Path) -> Path:
    return database(folder, "PRAGMA application_id = 77")


def foreign_of_a_killed_process(folder: Path) -> Path:
    """With a WAL that is not checkpointed yet."""
    original = folder / "original.db"
    with closing(sqlite3.connect(original, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE theirs (x)")
        for ending in ("", "-wal"):
            shutil.copy(f"{original}{ending}", folder / f"other.db{ending}")
    return folder / "other.db"


def newer(folder: Path) -> Path:
    version = f"PRAGMA user_version = {SCHEMA_VERSION + 1}"
    return database(folder, "CREATE TABLE events (x)", f"PRAGMA application_id = {APPLICATION_ID}", version)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (foreign, ForeignJournalError),
        (foreign_without_tables, ForeignJournalError),
        (foreign_of_a_killed_process, ForeignJournalError),
        (newer, NewerJournalError),
    ],
)
async def test_d9_what_is_not_ours_is_refused_by_name_and_left_untouched(
    tmp_path: Path, make: Callable[[Path], Path], error: type[JournalError]
) -> None:
    path = make(tmp_path)
    before = journals.contents(tmp_path)
    for opening in (opened, reading):
        with pytest.raises(error, match=r"other\.db"):
            async with opening(path):
                pass
    assert journals.contents(tmp_path) == before


@pytest.mark.parametrize("blocked", ["journal", "journal/calls.db"])
async def test_a_place_where_no_file_can_be_is_named(path: Path, tmp_path: Path, blocked: str) -> None:
    if blocked == "journal":
        path.parent.write_text("a file where a folder should be")
    else:
        path.mkdir(parents=True)
    with pytest.raises((OSError, JournalError), match=str(tmp_path / "journal")):
        async with opened(path):
            pass


# Reading beside the writer


async def test_a_reader_sees_what_was_committed_since_it_began(path: Path) -> None:
    async with opened(path) as store, reading(path) as reader:
        await store.append([row()])
        assert await reader.rows() == [row()]
        await store.append([row(2, "GaveUp")])
        assert await reader.rows() == [row(), row(2, "GaveUp")]


@pytest.mark.parametrize("is_open", [True, False], ids=["while it is written", "when it is closed"])
async def test_reading_changes_no_file_and_leaves_none_behind(path: Path, is_open: bool) -> None:
    async with opened(path) as store:
        await store.append([row()])
        if not is_open:
            await store.close()
        before = journals.contents(path.parent)
        async with reading(path) as reader:
            assert await reader.rows() == [row()]
        after = journals.contents(path.parent)
    assert after == before


async def test_a_reader_does_not_keep_the_writer_from_writing(path: Path) -> None:
    async with opened(path) as store:
        await store.append([row()])
        async with reading(path) as reader:
            await reader.rows()
            await store.append([row(number, call=f"c{number}") for number in range(2, 1002)])
            await store.close()
    assert len(await unfinished(path)) == 1001


async def test_there_is_nothing_to_read_where_no_journal_is(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no journal at .*calls\.db"):
        async with reading(path):
            pass
    assert not path.parent.exists()


async def test_a_journal_is_being_written_while_its_writer_lives(path: Path) -> None:
    assert not written_files(path)
    assert not path.parent.exists()
    async with opened(path):
        assert written_files(path)
    assert not written_files(path)


async def test_asking_turns_no_writer_away(path: Path) -> None:
    async with opened(path):
        pass
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            written_files(path)

    curious = threading.Thread(target=ask)
    curious.start()
    try:
        for _ in range(20):
            async with opened(path):
                pass
    finally:
        is_over.set()
        curious.join()


async def test_d8_the_writer_keeps_its_lock_while_the_store_fails(path: Path) -> None:
    async with opened(path) as first:
        path.with_name("calls.db-wal").unlink()
        path.unlink()
        with pytest.raises(JournalError, match="moved or removed"):
            await first.append([row()])
        async with opened(path, OTHER) as second:
            assert second.own != path
        await first.open(RUN)
        assert first.own == path


async def test_d2_what_was_removed_is_not_synced(path: Path) -> None:
    async with opened(path) as store:
        await store.append([row()])
        await store.sync()
        shutil.rmtree(path.parent)
        with pytest.raises(JournalError, match="moved or removed"):
            await store.sync()


@pytest.mark.parametrize("path", [":memory:", "", " ", "file::memory:", "file:x?mode=memory&cache=shared"])
def test_a_database_in_memory_is_no_journal(path: str) -> None:
    with pytest.raises(ValueError, match="MemoryStore"):
        SQLiteStore(path)


@pytest.mark.parametrize("path", ["file:x.db", "FILE:///x.db", Path("./file:x.db"), "sqlite:///x.db", "https://x.db"])
def test_a_uri_is_no_path(path: str | Path) -> None:
    with pytest.raises(ValueError, match="not the URI"):
        SQLiteStore(path)


@pytest.mark.parametrize("path", [".", "..", "/", "calls/", "calls.db/.", "calls/..", Path()])
def test_the_name_of_a_folder_is_refused(path: str | Path) -> None:
    with pytest.raises(ValueError, match="path must be the path of a file, not of a folder"):
        SQLiteStore(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
async def test_a_path_that_is_refused_gets_no_lock(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "calls.db")
    with pytest.raises(JournalError, match="choose another path"):
        async with opened(tmp_path / "calls.db"):
            pass
    assert [one.name for one in tmp_path.iterdir()] == ["calls.db"]


@pytest.mark.parametrize("path", [None, 5, b"calls.db"])
def test_what_is_no_path_is_refused_by_name(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a str or a Path"):
        SQLiteStore(path)


@pytest.mark.parametrize("name", ["a b.db", "a?mode=ro#x.db", "a%20b.db", "ümlaut.db", "a.db-wal", "http:x.db"])
async def test_a_journal_may_have_any_other_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened(Path(name)) as store:
        await store.append([row()])
        assert len(list(tmp_path.glob("*.db"))) + len(list(tmp_path.glob("a.db-wal"))) == 1
    assert len(await unfinished(tmp_path / name)) == 1
