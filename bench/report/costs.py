"""Sections of the report: where the time goes, the cost of each feature, and other libraries."""

from __future__ import annotations

from bench.report.figures import Figures, measured, table, verdict
from bench.row import amount

SUCCESS_STEPS = {
    "stage-success-work": "function and loop",
    "stage-success-hand-written": "a hand-written try",
    "stage-success-wrapper": "our wrapper, beyond",
    "stage-success-everything": "journal, circuit, rules",
}
FAILURE_STEPS = {
    "stage-failure-attempt": "attempt and event",
    "stage-failure-dispatch": "dispatch",
    "stage-failure-classify": "classify",
    "stage-failure-decide": "decide",
    "stage-failure-break": "circuit",
    "stage-failure-journal": "journal",
}
FEATURES = ("persistence", "classification", "logging", "breaker", "monitoring", "everything")
PEERS = (
    "launcher-recovery",
    "hand-written",
    "tenacity",
    "stamina",
    "backoff",
    "hyx",
    "pyresilience",
    "opnieuw",
    "circuitbreaker",
    "pybreaker",
)
COMPARED = {
    "success-sync": "success, sync",
    "success-async": "success, async",
    "failure": "one failure, sync",
    "failure-async": "one failure, async",
    "tasks": "1000 tasks",
    "memory-waiting": "waiting call",
    "rescued": "rescued",
}


def stages(figures: Figures) -> str:
    lines = []
    for key in (*SUCCESS_STEPS, *FAILURE_STEPS, "stage-failure-call", "stage-failure-raise"):
        row = figures.row(key)
        lines.append((row.what, measured(row)))
    return (
        "Each step is the difference between two services (or buses), measured round by round; the second has one part "
        "more than the first.\n\n"
        + table(("step", "takes (quartiles)"), lines)
        + "\n\nThe whole call takes longer than the sum of its steps. The difference is the runner: a second attempt, "
        "a wait of length zero, and the event `OperationRecovered`."
    )


def features(figures: Figures) -> str:
    lines = []
    for name in FEATURES:
        success, failure = figures.row(f"feature-{name}"), figures.row(f"feature-{name}-failure")
        lines.append((name, measured(success), verdict(success), measured(failure), success.before or "-"))
    wrapper, failing = figures.row("feature-wrapper"), figures.row("feature-wrapper-failure")
    return (
        f"The wrapper alone takes {measured(wrapper)} on success ({wrapper.note}), and {measured(failing)} for one "
        "failure and the retry that succeeds. Beyond that:\n\n"
        + table(
            ("feature", "on success", "result", "on one failure", "share in the predecessor's report, as given"), lines
        )
    )


def peers(figures: Figures) -> str:
    versions = figures.run.machine.peers
    lines = []
    for name in PEERS:
        cells = []
        for key in COMPARED:
            row = figures.row(key)
            if name == "launcher-recovery":
                one = row.measured
            elif name == "hand-written" and row.unit == "x":
                cells.append("1x")
                continue
            else:
                one = row.peers.get(name)
            cells.append("-" if one is None else amount(one.middle, row.unit))
        version = versions.get(name)
        lines.append((f"{name} {version}" if version else name, *cells))
    missing = [name for name, version in versions.items() if version is None]
    durable = figures.row("durable")
    text = [
        table(("library", *COMPARED.values()), lines),
        "circuitbreaker and pybreaker break circuits and do not retry; the others retry, and have neither events nor "
        "a journal. hyx is for async functions, pybreaker for sync ones. In sync functions most libraries call "
        "`sleep(0)` before the next attempt, which costs a system call.",
    ]
    if "dbos" in durable.peers:
        text.append(
            f"DBOS {versions.get('dbos')} with SQLite is not a wrapper but a durable execution engine: a workflow of "
            f"one step takes {figures.peer('durable', 'dbos')}. One durable call takes {measured(durable)} with "
            "launcher-recovery in strict mode (start committed before, end committed after) and "
            f"{figures.peer('durable', 'journal')} in journal mode. DBOS records more for each call than a journal "
            "does."
        )
    if missing:
        text.append(f"Not installed in this run, and therefore not measured: {', '.join(missing)}.")
    return "\n\n".join(text)
