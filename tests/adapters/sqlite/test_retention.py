"""The journal stays bounded (D14): finished calls are deleted in slices, other calls never are."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from adapters.sqlite import retention, schema
from adapters.sqlite.reading import reading
from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from events.operation_events import CheckpointSaved, OperationCancelled
from events.question_events import QuestionAnswered, QuestionAsked
from recovery.journal.history import Run
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.steady import steady_state

NOW = 1_700_000_000.0
RUN = Run(id="run", boot="boot", monotonic=0.0, wall=0.0, pid=1)


def pruned(path: Path, keep: Retention, *batches: tuple[float, Iterable[Event]], at: float = NOW) -> list[list[str]]:
    """Write *batches*, each at its time, then prune until nothing is left to do: the rows' calls after each slice."""
    seen: list[list[str]] = []
    clock = [min([at, *(then for then, _ in batches)])]

    async def main() -> None:
        store = SQLiteStore(path, retention=keep, wall=lambda: clock[0], monotonic=lambda: clock[0])
        await store.open(RUN)
        number = 1
        for clock[0], events in batches:
            rows = journals.rows_of(list(events), number, RUN.id)
            number += len(rows)
            await store.append(rows)
        clock[0] = at
        more = True
        while more:
            more = await store.prune()
            async with reading(path) as reader:
                seen.append([row.call for row in await reader.rows()])
        await store.close()

    asyncio.run(main())
    return seen


def over(first: int, count: int) -> list[Event]:
    calls = [f"over-{number}" for number in range(first, first + count)]
    return [event for call in calls for event in (journals.started(call), journals.succeeded(call))]


def test_d14_calls_that_are_too_old_are_deleted(tmp_path: Path) -> None:
    seen = pruned(tmp_path / "calls.db", Retention(seconds=100.0), (NOW - 101, over(0, 3)), (NOW - 99, over(3, 2)))
    assert seen == [["over-3"] * 2 + ["over-4"] * 2]


def test_d14_too_many_calls_are_deleted_the_oldest_first(tmp_path: Path) -> None:
    batches = [(NOW - 50 + number, over(number, 1)) for number in range(20)]
    [left] = pruned(tmp_path / "calls.db", Retention(calls=5), *batches)
    assert set(left) == {f"over-{number}" for number in range(15, 20)}


def test_d3_a_log_that_begins_again_between_two_deletions_is_no_damage(tmp_path: Path) -> None:
    async def main() -> None:
        clock = [NOW]
        keep = Retention(seconds=10.0)
        store = SQLiteStore(tmp_path / "calls.db", retention=keep, wall=lambda: clock[0], monotonic=lambda: clock[0])
        await store.open(RUN)
        for first in range(1, 15_000, 300):
            circuits = [journals.circuit_opened("render" * 300) for _ in range(100)]
            await store.append(journals.rows_of([*circuits, *over(first, 100)], first, RUN.id))
            clock[0] += 11.0
            while await store.prune():
                pass
        await store.close()

    asyncio.run(main())


def test_d14_a_file_that_is_too_big_loses_its_oldest_calls(tmp_path: Path) -> None:
    seen = pruned(tmp_path / "calls.db", Retention(bytes=200_000), (NOW, over(0, 2000)))
    assert 0 < len(seen[-1]) < 1500
    assert seen[-1][-1] == "over-1999"


def test_d14_a_slice_has_at_most_500_rows_and_whole_calls(tmp_path: Path) -> None:
    seen = pruned(tmp_path / "calls.db", Retention(seconds=10.0), (NOW - 100, over(0, 2001)))
    sizes = [4002, *map(len, seen)]
    assert all(0 <= before - after <= 500 for before, after in itertools.pairwise(sizes))
    assert sizes[-1] == 0
    assert all(calls.count(call) == 2 for calls in seen for call in set(calls[:10]))


def test_d14_a_long_call_stays_finished_until_it_is_deleted(tmp_path: Path) -> None:
    saved = [CheckpointSaved(at=1.0, operation="render", call="long", data=b"1") for _ in range(1200)]  # type: ignore[arg-type]
    events = [journals.started("long"), *saved, journals.succeeded("long")]
    seen = pruned(tmp_path / "calls.db", Retention(seconds=10.0), (NOW - 100, events))
    assert [len(calls) for calls in seen] == [702, 202, 0]

    async def main() -> None:
        now = [NOW]

        def clock() -> float:
            return now[0]

        store = SQLiteStore(tmp_path / "other.db", retention=Retention(seconds=10.0), wall=clock, monotonic=clock)
        await store.open(RUN)
        await store.append(journals.rows_of(events, run=RUN.id))
        now[0] += 100
        await store.prune()
        assert (await store.unfinished())[1] == []  # a call without its end would be resumed
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("keep", [Retention(seconds=0.0), Retention(calls=0), Retention(bytes=0)])
def test_d14_pending_calls_and_calls_that_gave_up_are_kept(keep: Retention, tmp_path: Path) -> None:
    kept = [journals.started("pending"), journals.started("failed"), journals.gave_up("failed")]
    gone = [OperationCancelled(at=1.0, operation="render", call="cancelled"), *over(0, 1)]
    seen = pruned(tmp_path / "calls.db", keep, (NOW - 9e6, [*kept, *gone]))
    assert seen[-1] == ["pending", "failed", "failed"]


def test_d14_the_latest_rows_about_no_call_are_kept(tmp_path: Path) -> None:
    circuits = [journals.circuit_opened("render") for _ in range(retention.NO_CALL_KEPT + 700)]
    seen = pruned(tmp_path / "calls.db", Retention(), (NOW, circuits))
    assert [len(rows) for rows in seen] == [retention.NO_CALL_KEPT + 200, retention.NO_CALL_KEPT]


def test_d14_questions_and_answers_are_kept(tmp_path: Path) -> None:
    for event in (QuestionAnswered(at=0.0, name="token"), QuestionAsked(at=0.0, name="token", kind="secret")):
        path = tmp_path / f"{type(event).__name__}.db"
        assert pruned(path, Retention(seconds=1.0), (NOW - 99, [event] * 3)) == [[""] * 3]


def test_d14_a_run_without_rows_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("c")]))
    journals.write(path, run=Run(id="idle", boot="", monotonic=0.0, wall=0.0, pid=9))
    pruned(path, Retention())
    with journals.plain(path) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [("dead",), ("run",)]


def test_d14_no_query_reads_a_table_from_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path)
    queries = [value for name, value in vars(retention).items() if isinstance(value, str) and "FROM events" in value]
    queries += [schema.UNFINISHED, schema.CIRCUITS, schema.OF_CALL, schema.RESULT, schema.RESULTS]
    assert len(queries) == 12
    with journals.plain(path) as connection:
        for query in queries:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", [0] * query.count("?")).fetchall()
            walks = [step for *_, step in plan if step.startswith("SCAN events") and "INDEX" not in step]
            assert not walks, (query, plan)


def test_d14_finding_nothing_takes_no_longer_among_many_kept_calls(tmp_path: Path) -> None:
    async def steps(path: Path) -> int:
        taken = itertools.count()
        async with journals.opened(path) as connection:
            await connection.set_progress_handler(lambda: next(taken) and None, 10)
            await retention.prune(connection, Retention(calls=100_000), NOW, RUN.id)
        return next(taken)

    few, many = tmp_path / "20.db", tmp_path / "2000.db"
    journals.write(few, journals.rows_of(over(0, 20)))
    journals.write(many, journals.rows_of(over(0, 2000)))
    assert asyncio.run(steps(many)) <= asyncio.run(steps(few)) + 10


@pytest.mark.slow
def test_d14_a_journal_that_is_written_for_long_stays_small(tmp_path: Path) -> None:
    # A million with the defaults: `steady_state(path, 1_000_000)`; here a 25th of what is kept, and of the bytes.
    steady = steady_state(tmp_path / "calls.db", 20_000, Retention(calls=2_000, bytes=2_600_000))
    assert steady.file <= 2_600_000
    assert steady.log <= 16 * 1024 * 1024
    assert 2 * 2_000 <= steady.rows < 2 * 2_400
