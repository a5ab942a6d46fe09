"""The state of a journal with very many rows is shown in bounded memory (D18)."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.journals.status import MOST_LEFT, MOST_OVER, JournalStatus, read_status
from adapters.terminal.screen import make_console
from adapters.terminal.status_table import status_table
from events.event import Event
from events.operation_events import CheckpointSaved
from tests.adapters.sqlite import journals
from tests.slow import few

ROWS = 12_000
"""More than are shown."""


def gave_up(rows: int) -> Iterator[Event]:
    return (journals.gave_up(f"dead-{number}") for number in range(rows))


def succeeded(rows: int) -> Iterator[Event]:
    return (journals.succeeded(f"dead-{number}") for number in range(rows))


def pending(rows: int) -> Iterator[Event]:
    return (journals.started(f"dead-{number}") for number in range(rows))


def one_call(rows: int) -> Iterator[Event]:
    yield journals.started("dead-1")
    for number in range(rows):
        data = msgspec.Raw(msgspec.json.encode({"offset": number}))
        yield CheckpointSaved(at=1.0, operation="render", call="dead-1", data=data)


def circuits(rows: int) -> Iterator[Event]:
    return (journals.circuit_opened(f"render-{number % 50}") for number in range(rows))


MANY = [(gave_up, MOST_OVER), (succeeded, MOST_OVER), (pending, MOST_LEFT), (one_call, 1), (circuits, 0)]


@pytest.mark.parametrize("rows", few([ROWS, 40_000], ROWS))
@pytest.mark.parametrize(("events", "most"), few(MANY, MANY[0], MANY[4]), ids=[one.__name__ for one, _ in MANY])
def test_d18_status_reads_many_rows_in_bounded_time_and_memory(
    events: object, most: int, rows: int, tmp_path: Path
) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of(list(events(rows))))  # type: ignore[operator]
    began = time.process_time()
    tracemalloc.start()
    status = asyncio.run(read_status(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(status.calls) == most
    assert sum(status.more.values()) == (rows - most if most > 1 else 0)
    assert peak < 40_000_000
    assert time.process_time() - began < 20.0  # under tracemalloc, on a busy machine


@pytest.mark.slow
def test_d18_a_call_can_be_asked_for_by_its_id_among_many(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of(list(pending(ROWS))))
    status = asyncio.run(read_status(path, also=["dead-7", "unknown"]))
    assert [call.call for call in status.calls if call.call == "dead-7"] == ["dead-7"]
    assert len(asyncio.run(read_status(path, show_all=True)).calls) == ROWS


def test_the_table_says_how_many_calls_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    status = JournalStatus(
        path=str(path),
        is_being_written=False,
        calls=(),
        circuits={},
        unreadable=0,
        more={"gave up": 3, "succeeded": 4, "cancelled": 5},
    )
    console = make_console()
    with console.capture() as captured:
        console.print(status_table(status, path, now=0.0))
    assert "and 9 more that succeeded or were cancelled; --all shows them" in captured.get()
    assert "and 3 more: gave up; --all shows them" in captured.get()
