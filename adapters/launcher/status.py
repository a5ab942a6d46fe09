"""The state of a journal, read without changing it: its calls and circuits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapters.launcher.launch import Outcome, name_in_arguments
from adapters.sqlite.files import side_files
from adapters.sqlite.lock import written_files
from adapters.sqlite.other_files import once
from adapters.sqlite.reading import reading
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.codec import decode
from events.errors import CodecError
from events.event import Event
from events.names import display_name
from recovery.journal.errors import DamagedJournalError, JournalError
from recovery.journal.history import CallRecord, Run, replay
from recovery.journal.store import Row

CIRCUIT_STATES = {CircuitOpened: "open", CircuitHalfOpened: "half-open", CircuitClosed: "closed"}


class CallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    *state* is "left" for a call that no living process has begun or resumed, "unreadable" for one that is not over and
    has a damaged row, "failed" for a launch that is over with an operation that is not done. *which* is
    the argument, or the idempotency key, that tells it from others. *cause* is its latest failure in plain words.
    *seen* is the Unix time of its latest event, *due* that of its next attempt, *deadline* that of the end of its wait
    for causes. *pid* is the process that wrote the latest event. *outcomes* are those of the operations of a launch, by
    name.
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
    which: str
    cause: str
    reason: str
    seen: float
    due: float | None = None
    waits_for: str = ""
    deadline: float | None = None
    pid: int = 0
    is_resumable: bool = True
    outcomes: dict[str, Outcome] = {}

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("succeeded", "failed", "gave up", "rejected", "cancelled")


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A journal. *is_being_written* means by a living process; *unreadable* counts rows that hold no event.

    *living* are the runs of the processes that write it.
    *damaged* are side files of dead processes that cannot be read. A process that resumes quarantines them.
    """

    path: str
    is_being_written: bool
    calls: tuple[CallStatus, ...]
    circuits: dict[str, str]
    unreadable: int
    damaged: tuple[str, ...] = ()
    living: tuple[str, ...] = ()


async def read_status(path: Path) -> JournalStatus:
    """Read the journal at *path*. Raises FileNotFoundError or a JournalError; the message names the path."""
    damaged: list[str] = []
    found: list[tuple[Path, Sequence[Run], Sequence[Row]]] = []
    # The journal itself last: a row that is adopted meanwhile is seen twice then, and not missed.
    for file in side_files(path):
        try:
            found.append((file, *await _contents_of(file)))
        except FileNotFoundError:
            continue
        except JournalError:
            if file.exists():
                damaged.append(str(file))
    if path.exists() or not found:
        found.insert(0, (path, *await _contents_of(path)))
    runs = {run.id: run for _, known, _ in found for run in known}
    records: dict[str, CallRecord] = {}
    circuits: dict[str, str] = {}
    unreadable: Counter[str] = Counter()
    for row in once(row for _, _, rows in found for row in rows):
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
    written = written_files(path)
    living = {_writer(known) for file, known, _ in found if file in written and known}
    return JournalStatus(
        path=str(path),
        is_being_written=bool(written),
        calls=tuple(
            _status(record, runs.get(record.run), living, is_readable=record.call not in unreadable)
            for record in records.values()
        ),
        circuits=circuits,
        unreadable=unreadable.total(),
        damaged=tuple(damaged),
        living=tuple(sorted(living)),
    )


def _writer(runs: Sequence[Run]) -> str:
    """Which of *runs*, all found in one file, writes that file: the others are dead, some of them adopted."""
    alive = [run for run in runs if _is_alive(run.pid)] or runs  # none, if it lives in another container
    return max(alive, key=lambda run: run.wall).id


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # of another user
    except (OSError, OverflowError):
        return False
    return True


async def _contents_of(path: Path) -> tuple[Sequence[Run], Sequence[Row]]:
    try:
        return await _read(path)
    except DamagedJournalError:
        return await _read(path)  # a process that began to write the file at that moment may have confused the reader


async def _read(path: Path) -> tuple[Sequence[Run], Sequence[Row]]:
    async with reading(path) as reader:
        return await reader.runs(), await reader.rows()


def _status(record: CallRecord, run: Run | None, living: set[str], *, is_readable: bool) -> CallStatus:
    def wall(at: float | None) -> float | None:
        return None if run is None or at is None else run.wall + at - run.monotonic

    outcomes, explained = _outcomes(record), record.explain()
    return CallStatus(
        call=record.call,
        operation=record.operation,
        key=record.key,
        name=name_in_arguments(record.operation, record.arguments),
        state=_state(record, outcomes, is_alive=record.run in living, is_readable=is_readable),
        attempt=record.attempt,
        retries=record.retries,
        restarts=record.resumes,
        failures=record.failures,
        which=explained.which,
        cause=explained.cause,
        reason=record.reason,
        seen=wall(record.at) or 0.0,
        due=wall(record.due),
        waits_for=record.waits_for,
        deadline=wall(record.deadline),
        pid=0 if run is None else run.pid,
        is_resumable=record.is_resumable,
        outcomes=outcomes,
    )


def _state(record: CallRecord, outcomes: dict[str, Outcome], *, is_alive: bool, is_readable: bool) -> str:
    if record.is_over:
        is_done = record.state != "succeeded" or all(outcome.state == "done" for outcome in outcomes.values())
        return record.state if is_done else "failed"
    if not is_readable:
        return "unreadable"
    if record.state == "quarantined":
        return record.state
    if not is_alive:
        return "left"
    return "paused" if record.paused_at is not None else record.state


def _outcomes(record: CallRecord) -> dict[str, Outcome]:
    """How the operations of a launch ended, from its latest checkpoint."""
    if record.operation != "launch" or record.saved is None:
        return {}
    try:
        return msgspec.json.decode(record.saved, type=dict[str, Outcome])
    except msgspec.DecodeError:  # an operation of another program
        return {}
