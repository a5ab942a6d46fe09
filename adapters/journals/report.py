"""A report of a journal: success rate, time lost by host and category, bytes saved by resuming, slow recoveries."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.journals.tally import REPORTED, Recovery, Tally
from adapters.sqlite import schema
from adapters.sqlite.files import journal_files
from adapters.sqlite.other_files import once, read_each
from adapters.sqlite.reading import Reader, reading
from events.codec import decode
from events.errors import CodecError
from recovery.journal.history import Run
from recovery.journal.store import Row

MOST_LOST = 20
"""Pairs of host and category that are listed, those that lost most time."""
MOST_OPERATIONS = 50


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Time that failures of one category have cost.

    Args:
        key: The host, or another key; the name of the operation if it has none.
        category: The category of the failures; "held back" for waits before an attempt that no failure explains.
        failures: How many attempts failed.
        waited: Seconds of waits.
        failing: Seconds of failed attempts that came no further.
    """

    key: str
    category: str
    failures: int
    waited: float
    failing: float


class OfOperation(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of one operation ended.

    Args:
        operation: Its name.
        calls: How many calls of it are in the journal.
        succeeded: Calls that succeeded, with failures or without.
        recovered: Those of them in which an attempt had failed.
        gave_up: Calls that failed for good.
        rejected: Calls that were not started.
        cancelled: Calls that were cancelled.
        not_over: Calls that have not ended.
        failures: Attempts that failed.
    """

    operation: str
    calls: int = 0
    succeeded: int = 0
    recovered: int = 0
    gave_up: int = 0
    rejected: int = 0
    cancelled: int = 0
    not_over: int = 0
    failures: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal tells of its calls. Of operations with "lazy" durability it has only calls that failed once.

    Args:
        path: The journal's file.
        since: The Unix time of its first event that is counted; 0 if there is none.
        until: That of the last.
        total: The calls of all operations; the "operation" is "".
        success_rate: Of the calls that succeeded, gave up or were rejected, the part that succeeded; None without any.
        recovery_rate: Of the calls in which an attempt failed and that ended so, the part that succeeded.
        waited: Seconds of waits of all calls; calls wait at the same time.
        failing: Seconds of failed attempts that came no further.
        saved_bytes: Bytes that downloads did not fetch again, since they were resumed.
        received_bytes: Bytes of the downloads that ended.
        lost: The time lost, by host and category; the largest first.
        slowest: The slowest recoveries, the slowest first.
        operations: How calls ended, by operation; those with most failures first.
        unreadable: Rows that could not be read, and are not counted.
    """

    path: str
    since: float
    until: float
    total: OfOperation
    success_rate: float | None
    recovery_rate: float | None
    waited: float
    failing: float
    saved_bytes: int
    received_bytes: int
    lost: tuple[Lost, ...]
    slowest: tuple[Recovery, ...]
    operations: tuple[OfOperation, ...]
    unreadable: int


async def report_of(journal: Path, *, since: float = 0.0) -> Report:
    """Count the calls of *journal* that began after *since*, a Unix time.

    Raises:
        FileNotFoundError, JournalError: There is no journal, or its main file cannot be read.
    """
    if not (files := journal_files(journal)):
        raise FileNotFoundError(f"there is no journal at {journal}")
    async with reading(files[0]):
        pass  # of the others, those that cannot be read are left out
    found = await read_each(lambda: journal_files(journal), _rows)
    runs = {run.id: run for known, _ in found for run in known}
    tally, unreadable = Tally(since), 0
    for row in once(row for _, rows in found for row in rows):
        run = runs.get(row.run)
        if run is None or not row.is_readable:
            unreadable += 1
            continue
        with suppress(CodecError):
            event = decode(row.body)
            tally.take(msgspec.structs.replace(event, at=run.wall + event.at - run.monotonic))
    return _report(journal, tally, unreadable)


async def _rows(reader: Reader) -> tuple[list[Run], list[Row]]:
    names = msgspec.json.encode([kind.__name__ for kind in REPORTED]).decode()
    return [*await reader.runs()], [*await reader.rows(schema.OF_KINDS, names)]


def _report(journal: Path, tally: Tally, unreadable: int) -> Report:
    operations = [_of_operation(name, counts) for name, counts in tally.outcomes.items()]
    total = _of_operation("", sum(tally.outcomes.values(), Counter[str]()))
    lost = [
        Lost(key=key, category=category, failures=int(failures), waited=waited, failing=failing)
        for (key, category), (failures, waited, failing) in tally.lost.items()
    ]
    return Report(
        path=str(journal),
        since=tally.first,
        until=tally.last,
        total=total,
        success_rate=_part(total.succeeded, total.gave_up + total.rejected),
        recovery_rate=_part(total.recovered, total.gave_up),
        waited=sum(one.waited for one in lost),
        failing=sum(one.failing for one in lost),
        saved_bytes=tally.saved_bytes,
        received_bytes=tally.received_bytes,
        lost=tuple(sorted(lost, key=lambda one: -(one.waited + one.failing))[:MOST_LOST]),
        slowest=tuple(tally.slowest),
        operations=tuple(sorted(operations, key=lambda one: (-one.failures, -one.calls))[:MOST_OPERATIONS]),
        unreadable=unreadable,
    )


def _of_operation(name: str, counts: Counter[str]) -> OfOperation:
    outcomes = {outcome.replace(" ", "_"): number for outcome, number in counts.items() if number}
    failures, recovered = outcomes.pop("failures", 0), outcomes.pop("recovered", 0)
    calls = sum(outcomes.values()) + recovered
    outcomes["succeeded"] = outcomes.get("succeeded", 0) + recovered
    return OfOperation(operation=name, calls=calls, recovered=recovered, failures=failures, **outcomes)


def _part(good: int, bad: int) -> float | None:
    return good / (good + bad) if good + bad else None
