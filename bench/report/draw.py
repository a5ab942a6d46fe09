"""Which charts the report has, and what is in them."""

from __future__ import annotations

import logging
from pathlib import Path

from bench.measure import Spread
from bench.report import charts
from bench.report.charts import BAD, OTHERS, OURS, Bar
from bench.report.costs import FAILURE_STEPS, FEATURES, SUCCESS_STEPS
from bench.report.found import Found
from bench.report.protocol import NAMES
from bench.row import Row

SHORT = {
    "success-async": "success, async",
    "success-sync": "success, sync",
    "feature-monitoring": "monitoring",
    "overhead-1ms-lazy": "1 ms, lazy",
    "overhead-1ms-journal": "1 ms, journal",
    "overhead-10ms-lazy": "10 ms, lazy",
    "overhead-10ms-journal": "10 ms, journal",
    "overhead-average": "overhead, average",
    "failure": "one failure, sync",
    "failure-async": "one failure, async",
    "tasks": "1000 tasks, journal",
    "tasks-alone": "1000 tasks, alone",
    "rescued": "rescued",
    "late-async": "late, async",
    "late-sync": "late, sync",
    "users": "20 users",
    "events": "events committed",
    "ticker": "1 ms ticker",
    "memory-waiting": "memory, waiting",
    "growth-cost": "growth",
}


def draw(found: Found, folder: Path) -> None:
    """Draw what there are figures for, into *folder*; charts of an earlier run are removed."""
    logging.getLogger("matplotlib.font_manager").setLevel(
        logging.ERROR
    )  # fonts that are not here have others after them
    for chart in folder.glob("*.svg"):
        chart.unlink()
    judged = [(SHORT[row.key], row) for row in found.judged if row.key in SHORT and row.measured is not None]
    if judged:
        charts.goals(folder / "goals.svg", "Each figure, of its goal", judged)
    _peers(found, folder / "peers.svg")
    _overhead(found, folder / "overhead.svg")
    _protocol(found, folder / "protocol.svg")
    _stages(found, folder / "stages.svg")
    _features(found, folder / "features.svg")


def _peers(found: Found, path: Path) -> None:
    groups = {}
    for key, name in (("success-async", "async"), ("success-sync", "sync")):
        row = found.row(key)
        if row.measured is not None and row.peers:
            others = sorted(
                ((name, one.middle) for name, one in row.peers.items() if name != "bare"), key=lambda one: one[1]
            )
            groups[name] = [Bar("launcher-recovery", row.measured.middle, OURS), *[Bar(*one) for one in others]]
    if groups:
        charts.bars(path, "Success, in times of hand-written (log)", "x", groups, log=True)


def _overhead(found: Found, path: Path) -> None:
    groups = {}
    for milliseconds, given in ((1, 525.0), (10, 79.0)):
        row = found.row(f"protocol-persistence-corrected, {milliseconds} ms")
        if row.measured is not None:
            groups[f"an operation of {milliseconds} ms"] = [
                Bar("predecessor, as given", given, BAD),
                Bar("reconstruction", row.peers["reconstruction"].middle),
                Bar("launcher-recovery", row.measured.middle, OURS),
            ]
    if groups:
        charts.bars(path, "What persistence adds, in percent", "%", groups)


def _protocol(found: Found, path: Path) -> None:
    groups = {}
    for key, name in (
        ("protocol-basic decorator-as published", 'decorator, as published: "overhead"'),
        ("protocol-basic decorator-corrected", "decorator, corrected: overhead"),
        ("protocol-recovery-as published", 'recovery, as published: "succeeded"'),
        ("protocol-recovery-corrected", "recovery, corrected: succeeded"),
    ):
        row = found.row(key)
        if row.measured is not None:
            every: dict[str, Spread] = {**row.peers, "launcher-recovery": row.measured}
            groups[name] = [Bar(one, every[one].middle, OURS if one == NAMES[-1] else OTHERS) for one in NAMES]
    if groups:
        scales = dict.fromkeys([name for name in groups if name.startswith("recovery")], 100.0)
        charts.bars(path, "As published, and corrected", "%", groups, scales=scales)


def _stages(found: Found, path: Path) -> None:
    groups: dict[str, tuple[str, list[tuple[str, Spread]]]] = {}
    for name, unit, keys in (
        ("a call that succeeds", "ns", SUCCESS_STEPS),
        ("one failure, until it is decided", "µs", FAILURE_STEPS),
    ):
        parts = [(keys[key], one) for key, one in found.some(keys)]
        if parts:
            groups[name] = (unit, parts)
    if groups:
        charts.steps(path, "Where the time goes", groups)


def _features(found: Found, path: Path) -> None:
    rows: list[tuple[str, Row]] = [(name, found.row(f"feature-{name}-failure")) for name in FEATURES]
    parts = [Bar(name, row.measured.middle, OURS) for name, row in rows if row.measured is not None]
    if parts:
        charts.bars(path, "What each feature adds to one failure", "µs", {"": parts})
