"""Write the report: Markdown, JSON and charts."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import msgspec

from bench.measure import FULL
from bench.report.costs import features, peers, stages
from bench.report.figures import Figures
from bench.report.protocol import before_and_now, protocol
from bench.report.recommendations import recommendations
from bench.report.summary import executive, phases, requirements
from bench.run import Run

DOCS = Path(__file__).parents[2] / "docs" / "explanation"


CHARTS = {
    "goals": "Each figure as a share of its goal; left of the line the goal is reached",
    "overhead": "What SQLite persistence adds to an operation of 1 ms and of 10 ms",
    "protocol": "The same tests as published and corrected",
    "stages": "Where the time goes, on success and on a failure",
    "features": "What each feature adds to one failure",
    "failure": "A call that fails once and then succeeds, as a multiple of a hand-written retry",
    "peers": "A call that succeeds, as a multiple of a hand-written wrapper",
}
"""The alternative text of each chart."""


def write_report(run: Run, docs: Path = DOCS) -> list[Path]:
    """Write page, figures and charts; return the files written."""
    from bench.report.charts import draw_charts  # imported here: only charts need matplotlib

    data, folder = docs / "performance.json", docs / "charts"
    data.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")  # first: the run took minutes
    draw_charts(Figures(run), folder)
    return [write_page(docs), data, *sorted(folder.glob("*.svg"))]


def write_page(docs: Path = DOCS) -> Path:
    """Write the page alone, from the stored figures and charts; return its path."""
    figures = Figures(msgspec.json.decode((docs / "performance.json").read_bytes(), type=Run))
    page = docs / "performance.md"
    charts = {chart.stem for chart in (docs / "charts").glob("*.svg")}
    page.write_text(in_markdown(figures, charts), encoding="utf-8")
    return page


def in_markdown(figures: Figures, drawn: Set[str]) -> str:
    """The report as Markdown, with the charts that were *drawn*."""
    sections = (
        ("Executive summary", executive(figures), ("goals",)),
        ("Requirement by requirement", requirements(figures), ()),
        ("The success criteria of phases 1, 2 and 3", phases(figures), ()),
        ("Before and now", before_and_now(figures), ("overhead",)),
        ("The predecessor's protocol, as published and corrected", protocol(figures), ("protocol",)),
        ("Where each nanosecond goes", stages(figures), ("stages",)),
        ("What each feature costs", features(figures), ("features",)),
        ("Peers side by side", peers(figures), ("failure", "peers")),
        ("What is recommended, and why", recommendations(figures), ()),
        ("How this was measured", _method(figures), ()),
    )
    parts = [
        "# Performance regression report",
        "What recovery costs, beside a hand-written retry and other libraries. In a clone of the repository, `make "
        "report` writes this page. Every number is of one run, unless its column says *as given*. The same figures are "
        "in [performance.json](performance.json).",
        "The *predecessor* is the decorator of a launcher that this library replaced. A *peer* is another library: "
        "[Comparisons](comparisons.md) says what each does. `0.95x` is a ratio of two times: below 1x, the first is "
        "the shorter one. The brackets have the quartiles of the rounds. What the servers of a cluster take is "
        "[measured apart](../how-to/run-a-cluster.md#sizes).",
    ]
    for title, text, charts in sections:
        parts.append(f"## {title}")
        parts += [f"![{CHARTS[chart]}](charts/{chart}.svg)" for chart in charts if chart in drawn]
        parts.append(text)
    return "\n\n".join(parts) + "\n"


def _method(figures: Figures) -> str:
    run, machine = figures.run, figures.run.machine
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    errors = [f"- {group.title}: {group.error}" for group in run.groups if group.error]
    single = [row for key, row in run.rows.items() if key.startswith("lone-") and row.measured is not None]
    checked = "; ".join(f"{row.what} {figures.figure(row.key)}" for row in single)
    text = [
        f"Machine: {machine.cpu}, {machine.cores} cores, {machine.memory_gib:.0f} GiB of memory, {machine.kernel}; "
        f"Python {machine.python}, SQLite {machine.sqlite}; {libraries}; launcher-recovery {machine.version}. Load "
        f"average {machine.load:.1f} at the beginning, {machine.date}.",
        f"Candidates alternate in one process, about a millisecond each, in rotating order, for {FULL.rounds} rounds "
        "or more. Each round gives a ratio or a difference. The figure is the median of the rounds, the spread its "
        "quartiles. *Hand-written* is the smallest `try`/`except` wrapper with `*args, **kwargs`; it retries once, at "
        "once. A goal inside the spread is *within noise*: this run cannot tell. Each group of rows has a process of "
        "its own. A failing call is timed in bursts on the caller's thread. The journal is settled between bursts, and "
        "the row of processor time has what all threads took until the commit.",
        "pyperf describes the machine and times a few single calls as a check. It runs each benchmark in fresh "
        "processes, which shows the influence of memory layout and hash seed. But it runs them one after another, so "
        "on a busy machine a ratio of two of its times is unreliable. Therefore ratios are measured side by side, and "
        f"only single times by pyperf{': ' + checked if checked else ''}.",
    ]
    if errors:
        text.append("Not measured, because something went wrong:\n\n" + "\n".join(errors))
    return "\n\n".join(text)
