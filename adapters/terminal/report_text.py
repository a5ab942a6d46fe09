"""The report of a journal for people."""

from __future__ import annotations

import time

from adapters.journals.report import Report
from adapters.journals.tally import Recovery
from adapters.launcher.progress import amount
from events.names import display_name
from recovery.explain import counted, duration
from recovery.installation import extra
from recovery.redact import brief

with extra("launcher"):
    from rich.console import Group, RenderableType
    from rich.table import Column, Table
    from rich.text import Text

MOST_LINES = 10
"""Lines of each table; `--json` has more."""


def report_text(report: Report) -> Group:
    """What *report* says, for a console of any width from 80 columns on."""
    total = report.total
    if not total.calls:
        return Group(Text(f"no calls in {brief(report.path)}"), *_problems(report))
    parts = [("succeeded", total.succeeded), ("gave up", total.gave_up), ("rejected", total.rejected),
             ("cancelled", total.cancelled), ("not over", total.not_over)]  # fmt: skip
    counts = ", ".join(f"{number} {name}" for name, number in parts if number)
    lines: list[RenderableType] = [
        Text(f"{counted(total.calls, 'call')}: {counts}", style="bold"),
        Text(f"from {_when(report.since)} to {_when(report.until)}", style="dim"),
    ]
    if report.success_rate is not None:
        recovered = f"; {total.recovered} of them after a failure" if total.recovered else ""
        lines.append(Text(f"success: {_percent(report.success_rate)} of the calls that ended{recovered}"))
    if report.recovery_rate is not None:
        lines.append(Text(f"recovery: {_percent(report.recovery_rate)} of the calls with a failure that ended"))
    lost = report.waited + report.failing
    lines.append(Text(f"time lost: {duration(lost)}, of which {duration(report.waited)} in waits; calls overlap"))
    if report.saved_bytes:
        lines.append(Text(f"saved by resuming: {amount(report.saved_bytes)} were not fetched again"))
    lines += [*_lost(report), *_slowest(report), *_operations(report), *_problems(report)]
    return Group(*lines)


def _problems(report: Report) -> list[RenderableType]:
    problems = [f"{counted(report.unreadable, 'row')} could not be read"] if report.unreadable else []
    problems += [f"{brief(name)} could not be read" for name in report.damaged]
    return [Text(f"{problem}: see `recovery verify`", style="red") for problem in problems]


def _lost(report: Report) -> list[RenderableType]:
    if not report.lost:
        return []
    table = _table("time lost by", "category", ">lost", ">waited", ">failures")
    for one in report.lost[:MOST_LINES]:
        spans = duration(one.waited + one.failing), duration(one.waited)
        table.add_row(brief(one.key), one.category, *spans, str(one.failures))
    return [Text(), table]


def _slowest(report: Report) -> list[RenderableType]:
    if not report.slowest:
        return []
    table = _table("slowest recoveries", "call", ">took", ">failures", "ended")
    for one in report.slowest[:MOST_LINES]:
        ended = _when(one.ended)
        table.add_row(brief(_name(one)), brief(one.call), duration(one.seconds), str(one.failures), ended)
    return [Text(), table]


def _operations(report: Report) -> list[RenderableType]:
    table = _table("operation", ">calls", ">succeeded", ">recovered", ">gave up", ">failures")
    for one in report.operations[:MOST_LINES]:
        counts = (one.calls, one.succeeded, one.recovered, one.gave_up + one.rejected, one.failures)
        table.add_row(brief(one.operation), *map(str, counts))
    more = len(report.operations) - MOST_LINES
    return [Text(), table, *([Text(f"and {more} more operations", style="dim")] if more > 0 else [])]


def _table(first: str, *others: str) -> Table:
    """A table whose first column takes the room that is left; a ">" before a title means numbers."""
    columns = [Column(first, overflow="fold", ratio=1)]
    columns += [
        Column(title.removeprefix(">"), no_wrap=True, justify="right" if title.startswith(">") else "left")
        for title in others
    ]
    return Table(*columns, box=None, padding=(0, 1, 0, 0), header_style="bold", expand=True)


def _name(one: Recovery) -> str:
    kind = one.operation.partition(" ")[0]
    return f"{kind} {one.name}" if one.name else display_name(one.operation, one.key)


def _percent(part: float) -> str:
    return f"{int(part * 1000) / 10:g} %"  # rounded down: 99.96 is not all of them


def _when(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (OverflowError, ValueError, OSError):  # another program wrote it
        return "an unknown time"
