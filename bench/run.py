"""Run groups of rows, each in a process of its own, so that one group cannot disturb the next."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from bench.machine import Machine, describe
from bench.measure import Effort, pool
from bench.row import Row

GROUPS = {
    "success": "A call that succeeds",
    "features": "Each feature alone",
    "overhead": "Operations of 1 ms and 10 ms",
    "journal_mode": "What journal mode takes of the caller",
    "failure": "Calls that fail once",
    "call_count": "Functions that one call runs",
    "rescued": "Calls rescued by retries",
    "retry_lag": "Lag of retries",
    "users": "20 users",
    "events": "Throughput of the journal",
    "ticker": "Lag of the caller's event loop",
    "memory": "Memory",
    "imports": "Import time",
    "growth": "Growth with journal and calls",
    "durable": "Durable calls",
    "stages": "Where the time goes",
    "downloads": "Downloads",
    "protocol": "The predecessor's protocol",
    "pyperf_check": "Single calls, timed by pyperf",
}
"""Every group, in the order of the table; each is a module of ``bench.rows``."""
QUICK_GROUPS = tuple(name for name in GROUPS if name not in ("durable", "stages", "protocol", "pyperf_check"))
"""The groups that ``make bench-quick`` measures: all that have a goal."""
GATED_GROUPS = {
    "success": ("success-async", "success-sync", "wrapper-async", "wrapper-sync"),
    "journal_mode": ("journal-call",),
    "failure": ("failure", "failure-observed", "failure-async", "failure-processor", "tasks"),
    "call_count": ("failure-calls", "failure-calls-observed", "failure-calls-general", "success-calls-journal"),
    "events": ("events",),
    "memory": ("memory-ratio",),
    "imports": ("import-ratio", "import-first-call"),
}
"""The ratios and counts that the regression gate checks, by the group that measures them."""
PROCESSES = {"success": 3, "features": 3}
"""Groups that several processes measure: the layout of memory, which differs by process, changes nanoseconds."""
LIMIT = 900.0
"""Seconds after which a group counts as hanging."""


class Group(msgspec.Struct, frozen=True):
    """The rows of one group. *seconds* is how long it took; *error* tells why there are no rows."""

    name: str
    title: str
    seconds: float
    rows: list[Row] = []
    error: str = ""


class Run(msgspec.Struct, frozen=True):
    """All groups of one run, and its machine."""

    effort: str
    machine: Machine
    groups: list[Group]

    @property
    def rows(self) -> dict[str, Row]:
        """Every row by its key."""
        return {row.key: row for group in self.groups for row in group.rows}


def run(names: Iterable[str], effort: Effort, report: Callable[[Group], object] = lambda _: None) -> Run:
    """Measure the groups of these *names*; *report* is called with each group when it is done."""
    machine = describe()
    groups = []
    for name in names:
        group = run_group(name, effort)
        report(group)
        groups.append(group)
    return Run(effort.name, machine, groups)


def run_group(name: str, effort: Effort) -> Group:
    """Measure one group in a process of its own, or in several."""
    return pooled([_run_once(name, effort) for _ in range(PROCESSES.get(name, 1))])


def pooled(groups: Sequence[Group]) -> Group:
    """Combine what several processes measured of one group; if one failed, only its error."""
    first = groups[0]
    error = next((group.error for group in groups if group.error), "")
    rows = [] if error else [_pooled_row(rows) for rows in zip(*(group.rows for group in groups), strict=True)]
    return Group(first.name, first.title, sum(group.seconds for group in groups), rows, error)


def _pooled_row(rows: Sequence[Row]) -> Row:
    first = rows[0]
    found = [row.measured for row in rows if row.measured is not None]
    return msgspec.structs.replace(
        first,
        measured=pool(found) if len(found) == len(rows) else None,
        peers={name: pool([row.peers[name] for row in rows]) for name in first.peers},
    )


def _run_once(name: str, effort: Effort) -> Group:
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "bench", "group", name, "--effort", effort.name, "--into", file.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            error = (
                "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
            )
        except subprocess.TimeoutExpired:
            error = f"not done within {LIMIT:.0f} s"
        rows = [] if error else msgspec.json.decode(Path(file.name).read_bytes(), type=list[Row])
    return Group(name, GROUPS[name], time.monotonic() - began, rows, error)


def measure_group(name: str, effort: Effort) -> list[Row]:
    """Measure one group here."""
    rows: list[Row] = importlib.import_module(f"bench.rows.{name}").measure(effort)
    return rows
