"""The state of a journal, read without changing it: its calls and circuits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapters.launcher.launch import name_in_arguments
from adapters.launcher.screen import STYLES, table_of
from adapters.sqlite.files import side_files
from adapters.sqlite.lock import is_being_written
from adapters.sqlite.other_files import once
from adapters.sqlite.reading import reading
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.codec import decode
from events.errors import CodecError
from events.event import Event
from events.names import display_name
from recovery.installation import extra
from recovery.journal.errors import DamagedJournalError, JournalError
from recovery.journal.history import CallRecord, Run, replay
from recovery.journal.store import Row
from recovery.redact import printable

with extra("launcher"):
    from rich.console import Console, Group
    from rich.table import Column
    from rich.text import Text

CIRCUIT_STATES = {CircuitOpened: "open", CircuitHalfOpened: "half-open", CircuitClosed: "closed"}


class CallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One call. *seen* is the Unix time of its latest event.

    *state* is "left" for a call that a dead process left, "unreadable" for one that is not over and has a damaged row.
    """

    call: str
    operation: str
    key: str
    name: str | None
    state: str
    attempt: int
    retries: int
    restarts: int
    failures: tuple[str, ...]
    reason: str
    seen: float


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A journal. *is_being_written* means by a living process; *unreadable* counts rows that hold no event.

    *damaged* are side files of dead processes that cannot be read. A process that resumes quarantines them.
    """

    path: str
    is_being_written: bool
    calls: tuple[CallStatus, ...]
    circuits: dict[str, str]
    unreadable: int
    damaged: tuple[str, ...] = ()


async def read_status(path: Path) -> JournalStatus:
    """Read the journal at *path*. Raises FileNotFoundError or a JournalError; the message names the path."""
    damaged: list[str] = []
    found: list[tuple[Sequence[Run], Sequence[Row]]] = []
    # The journal itself last: a row that is adopted meanwhile is seen twice then, and not missed.
    for file in side_files(path):
        try:
            found.append(await _contents_of(file))
        except FileNotFoundError:
            continue
        except JournalError:
            if file.exists():
                damaged.append(str(file))
    if path.exists() or not found:
        found.insert(0, await _contents_of(path))
    runs = {run.id: run for known, _ in found for run in known}
    records: dict[str, CallRecord] = {}
    circuits: dict[str, str] = {}
    unreadable: Counter[str] = Counter()
    for row in once(row for _, rows in found for row in rows):
        try:
            if not row.is_readable:
                raise CodecError("it is not as it was written")
            event: Event = decode(row.body)
        except CodecError:
            unreadable[row.call] += 1
            continue
        replay(records, row.run, (event,))
        if type(event) in CIRCUIT_STATES:
            circuits[display_name(event.operation, event.key)] = CIRCUIT_STATES[type(event)]
    for call in filter(None, unreadable):
        records.setdefault(call, CallRecord(call=call, operation="?"))
    alive = is_being_written(path)
    return JournalStatus(
        path=str(path),
        is_being_written=alive,
        calls=tuple(
            _status(record, runs, alive=alive, is_readable=record.call not in unreadable) for record in records.values()
        ),
        circuits=circuits,
        unreadable=unreadable.total(),
        damaged=tuple(damaged),
    )


async def _contents_of(path: Path) -> tuple[Sequence[Run], Sequence[Row]]:
    try:
        return await _read(path)
    except DamagedJournalError:
        return await _read(path)  # a process that began to write the file at that moment may have confused the reader


async def _read(path: Path) -> tuple[Sequence[Run], Sequence[Row]]:
    async with reading(path) as reader:
        return await reader.runs(), await reader.rows()


def _status(record: CallRecord, runs: dict[str, Run], *, alive: bool, is_readable: bool) -> CallStatus:
    run = runs.get(record.run)
    state: str = record.state
    if not record.is_over:
        state = "unreadable" if not is_readable else state if alive else "left"
    return CallStatus(
        call=record.call,
        operation=record.operation,
        key=record.key,
        name=name_in_arguments(record.operation, record.arguments),
        state=state,
        attempt=record.attempt,
        retries=record.retries,
        restarts=record.resumes,
        failures=record.failures,
        reason=record.reason,
        seen=0.0 if run is None else run.wall + record.at - run.monotonic,
    )


COLUMNS = (
    (110, Column("call", no_wrap=True)),
    (0, Column("operation", no_wrap=True, overflow="ellipsis", min_width=20, ratio=3)),
    (0, Column("state", no_wrap=True)),
    (0, Column("try", no_wrap=True, justify="right")),
    (110, Column("restarts", no_wrap=True, justify="right")),
    (110, Column("last seen", no_wrap=True)),
    (0, Column("what went wrong", no_wrap=True, overflow="ellipsis", ratio=6)),
)


def status_table(status: JournalStatus, console: Console) -> Group:
    """The calls, the circuits, and whether a process writes the journal, in as many columns as *console* has room."""
    circuits = [Text(f"circuit {printable(name)}: {state}") for name, state in status.circuits.items()]
    problems = [f"{status.unreadable} rows cannot be read"] if status.unreadable else []
    problems += [f"{printable(name)} cannot be read" for name in status.damaged]
    writer = "a running process is writing it" if status.is_being_written else "no process is writing it"
    return Group(
        table_of(map(_cells, status.calls), COLUMNS, console) if status.calls else Text("no calls"),
        *circuits,
        *(Text(problem, style="red") for problem in problems),
        Text(f"journal {printable(status.path)}: {writer}", style="dim"),
    )


def _cells(call: CallStatus) -> tuple[Text, ...]:
    return (
        Text(printable(call.call)),
        Text(printable(f"{call.operation} {call.name}" if call.name else call.operation)),
        Text(call.state, style=STYLES.get(call.state, "red")),
        Text(str(call.attempt)),
        Text(str(call.restarts or "")),
        Text(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(call.seen))),
        Text(printable(_trouble(call.failures, call.reason))),
    )


def _trouble(failures: Sequence[str], reason: str) -> str:
    last = failures[-1] if failures else ""
    count = f"{len(failures)} failures, last " if len(failures) > 1 else ""
    return " | ".join(part for part in (reason, f"{count}{last}" if last else "") if part)
