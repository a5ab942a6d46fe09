"""A report of a journal: success rate, time lost by host and category, bytes saved by resuming, slow recoveries."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec

from adapters.journals.tally import REPORTED, Recovery, Tally
from adapters.sqlite import schema
from adapters.sqlite.files import journal_files
from adapters.sqlite.reading import reading
from events.codec import decode
from events.errors import CodecError
from recovery.journal.errors import JournalError
from recovery.journal.history import Run
from recovery.journal.store import Row

MOST_LOST = 20
"""Pairs of host and category that are listed, those that lost most time."""
MOST_OPERATIONS = 50
READINGS = 2
"""How often a file is read that cannot be: a process that begins to write it at that moment may confuse the reader."""
KINDS = msgspec.json.encode([kind.__name__ for kind in REPORTED]).decode()


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
        damaged: Side files that could not be read, and are not counted.
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
    damaged: tuple[str, ...] = ()


async def report_of(journal: Path, *, since: float = 0.0) -> Report:
    """Count the calls of *journal* that began after *since*, a Unix time. The memory grows with the calls.

    Raises:
        FileNotFoundError, JournalError: There is no journal, or its main file cannot be read.
    """
    failures = Counter[Path]()
    while files := journal_files(journal):
        counting, whole = _Counting(since), [path for path in files if failures[path] < READINGS]
        for path in whole:
            try:
                await counting.read(path, is_only=len(whole) == 1)
            except (JournalError, OSError):
                failures[path] += 1
                if path == files[0] and failures[path] == READINGS and path.exists():
                    raise
                break
        else:
            if all(path.exists() for path in files):  # none was adopted meanwhile
                damaged = tuple(str(path) for path in files if path not in whole)
                return _report(journal, counting.tally, counting.unreadable, damaged)
    raise FileNotFoundError(f"there is no journal at {journal}")


class _Counting:
    """Counts the events of files, row by row."""

    def __init__(self, since: float) -> None:
        self.tally = Tally(since)
        self.unreadable = 0
        self._runs: dict[str, Run] = {}
        self._seen: set[tuple[str, int]] = set()

    async def read(self, path: Path, *, is_only: bool) -> None:
        """Count the events of the file at *path*; a row that another file has, too, once, unless it *is_only*."""
        async with reading(path) as reader:
            self._runs |= {run.id: run for run in await reader.runs()}
            async with aclosing(reader.raw(schema.OF_KINDS, KINDS)) as found:
                async for values in found:
                    self._count(schema.as_row(*values), is_only=is_only)

    def _count(self, row: Row, *, is_only: bool) -> None:
        run = self._runs.get(row.run)
        if run is None or not row.is_readable:
            self.unreadable += 1
        elif is_only or (row.run, row.number) not in self._seen:
            if not is_only:
                self._seen.add((row.run, row.number))
            with suppress(CodecError):
                event = decode(row.body)
                self.tally.take(msgspec.structs.replace(event, at=run.wall + event.at - run.monotonic))


def _report(journal: Path, tally: Tally, unreadable: int, damaged: tuple[str, ...]) -> Report:
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
        damaged=damaged,
    )


def _of_operation(name: str, counts: Counter[str]) -> OfOperation:
    outcomes = {outcome.replace(" ", "_"): number for outcome, number in counts.items() if number}
    failures, recovered = outcomes.pop("failures", 0), outcomes.pop("recovered", 0)
    calls = sum(outcomes.values()) + recovered
    outcomes["succeeded"] = outcomes.get("succeeded", 0) + recovered
    return OfOperation(operation=name, calls=calls, recovered=recovered, failures=failures, **outcomes)


def _part(good: int, bad: int) -> float | None:
    return good / (good + bad) if good + bad else None
