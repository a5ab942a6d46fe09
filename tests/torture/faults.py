"""The fault sweep: each call of a store fails once, until healed, and for ever, before and after its effect."""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from adapters.memory import MemoryStore
from adapters.sqlite import files
from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from events.operation_events import CheckpointSaved, OperationStarted
from recovery import context
from recovery.journal.accounting import Counts
from recovery.journal.errors import NotDurable
from recovery.journal.history import TERMINAL
from recovery.journal.store import Store
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from tests.torture.figures import MEMORY_FOLDER, Figure
from tests.torture.fork_server import ForkServer

Mode: TypeAlias = Literal["once", "until healed", "for ever"]
POLICY = RetryPolicy(backoff=(0.0,))
ENDS = {kind.__name__ for kind in TERMINAL}
EXPECTED = ["done", "done", "done", "paid", "gave up", "done"]


class Fault(msgspec.Struct, frozen=True):
    """Call number *fail_at* of the store fails, for as long as *mode* says, *after* its effect or before."""

    store: Literal["memory", "sqlite"]
    fail_at: int
    mode: Mode
    after: bool


class Outcome(msgspec.Struct):
    """What a service did with a faulty store: *rows* are (run, number, call, kind).

    *left* are the calls of earlier processes that were not resumed.
    """

    results: list[str]
    counts: Counts
    rows: list[tuple[str, int, str, str]]
    run: str
    left: set[str]
    was_reached: bool


def leave_work(store: Store) -> set[str]:
    """Leave finished calls in *store*, and two unfinished ones, which are returned."""
    left = set()
    with Recovery(store=store) as service:
        for _ in range(5):
            service.recoverable("old", policy=POLICY, resumable=True)(lambda: None)()
        service.operation("job", durability="journal")
        for number in range(2):
            call = service.bus.new_call_id()
            left.add(call)
            started = OperationStarted(at=0.0, operation="job", call=call, arguments=msgspec.Raw(b"[[],{}]"))
            service.bus.publish(started)
            data = msgspec.Raw(msgspec.json.encode(number))
            service.bus.publish(CheckpointSaved(at=0.0, operation="job", call=call, data=data))
    return left


def sqlite_template(folder: Path) -> set[str]:
    """A journal with unfinished calls, and an orphan beside it."""
    left = leave_work(SQLiteStore(folder / "calls.db"))
    orphan = files.folder_of(folder / "calls.db") / "dead.db"
    orphan.parent.mkdir(0o700, exist_ok=True)
    return left | leave_work(SQLiteStore(orphan))


def run_with(fault: Fault, folder: Path, template: Path, left: set[str]) -> Outcome:
    """Run one service with *fault*, from its first call to its close; SQLite's file is a copy of *template*."""
    inner: Store
    if fault.store == "sqlite":
        shutil.copytree(template, folder)
        inner = SQLiteStore(folder / "calls.db", retention=Retention(calls=2))
    else:
        inner = memory = MemoryStore()
        left = leave_work(memory)
    store = FaultyStore(inner, fail_at=fault.fail_at, sticky=fault.mode != "once", after=fault.after)
    results: list[str] = []
    with Recovery(store=store) as service:
        service.recoverable("job", policy=POLICY, resumable=True)(lambda: "resumed")
        resumption = service.resume()
        progressing = _with_progress(Script(TimeoutError()))
        results.append(service.recoverable("a", policy=POLICY, resumable=True)(progressing)())
        results.append(service.recoverable("b", policy=POLICY)(Script(ConnectionError(), ConnectionError()))())
        with suppress(NotDurable):
            service.journal.receipt().wait(synced=True)
        results.append(service.recoverable("c", policy=POLICY, resumable=True)(Script(ConnectionError()))())
        pay = service.recoverable("pay", policy=POLICY, durability="strict")
        results.append(pay(Script(ConnectionError(), "paid"))())
        if fault.mode == "until healed":
            store.heal()
        try:
            service.recoverable("d", policy=RetryPolicy(max_retries=0), durability="strict")(Script(ValueError()))()
        except ValueError:
            results.append("gave up")
        # A journal that cannot be opened is retried; until then the calls left are unknown.
        assert fault.mode == "for ever" or resumption.wait(20.0)
        results.append(service.recoverable("e", policy=POLICY, resumable=True)(Script(ConnectionError()))())
        journal = service.journal
    if isinstance(inner, MemoryStore):
        rows = [(row.run, row.number, row.call, row.kind) for row in inner.rows]
    else:
        rows = list(_sqlite_rows(folder / "calls.db"))
    left = left - {call.record.call for call in resumption.calls if call.result == "resumed"}
    return Outcome(results, journal.counts, rows, journal.run.id, left, len(store.calls) >= fault.fail_at)


def _with_progress(script: Script) -> Callable[[], str]:
    def work() -> str:
        for step in range(3):
            context.checkpoint(step)
        return str(script())

    return work


def _sqlite_rows(path: Path) -> Iterator[tuple[str, int, str, str]]:
    for part in files.journal_files(path):
        with closing(sqlite3.connect(part)) as connection:
            yield from connection.execute("SELECT run, number, call, kind FROM events ORDER BY id")


def violations(fault: Fault, outcome: Outcome) -> list[str]:
    """The invariants that do not hold."""
    counts, problems = outcome.counts, list[str]()
    if outcome.results != EXPECTED:
        problems.append(f"the calls ended as {outcome.results}")
    if counts.issued != counts.stored + counts.coalesced + counts.dropped or counts.waiting:
        problems.append(f"the counts do not add up: {counts}")
    numbers = [number for name, number, _, _ in outcome.rows if name == outcome.run]
    if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(1, counts.issued + 1)):
        problems.append(f"the events are not in order: {numbers}")
    ends: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for name, number, call, kind in outcome.rows:
        if kind in ENDS:
            ends[call].add((name, number))
    problems += [f"call {call} ended {len(found)} times" for call, found in ends.items() if len(found) > 1]
    if fault.mode != "for ever":
        if counts.dropped:
            problems.append(f"{counts.dropped} events are lost though the store was healed")
        if fault.store == "memory" and len(numbers) != counts.stored:  # SQLite may have deleted some since
            problems.append(f"{len(numbers)} of {counts.stored} events are there")
    gone = outcome.left - {call for _, _, call, kind in outcome.rows if kind == "OperationStarted"}
    if gone:
        problems.append(f"calls of an earlier process are gone: {gone}")
    return problems


def faults(store: Literal["memory", "sqlite"]) -> Iterator[Iterator[Fault]]:
    """Series of faults at later and later calls; each series is used until no call has that number."""
    modes: tuple[Mode, ...] = ("once", "until healed", "for ever")
    for mode, after in itertools.product(modes, (False, True)):
        yield (Fault(store, number, mode, after) for number in itertools.count(1))


def sweep(store: Literal["memory", "sqlite"], *, every: int = 1) -> tuple[int, list[str]]:
    """Try one in *every* faults; returns how many were tried, and the problems found."""
    done, problems, folders = 0, list[str](), itertools.count()
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
        template = Path(name) / "template"
        left = sqlite_template(template)
        for number, series in enumerate(faults(store)):
            for fault in itertools.islice(series, number % every, None, every):
                outcome = run_with(fault, Path(name) / str(next(folders)), template, left)
                if not outcome.was_reached:
                    break
                done += 1
                problems += [f"{fault}: {problem}" for problem in violations(fault, outcome)]
    return done, problems


def fault_sweep(_: ForkServer, share: float) -> list[Figure]:
    """The figures of the fault sweep."""
    logging.getLogger("recovery").addHandler(logging.NullHandler())
    figures = []
    for store in ("memory", "sqlite"):
        done, problems = sweep(store, every=max(round(1 / share), 1))
        what = f"D11: a {store} store fails, invariants broken"
        figures.append(Figure(what, f"{done} faults", f"{len(problems)}", "0", not problems))
    return figures
