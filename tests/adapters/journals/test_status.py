from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import aiosqlite
import msgspec
import pytest

from adapters.journals.status import JournalStatus, read_status
from adapters.launcher.launch import Outcome
from adapters.sqlite import reading
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.codec import encode
from events.event import Event
from events.evidence import Category
from events.incident_events import IncidentClosed
from events.lease_events import OutcomeHeld
from events.operation_events import (
    CallRejected,
    CallSteered,
    CheckpointSaved,
    GaveUp,
    OperationCancelled,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row
from tests.adapters.sqlite import journals
from tests.adapters.terminal.test_view import failed, of_call, started
from tests.failures import a_failure

pytestmark = pytest.mark.anyio

RUN = Run(id="r1", boot="boot", monotonic=9.0, wall=1_700_000_000.0, pid=os.getpid())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiosqlite knows no other


async def status_of(folder: Path, *events: Event | bytes, is_alive: bool = False) -> JournalStatus:
    """The status of a journal that holds *events* (bytes: a row that is none), its writer alive or not."""
    path = folder / "calls.db"
    async with AsyncExitStack() as stack:
        store = SQLiteStore(path)
        stack.push_async_callback(store.close)
        await store.open(RUN)
        rows = [
            Row("r1", "", "?", event, number)
            if isinstance(event, bytes)
            else Row("r1", getattr(event, "call", ""), type(event).__name__, encode(event), number)
            for number, event in enumerate(events, 1)
        ]
        await store.append(rows)
        if not is_alive:
            await stack.aclose()
        return await read_status(path)


@pytest.mark.parametrize(
    ("events", "while_alive", "when_dead"),
    [
        ([started()], "running", "left"),
        ([started(), failed(), of_call(RetryScheduled, after=1.0, retry=1)], "waiting", "left"),
        ([failed(), of_call(RetryScheduled, after=1.0, retry=1), of_call(CallSteered, command="pause")],
         "paused", "left"),
        ([started(), of_call(OperationQuarantined, reason="4 processes died in it")], "quarantined", "quarantined"),
        ([started(), of_call(OperationSucceeded)], "succeeded", "succeeded"),
        ([started(), failed(), of_call(OperationRecovered, attempt=2)], "succeeded", "succeeded"),
        ([started(), failed(), of_call(GaveUp, reason="permanent")], "gave up", "gave up"),
        ([of_call(CallRejected, reason="circuit open")], "rejected", "rejected"),
        ([started(), of_call(OperationCancelled)], "cancelled", "cancelled"),
        ([started(leased=True, idempotency_key="k")], "running", "handed back"),
        ([of_call(OutcomeHeld, of="download/k", fence=12, data=b"")], "waiting", "waiting"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_alive", [True, False])
async def test_a_call_stands_as_its_events_say_and_as_its_writer_lives(
    tmp_path: Path, events: list[Event], while_alive: str, when_dead: str, is_alive: bool
) -> None:
    found = await status_of(tmp_path, *events, is_alive=is_alive)
    assert [call.state for call in found.calls] == [while_alive if is_alive else when_dead]
    assert found.is_being_written is is_alive


async def test_a_call_is_shown_with_all_that_happened_to_it(tmp_path: Path) -> None:
    found = await status_of(
        tmp_path,
        started(key="example.org"),
        failed(),
        of_call(RetryScheduled, after=1.0, retry=1),
        of_call(OperationResumed, attempt=2),
        started(attempt=2),
        failed(attempt=2, retries=1),
        of_call(GaveUp, attempt=2, at=14.5, reason="out of retries (1)"),
    )
    [call] = found.calls
    assert (call.call, call.operation, call.key, call.name) == ("c1", "download", "example.org", "model")
    assert (call.attempt, call.restarts, len(call.failures), call.reason) == (2, 1, 2, "out of retries (1)")
    assert call.seen == pytest.approx(1_700_000_005.5)


async def test_the_end_of_a_wait_is_a_time_of_day(tmp_path: Path) -> None:
    retry = of_call(RetryScheduled, at=20.0, after=30.0, retry=1)
    [call] = (await status_of(tmp_path, started(), failed(), retry, is_alive=True)).calls
    assert (call.due, call.waits_for) == (pytest.approx(1_700_000_041.0), "")


async def test_what_a_call_waits_for_is_named(tmp_path: Path) -> None:
    parked = of_call(Parked, after=0.0, why="disk space", within=60.0, category=Category.ENVIRONMENT)
    [call] = (await status_of(tmp_path, started(), failed(), parked, is_alive=True)).calls
    assert (call.waits_for, call.deadline) == ("disk space", pytest.approx(1_700_000_061.0))


async def test_the_cause_is_in_plain_words_and_without_secrets(tmp_path: Path) -> None:
    [call] = (await status_of(tmp_path, started(), a_failure("GET https://user:hunter22@host/x", call="c1"))).calls
    assert call.cause == "the connection failed (transient): ConnectionError: GET https://***@host/x"


async def test_a_call_of_a_dead_process_is_left_while_another_process_writes(tmp_path: Path) -> None:
    await asyncio.to_thread(journals.write, tmp_path / "calls.db", journals.rows_of([journals.started("dead-1")]))
    found = await status_of(tmp_path, started(), is_alive=True)
    assert {call.call: (call.state, call.pid) for call in found.calls} == {
        "dead-1": ("left", 2),
        "c1": ("running", os.getpid()),
    }


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ({"a": Outcome("done")}, "succeeded"),
        ({"a": Outcome("done"), "b": Outcome("failed", "why", optional=True)}, "succeeded"),
        ({"a": Outcome("done"), "b": Outcome("failed", "why"), "c": Outcome("skipped", "needs b")}, "failed"),
    ],
)
async def test_a_launch_has_failed_if_an_operation_of_it_is_not_done(
    tmp_path: Path, outcomes: dict[str, Outcome], state: str
) -> None:
    saved = of_call(CheckpointSaved, operation="launch", data=msgspec.Raw(msgspec.json.encode({"outcomes": outcomes})))
    found = await status_of(tmp_path, saved, of_call(OperationSucceeded, operation="launch"))
    assert [(call.state, call.outcomes) for call in found.calls] == [(state, outcomes)]


async def test_a_checkpoint_of_another_programs_launch_says_nothing(tmp_path: Path) -> None:
    saved = of_call(CheckpointSaved, operation="launch", data=msgspec.Raw(b"[1, 2]"))
    found = await status_of(tmp_path, saved, of_call(OperationSucceeded, operation="launch"))
    assert [(call.state, call.outcomes) for call in found.calls] == [("succeeded", {})]


async def test_calls_are_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    found = await status_of(tmp_path, started(call="b"), started(call="a"), of_call(OperationSucceeded, call="b"))
    assert [call.call for call in found.calls] == ["b", "a"]


async def test_a_circuit_stands_as_its_latest_event_says(tmp_path: Path) -> None:
    found = await status_of(
        tmp_path,
        CircuitOpened(at=1.0, operation="download", key="a.org", after=1.0),
        CircuitOpened(at=1.0, operation="download", key="b.org", after=1.0),
        CircuitHalfOpened(at=2.0, operation="download", key="a.org"),
        CircuitHalfOpened(at=2.0, operation="download", key="b.org"),
        CircuitClosed(at=3.0, operation="download", key="b.org"),
        CircuitOpened(at=3.0, operation="render", after=1.0),
    )
    assert found.circuits == {"download[a.org]": "half-open", "download[b.org]": "closed", "render": "open"}


@pytest.mark.parametrize("is_alive", [True, False])
async def test_an_incident_has_times_of_day_and_the_calls_that_wait_for_it(tmp_path: Path, is_alive: bool) -> None:
    a_org = {"operation": "download", "key": "a.org"}
    held = {"after": 5.0, "why": "circuit open: download[a.org]", "category": Category.UNREACHABLE, "key": "a.org"}
    found = await status_of(
        tmp_path,
        started(key="a.org", at=1.0),
        of_call(Parked, at=2.0, **held),  # for an earlier incident
        CircuitOpened(at=3.0, after=1.0, cause="timeout", **a_org),
        CircuitClosed(at=4.0, **a_org),
        IncidentClosed(at=4.0, lasted=1.0, **a_org),
        started(key="a.org", call="c2", at=8.0),
        CircuitOpened(at=9.0, after=30.0, cause="unreachable", **a_org),
        of_call(Parked, at=9.0, call="c2", **held),
        started(key="a.org", call="c3", at=9.5),
        of_call(Parked, at=9.5, call="c3", **held),
        of_call(GaveUp, at=10.0, call="c3", key="a.org", reason="told to"),
        CircuitOpened(at=39.0, after=60.0, times=2, cause="unreachable", **a_org),
        is_alive=is_alive,
    )
    [incident] = found.incidents
    assert (incident.since, incident.next_probe) == (RUN.wall, RUN.wall + 90.0)
    assert (incident.cause, incident.calls, incident.gave_up) == ("unreachable", {"c2", "c3"}, 1)
    assert incident.waiting == ({"c2"} if is_alive else set())


async def test_rows_that_are_no_events_are_counted_and_spoil_nothing(tmp_path: Path) -> None:
    found = await status_of(tmp_path, b"garbage", started(), b"\xff", b'{"event":"FromTheFuture","at":1}')
    assert (found.unreadable, len(found.calls)) == (3, 1)


async def test_an_operation_of_another_program_has_no_name(tmp_path: Path) -> None:
    found = await status_of(
        tmp_path,
        of_call(OperationStarted, operation="render", arguments=msgspec.Raw(b'[["x"],{}]')),
        of_call(OperationStarted, call="r1-2", arguments=msgspec.Raw(b'[[],{"name":"x"}]')),
    )
    assert [call.name for call in found.calls] == [None, None]


async def test_a_journal_that_is_made_meanwhile_is_not_taken_for_a_foreign_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.db"
    look = reading.number_of

    async def look_and_be_overtaken(connection: aiosqlite.Connection, pragma: str) -> int:
        number = await look(connection, pragma)
        monkeypatch.setattr(reading, "number_of", look)
        await asyncio.to_thread(journals.write, path, journals.rows_of([journals.started("c")]))
        return number

    with journals.plain(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # as it is before it has its tables
        connection.execute("SELECT * FROM sqlite_schema")
        monkeypatch.setattr(reading, "number_of", look_and_be_overtaken)
        assert [call.call for call in (await read_status(path)).calls] == ["c"]


async def test_a_process_leaves_out_its_own_calls_that_live(tmp_path: Path) -> None:
    events = started(call="r1-1"), started(call="r1-2"), of_call(OperationCancelled, call="r1-2"), started(call="r0-1")
    await status_of(tmp_path, *events)
    pauses: list[int] = []
    found = await read_status(tmp_path / "calls.db", not_left=("r1-",), pause=lambda: pauses.append(1))
    assert sorted(call.call for call in found.calls) == ["r0-1", "r1-2"]
    assert len(pauses) == 6


async def test_what_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match=r"calls\.db"):
        await read_status(tmp_path / "calls.db")
