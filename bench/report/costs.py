"""Sections of the report: where the time goes, the cost of each feature, and other libraries."""

from __future__ import annotations

from bench.report.figures import Figures, measured, table, verdict
from bench.row import amount

SUCCESS_STEPS = {
    "stage-success-work": "function and loop",
    "stage-success-wrapper": "our wrapper",
    "stage-success-everything": "journal, circuit, rules",
}
FAILURE_STEPS = {
    "stage-failure-raise": "raise and call again",
    "stage-failure-retry": "decide to retry",
    "stage-failure-classify": "classify",
    "stage-failure-break": "circuit",
    "stage-failure-journal": "journal, caller",
}
COMPARISONS = (
    "stage-success-hand-written",
    "stage-failure-call",
    "stage-failure-observers",
    "stage-failure-writer",
    "stage-failure-general",
)
"""Steps that the table has beside those that add up."""
FEATURES = ("persistence", "classification", "logging", "breaker", "monitoring", "everything")
PEERS = (
    "launcher-recovery",
    "hand-written",
    "hand-written + sleep(0)",
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
    "tasks": "rate of 1000 tasks",
    "memory-waiting": "waiting call",
    "rescued": "rescued",
}


def stages(figures: Figures) -> str:
    lines = []
    for key in (*SUCCESS_STEPS, *FAILURE_STEPS, *COMPARISONS):
        row = figures.row(key)
        lines.append((row.what, measured(row)))
    return (
        "Each step is the difference of two whole calls, measured round by round: the second service has one part more "
        "than the first. The steps of a failure are those of a call that fails once and then succeeds.\n\n"
        + table(("step", "takes (quartiles)"), lines)
        + "\n\nA failure that is usual for its operation is retried on the compiled path. The general path handles all "
        "others, such as an exception with a note. An observer is a subscriber that the program adds; then the events "
        "are made for it on the caller's thread. The journal's thread makes, encodes and commits them otherwise."
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
        "Success and failure are multiples of the time of a hand-written wrapper, which retries at once and does not "
        "yield; the rate of tasks is a share of its rate. Ours and hyx yield to the event loop before a retry, so "
        "*hand-written + sleep(0)* is the same by hand. Compared with hyx round by round, one failure of an async call "
        f"takes {figures.figure('failure-async-hyx')} of its time, and a thousand tasks run at "
        f"{figures.figure('tasks-hyx')} of its rate. All threads together, one failure takes "
        f"{figures.figure('failure-processor')} of the processor time of the hand-written retry: the journal's thread "
        "is in it.",
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
