"""Run the groups of rows, each in processes of its own: what one leaves behind cannot disturb the next."""

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
    "failure": "Calls that fail once",
    "rescued": "Rescued",
    "lateness": "Late",
    "users": "20 users",
    "events": "The journal's pace",
    "ticker": "The caller's loop",
    "memory": "Memory",
    "imports": "Import",
    "growth": "Growth",
    "durable": "Durable calls",
    "stages": "Where the time goes",
    "protocol": "The predecessor's protocol",
    "lone": "Lone times, by pyperf",
}
"""Every group, in the order of the table; each is a module of ``bench.rows``."""
QUICK_GROUPS = tuple(name for name in GROUPS if name not in ("durable", "stages", "protocol", "lone"))
"""Those that ``make bench-quick`` measures: all that have a goal."""
GATED_GROUPS = {
    "success": ("success-async", "success-sync", "wrapper-async", "wrapper-sync"),
    "failure": ("failure-ratio", "failure-async-ratio", "tasks-ratio"),
    "events": ("events-ratio",),
    "memory": ("memory-ratio",),
    "imports": ("import-ratio",),
}
"""The ratios that the gate watches, by the groups that measure them."""
PROCESSES = {"success": 3, "features": 3}
"""How many processes measure a group, where nanoseconds count: where code and data come to lie is each one's luck."""
LIMIT = 900.0
"""Seconds after which a group is taken to hang."""


class Group(msgspec.Struct, frozen=True):
    """What one group found, in *seconds*; *error* says why it found nothing."""

    name: str
    title: str
    seconds: float
    rows: list[Row] = []
    error: str = ""


class Run(msgspec.Struct, frozen=True):
    """Everything that one run found, and on which machine."""

    effort: str
    machine: Machine
    groups: list[Group]

    @property
    def rows(self) -> dict[str, Row]:
        """Every row by its key."""
        return {row.key: row for group in self.groups for row in group.rows}


def run(names: Iterable[str], effort: Effort, tell: Callable[[Group], object] = lambda _: None) -> Run:
    """Measure the groups of these *names*; *tell* hears of each as it is done."""
    machine = describe()
    groups = []
    for name in names:
        group = run_group(name, effort)
        tell(group)
        groups.append(group)
    return Run(effort.name, machine, groups)


def run_group(name: str, effort: Effort) -> Group:
    """Measure one group in a process of its own, or in several."""
    return pooled([_run_once(name, effort) for _ in range(PROCESSES.get(name, 1))])


def pooled(groups: Sequence[Group]) -> Group:
    """What several processes found of one group, as one: the quartiles of their quartiles; the first error, if any."""
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
            error = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it left without a word"])[-1]
        except subprocess.TimeoutExpired:
            error = f"not done within {LIMIT:.0f} s"
        rows = [] if error else msgspec.json.decode(Path(file.name).read_bytes(), type=list[Row])
    return Group(name, GROUPS[name], time.monotonic() - began, rows, error)


def measure_group(name: str, effort: Effort) -> list[Row]:
    """Measure one group here."""
    rows: list[Row] = importlib.import_module(f"bench.rows.{name}").measure(effort)
    return rows
