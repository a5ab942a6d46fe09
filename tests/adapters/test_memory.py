from __future__ import annotations

import pytest

from adapters.memory import MemoryStore
from recovery.journal.history import TERMINAL, Run
from recovery.journal.store import Row

pytestmark = pytest.mark.anyio

RUN = Run(id="r1", boot="boot", monotonic=1.0, wall=2.0, pid=3)


def row(number: int = 1, kind: str = "OperationStarted", *, call: str = "c1") -> Row:
    return Row("r1", call, kind, b"{}", number)


async def test_what_was_appended_is_unfinished_in_the_order_written() -> None:
    store = MemoryStore()
    written = [row(), row(2, call="c2"), row(3, "FailureClassified")]
    await store.append(written)
    await store.append(written)  # a batch may come twice
    assert (await store.unfinished())[1] == written


@pytest.mark.parametrize("kind", [event.__name__ for event in TERMINAL])
async def test_a_call_with_a_terminal_event_is_not_unfinished(kind: str) -> None:
    store = MemoryStore()
    await store.append([row(), row(2, call="c2"), row(3, kind)])
    assert (await store.unfinished())[1] == [row(2, call="c2")]


async def test_what_concerns_no_call_is_not_unfinished() -> None:
    store = MemoryStore()
    await store.append([row(kind="CircuitHalfOpened", call="")])
    assert (await store.unfinished())[1] == []


async def test_a_store_that_is_opened_again_still_has_its_rows_and_runs() -> None:
    store = MemoryStore()
    await store.open(RUN)
    await store.append([row()])
    await store.close()
    await store.open(Run(id="r2", boot="boot", monotonic=5.0, wall=6.0, pid=7))
    runs, rows = await store.unfinished()
    assert ([run.id for run in runs], list(rows)) == (["r1", "r2"], [row()])


async def test_only_the_latest_rows_are_kept() -> None:
    store = MemoryStore(capacity=2)
    await store.append([row(number, call=f"c{number}") for number in range(5)])
    assert [kept.call for kept in store.rows] == ["c3", "c4"]
