"""What every store does, in memory and in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from recovery.journal.history import TERMINAL, Run
from recovery.journal.store import Row, Store, Taken
from recovery.testing import FaultyStore

pytestmark = pytest.mark.anyio

RUN = Run(id="r1", boot="boot", monotonic=1.0, wall=2.0, pid=3)
OTHER = Run(id="r2", boot="", monotonic=9.25, wall=1e9, pid=2**31)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiosqlite knows no other


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "calls.db")


def row(number: int = 1, kind: str = "OperationStarted", *, call: str = "c1", body: bytes = b"{}") -> Row:
    return Row("r1", call, kind, body, number)


async def unfinished(store: Store, *batches: list[Row]) -> list[Row]:
    """Write *batches*, then open the store again for another run, which is the last to write."""
    await store.open(RUN)
    for batch in batches:
        await store.append(batch)
    await store.close()
    await store.open(OTHER)
    runs, rows = await store.unfinished()
    await store.close()
    assert list(runs) == [RUN, OTHER]
    return list(rows)


async def test_rows_come_back_as_they_were_written_in_that_order(store: Store) -> None:
    written = [row(body=b'{"at":1}'), row(2, call="c2", body=bytes(range(256))), row(3, "FailureClassified", body=b"")]
    assert await unfinished(store, written[:2], written[2:], written) == written  # a batch may come twice


@pytest.mark.parametrize("kind", [event.__name__ for event in TERMINAL])
async def test_a_call_with_a_terminal_event_is_not_unfinished(store: Store, kind: str) -> None:
    assert await unfinished(store, [row(), row(2, call="c2"), row(3, kind)]) == [row(2, call="c2")]


async def test_what_concerns_no_call_is_not_unfinished(store: Store) -> None:
    assert await unfinished(store, [row(kind="CircuitHalfOpened", call="")]) == []


async def test_a_store_in_memory_has_no_other_process_to_exclude(tmp_path: Path) -> None:
    assert FaultyStore(MemoryStore(), fail_at=1, sticky=True).claim(b"a") is None
    assert await MemoryStore().calls_of("fetch", 0.0) == ((), ())
    first, second = (FaultyStore(SQLiteStore(tmp_path / "calls.db"), fail_at=1) for _ in range(2))
    claim = first.claim(b"a")  # before it is open
    assert claim is not None
    assert second.claim(b"a") == Taken(os.getpid())
    await first.store.open(RUN)
    await first.store.close()
    assert second.claim(b"a") == Taken(os.getpid())


async def test_only_the_latest_rows_are_kept_in_memory() -> None:
    store = MemoryStore(capacity=2)
    await store.append([row(number, call=f"c{number}") for number in range(5)])
    assert [kept.call for kept in store.rows] == ["c3", "c4"]
