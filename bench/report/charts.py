"""The charts of the report, and the figures in each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from bench.measure import Spread
from bench.report import plotting
from bench.report.costs import FAILURE_STEPS, FEATURES, SUCCESS_STEPS
from bench.report.figures import Figures
from bench.report.plotting import BAD, OTHERS, OURS, Bar
from bench.report.protocol import NAMES
from bench.row import Row

SHORT = {
    "success-async": "success, async",
    "success-sync": "success, sync",
    "feature-monitoring": "monitoring",
    "overhead-1ms-lazy": "1 ms, lazy",
    "overhead-1ms-journal": "1 ms, journal",
    "overhead-1ms-memory": "1 ms, memory store",
    "overhead-10ms-lazy": "10 ms, lazy",
    "overhead-10ms-journal": "10 ms, journal",
    "overhead-10ms-memory": "10 ms, memory store",
    "overhead-average": "overhead, average",
    "caller-async-sqlite": "caller, async, SQLite",
    "caller-async-memorystore": "caller, async, memory",
    "caller-sync-sqlite": "caller, sync, SQLite",
    "caller-sync-memorystore": "caller, sync, memory",
    "failure": "one failure, sync",
    "failure-observed": "failure, observed",
    "failure-async": "one failure, async",
    "failure-async-hyx": "failure, over hyx",
    "failure-processor": "failure, all threads",
    "tasks": "1000 tasks",
    "tasks-hyx": "1000 tasks, over hyx",
    "rescued": "rescued",
    "late-async": "lag, async",
    "late-sync": "lag, sync",
    "users": "20 users",
    "events": "events committed",
    "ticker": "1 ms ticker",
    "memory-waiting": "memory, waiting",
    "import-ratio": "import",
    "growth-cost": "growth",
}


OF_OURS = ("launcher-recovery", "with three observers", "without a journal")
"""Bars of ours among those of other libraries."""


def draw_charts(figures: Figures, folder: Path) -> None:
    """Draw every chart that has figures into *folder*. Charts of earlier runs are deleted."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a missing font has a substitute
    for chart in folder.glob("*.svg"):
        chart.unlink()
    judged = [(SHORT[row.key], row) for row in figures.judged if row.key in SHORT and row.measured is not None]
    if judged:
        plotting.goals(folder / "goals.svg", "Each figure as a share of its goal", judged)
    success = {"success-async": "async", "success-sync": "sync"}
    failure = {"failure-async": "async", "failure": "sync"}
    _peers(figures, folder / "peers.svg", "Success, as a multiple of hand-written (log)", success)
    _peers(figures, folder / "failure.svg", "One failure, as a multiple of hand-written (log)", failure)
    _overhead(figures, folder / "overhead.svg")
    _protocol(figures, folder / "protocol.svg")
    _stages(figures, folder / "stages.svg")
    _features(figures, folder / "features.svg")


def _peers(figures: Figures, path: Path, title: str, keys: Mapping[str, str]) -> None:
    groups = {}
    for key, name in keys.items():
        row = figures.row(key)
        if row.measured is not None and row.peers:
            every = {"launcher-recovery": row.measured, **row.peers}
            in_order = sorted((one.middle, label) for label, one in every.items() if label != "bare")
            groups[name] = [Bar(label, middle, OURS if label in OF_OURS else OTHERS) for middle, label in in_order]
    if groups:
        plotting.bars(path, title, "x", groups, log=True)


def _overhead(figures: Figures, path: Path) -> None:
    groups = {}
    for milliseconds, given in ((1, 525.0), (10, 79.0)):
        row = figures.row(f"protocol-persistence-corrected, {milliseconds} ms")
        if row.measured is not None:
            groups[f"an operation of {milliseconds} ms"] = [
                Bar("predecessor, as given", given, BAD),
                Bar("reconstruction", row.peers["reconstruction"].middle),
                Bar("launcher-recovery", row.measured.middle, OURS),
            ]
    if groups:
        plotting.bars(path, "What persistence adds, in percent", "%", groups)


def _protocol(figures: Figures, path: Path) -> None:
    groups = {}
    for key, name in (
        ("protocol-basic decorator-as published", 'decorator, as published: "overhead"'),
        ("protocol-basic decorator-corrected", "decorator, corrected: overhead"),
        ("protocol-recovery-as published", 'recovery, as published: "succeeded"'),
        ("protocol-recovery-corrected", "recovery, corrected: succeeded"),
    ):
        row = figures.row(key)
        if row.measured is not None:
            every: dict[str, Spread] = {**row.peers, "launcher-recovery": row.measured}
            groups[name] = [Bar(one, every[one].middle, OURS if one == NAMES[-1] else OTHERS) for one in NAMES]
    if groups:
        scales = dict.fromkeys([name for name in groups if name.startswith("recovery")], 100.0)
        plotting.bars(path, "As published, and corrected", "%", groups, scales=scales)


def _stages(figures: Figures, path: Path) -> None:
    groups: dict[str, tuple[str, list[tuple[str, Spread]]]] = {}
    for name, unit, keys in (
        ("a call that succeeds", "ns", SUCCESS_STEPS),
        ("one failure then success, the caller's time", "µs", FAILURE_STEPS),
    ):
        parts = [(keys[key], one) for key, one in figures.some(keys)]
        if parts:
            groups[name] = (unit, parts)
    if groups:
        plotting.steps(path, "Where the time goes", groups)


def _features(figures: Figures, path: Path) -> None:
    rows: list[tuple[str, Row]] = [(name, figures.row(f"feature-{name}-failure")) for name in FEATURES]
    parts = [Bar(name, row.measured.middle, OURS) for name, row in rows if row.measured is not None]
    if parts:
        plotting.bars(path, "What each feature adds to one failure", "µs", {"": parts})
