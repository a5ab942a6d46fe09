"""The calls in the files of other processes: found, and taken over, without changing these files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import files, schema
from adapters.sqlite.other_files import read_each
from adapters.sqlite.reading import Reader
from adapters.sqlite.store import SQLiteStore
from events.operation_events import CheckpointSaved, OperationStarted
from events.recorded import Recorded
from recovery.journal.encoding import readable
from recovery.journal.history import CallRecord, Run, replay
from recovery.journal.results import recorded_in
from recovery.journal.store import Row
from tests.adapters.sqlite import journals

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run_of(name: str) -> Run:
    return Run(id=name, boot="boot", monotonic=1.0, wall=2.0, pid=3)


@pytest.fixture
async def main(path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    """A process that writes the journal's own file."""
    store = SQLiteStore(path, wall=clock, monotonic=clock)
    await store.open(run_of("main"))
    yield store
    await store.close()


@pytest.fixture
async def side(path: Path, clock: Clock, main: SQLiteStore) -> AsyncIterator[SQLiteStore]:
    """Another one, which writes a side file."""
    store = SQLiteStore(path, wall=clock, monotonic=clock)
    await store.open(run_of("side"))
    yield store
    await store.close()


async def records(store: SQLiteStore, operation: str = "render", since: float = NOW) -> dict[str, CallRecord]:
    runs, rows = await store.calls_of(operation, since)
    assert {row.run for row in rows} <= {run.id for run in runs}
    found: dict[str, CallRecord] = {}
    for run, event in readable(rows):
        replay(found, run, (event,))
    return found


async def test_the_calls_of_living_processes_are_found_by_each_of_them(main: SQLiteStore, side: SQLiteStore) -> None:
    await main.append(journals.rows_of([journals.started("a"), journals.started("x", "other")], run="main"))
    await side.append(journals.rows_of([journals.started("b"), journals.succeeded("b")], run="side"))
    for store in (main, side):
        found = await records(store)
        assert {call: record.state for call, record in found.items()} == {"a": "running", "b": "succeeded"}
        assert found["a"].arguments == b'[["a"],{}]'
        assert list(await records(store, "other")) == ["x"]


async def test_a_call_that_is_over_is_found_if_it_ended_lately_and_a_running_one_always(
    main: SQLiteStore, side: SQLiteStore, clock: Clock
) -> None:
    events = [journals.started("old"), journals.succeeded("old"), journals.started("a"), journals.started("b")]
    await main.append(journals.rows_of(events, run="main"))
    clock.now += 100.0
    await main.append(journals.rows_of([journals.gave_up("b")], 5, run="main"))
    found = await records(side, since=clock.now)
    assert {call: record.state for call, record in found.items()} == {"a": "running", "b": "gave up"}


async def test_a_running_call_is_found_behind_very_many_later_rows(main: SQLiteStore, side: SQLiteStore) -> None:
    later = [journals.started("x", "other")] * (schema.ROWS_OF_OPERATION + 10)
    events = [journals.started("done"), journals.succeeded("done"), journals.started("a"), *later]
    await main.append(journals.rows_of(events, run="main"))
    assert list(await records(side)) == ["a"]


async def test_a_recorded_result_is_found_and_checkpoints_are_left_out(main: SQLiteStore, side: SQLiteStore) -> None:
    recorded = Recorded(key="k", result=msgspec.Raw(b"7"), until=2e9)
    end = msgspec.structs.replace(journals.succeeded("a"), recorded=recorded)
    saved = CheckpointSaved(at=1.0, operation="render", call="a", data=msgspec.Raw(b"{}"))
    await main.append(journals.rows_of([journals.started("a"), saved, end], run="main"))
    _, rows = await side.calls_of("render", NOW)
    assert [type(event).__name__ for _, event in readable(rows)] == ["OperationStarted", "OperationSucceeded"]
    assert [bytes(found.result) for _, event in readable(rows) if (found := recorded_in(event))] == [b"7"]


async def test_the_name_of_an_operation_in_the_arguments_of_another_is_no_match(main: SQLiteStore) -> None:
    arguments = msgspec.Raw(b'[[{"operation":"render"}],{}]')
    event = OperationStarted(at=1.0, operation="other", call="x", arguments=arguments)
    await main.append(journals.rows_of([event], run="main"))
    assert await records(main) == {}
    assert list(await records(main, "other")) == ["x"]


@pytest.mark.parametrize("name", ['qu"oted', "ümlaut", "back\\slash", "a b"])
async def test_an_operation_is_found_by_any_name(main: SQLiteStore, name: str) -> None:
    await main.append(journals.rows_of([journals.started("a", name)], run="main"))
    assert list(await records(main, name)) == ["a"]


async def test_rows_in_two_files_are_found_once_and_the_end_counts(main: SQLiteStore, side: SQLiteStore) -> None:
    rows = journals.rows_of([journals.started("a")], run="main")
    await main.append(rows)
    await side.append([*rows, *journals.rows_of([journals.succeeded("a")], run="side")])
    for store in (main, side):
        _, found = await store.calls_of("render", NOW)
        assert [(row.run, row.number) for row in found] == [("main", 1), ("side", 1)]
        assert (await records(store))["a"].state == "succeeded"


async def test_a_file_that_cannot_be_read_is_left_out(path: Path, main: SQLiteStore) -> None:
    await main.append(journals.rows_of([journals.started("a")], run="main"))
    files.folder_of(path).mkdir()
    (files.folder_of(path) / "garbage.db").write_bytes(b"garbage" * 1000)
    assert list(await records(main)) == ["a"]


async def test_files_are_read_again_if_one_of_them_is_adopted_meanwhile(tmp_path: Path) -> None:
    _, orphan = both = [tmp_path / "a.db", tmp_path / "b.db"]
    for file in both:
        async with journals.opened(file):
            pass
    looks = 0

    async def read(_: Reader) -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            orphan.unlink()
        return looks

    assert await read_each(lambda: [file for file in both if file.exists()], read) == [2]


async def test_a_call_that_another_process_holds_is_taken_over_whole(
    path: Path, main: SQLiteStore, side: SQLiteStore
) -> None:
    saved = CheckpointSaved(at=1.0, operation="render", call="a", data=msgspec.Raw(b"{}"))
    rows = journals.rows_of([journals.started("a"), saved, journals.started("b")], run="side")
    await side.append(rows)
    before = journals.contents(files.folder_of(path))
    await main.take_over(["a", "unknown"])
    await main.take_over(["a"])
    assert await main.history("a") == rows[:2]
    assert await main.history("b") == []
    assert "side" in [run.id for run in (await main.unfinished())[0]]
    assert journals.contents(files.folder_of(path)) == before


async def test_what_was_taken_over_and_ended_is_over_in_every_file_in_the_end(
    path: Path, main: SQLiteStore, side: SQLiteStore
) -> None:
    rows: list[Row] = journals.rows_of([journals.started("a")], run="earlier")
    await side.append(rows)  # adopted, and not begun
    await main.take_over(["a"])
    await main.append(journals.rows_of([journals.succeeded("a")], run="main"))
    assert (await side.unfinished())[1] == rows  # what it adopted before; ``take_over`` tells it more
    await side.take_over(["a"])
    assert (await side.unfinished())[1] == []
    await side.close()
    await main.adopt()
    assert (await main.unfinished())[1] == []
