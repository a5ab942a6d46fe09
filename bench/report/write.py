"""Put the report together: Markdown, JSON, and the charts beside it."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import msgspec

from bench.measure import FULL
from bench.report.advice import advice
from bench.report.costs import features, peers, stages
from bench.report.found import Found
from bench.report.protocol import before_and_now, protocol
from bench.report.summary import executive, phases, requirements
from bench.run import Run

DOCS = Path(__file__).parents[2] / "docs"


CHARTS = {
    "goals": "Each figure as a share of its goal; left of the line is reached",
    "overhead": "What SQLite persistence adds to an operation of 1 ms and of 10 ms",
    "protocol": "The same tests as published and corrected",
    "stages": "Where the time goes, on success and on a failure",
    "features": "What each feature adds to one failure",
    "peers": "A call that succeeds, in times of a hand-written wrapper",
}
"""What each chart shows, in words."""


def write_report(run: Run, docs: Path = DOCS) -> list[Path]:
    """Write everything; the files written."""
    from bench.report.draw import draw  # it needs matplotlib, the text does not

    found = Found(run)
    report, data, folder = docs / "performance.md", docs / "performance.json", docs / "charts"
    data.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")  # first: it took minutes to get
    draw(found, folder)
    charts = sorted(folder.glob("*.svg"))
    report.write_text(in_markdown(found, {chart.stem for chart in charts}), encoding="utf-8")
    return [report, data, *charts]


def in_markdown(found: Found, drawn: Set[str]) -> str:
    """The report, with those charts that were *drawn*."""
    sections = (
        ("Executive summary", executive(found), "goals"),
        ("Requirement by requirement", requirements(found), ""),
        ("The success criteria of phases 1, 2 and 3", phases(found), ""),
        ("Before and now", before_and_now(found), "overhead"),
        ("The predecessor's protocol, as published and corrected", protocol(found), "protocol"),
        ("Where each nanosecond goes", stages(found), "stages"),
        ("What each feature costs", features(found), "features"),
        ("Peers side by side", peers(found), "peers"),
        ("What is recommended, and why", advice(found), ""),
        ("How this was measured", _method(found), ""),
    )
    parts = [
        "# Performance regression report",
        "`make report` writes this page: every number is of one run, unless a column says that it is quoted as given. "
        "The same figures are in [performance.json](performance.json).",
    ]
    for title, text, chart in sections:
        parts.append(f"## {title}")
        if chart in drawn:
            parts.append(f"![{CHARTS[chart]}](charts/{chart}.svg)")
        parts.append(text)
    return "\n\n".join(parts) + "\n"


def _method(found: Found) -> str:
    run, machine = found.run, found.run.machine
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    errors = [f"- {group.title}: {group.error}" for group in run.groups if group.error]
    lone = [row for key, row in run.rows.items() if key.startswith("lone-") and row.measured is not None]
    checked = "; ".join(f"{row.what} {found.figure(row.key)}" for row in lone)
    text = [
        f"Machine: {machine.cpu}, {machine.cores} cores, {machine.memory_gib:.0f} GiB of memory, {machine.kernel}; "
        f"Python {machine.python}, SQLite {machine.sqlite}; {libraries}; launcher-recovery {machine.version}. Load "
        f"average {machine.load:.1f} at the beginning, {machine.date}.",
        f"Candidates take turns of about a millisecond in one process, {FULL.rounds} rounds and more, in an order that "
        "rotates; a ratio or a difference is taken in each round. The figure is the median of the rounds, the spread "
        "its quartiles. *Hand-written* is the smallest `try`/`except` wrapper with `*args, **kwargs`. A goal inside "
        "the spread is *within noise*: this run cannot tell. Each group of rows has a process of its own.",
        "pyperf describes the machine, and times a few calls by themselves as a check: it runs each benchmark in fresh "
        "processes, which shows what one process hides (the layout of its memory, the seed of its hashes), but one "
        "after the other, so that on a busy machine a ratio of two of them says little. Hence ratios are taken side by "
        f"side, and lone times by pyperf{': ' + checked if checked else ''}.",
    ]
    if errors:
        text.append("Not measured, because something went wrong:\n\n" + "\n".join(errors))
    return "\n\n".join(text)
