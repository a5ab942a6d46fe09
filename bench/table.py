"""The table of figures as text, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.machine import Machine
from bench.measure import Spread
from bench.row import Row, amount, in_words, number
from bench.run import Group, Run

WIDTH = 76


def heading(machine: Machine) -> str:
    """The machine, and how to read the figures."""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:.0f} GiB; {machine.kernel}; Python "
        f"{machine.python}, SQLite {machine.sqlite}; load {machine.load:.1f}\n"
        "Each figure is a median with its quartiles; ratios are measured round by round in one process."
    )


def lines(group: Group) -> Iterator[str]:
    """The lines of one group."""
    yield f"\n{group.title} ({group.seconds:.0f} s)"
    if group.error:
        yield f"  NOT MEASURED: {group.error}"
    for row in group.rows:
        yield from _lines(row)


def _lines(row: Row) -> Iterator[str]:
    goal = in_words(row.goal, row.unit)
    yield f"  {row.what:{WIDTH}} {with_spread(row.measured, row.unit):>34}  {goal:>20}  {row.verdict}"
    if row.peers:
        yield f"      {', '.join(f'{name} {amount(one.middle, row.unit)}' for name, one in row.peers.items())}"
    quoted = [f"predecessor {row.before}" if row.before else "", f"best peer {row.best}" if row.best else ""]
    if any(quoted):
        yield f"      as given: {'; '.join(filter(None, quoted))}"
    if row.note:
        yield f"      {row.note}"


def with_spread(measured: Spread | None, unit: str) -> str:
    """A median, followed by its quartiles."""
    if measured is None:
        return "-"
    if measured.is_exact:
        return amount(measured.middle, unit)
    return f"{amount(measured.middle, unit)} ({number(measured.low)} to {number(measured.high)})"


def summary(run: Run) -> str:
    """The number of goals reached, missed and not measured, and the time this took."""
    verdicts = Counter(row.verdict for row in run.rows.values() if row.goal is not None)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    errors = [group.name for group in run.groups if group.error]
    broken = f"; not measured: {', '.join(errors)}" if errors else ""
    seconds = sum(group.seconds for group in run.groups)
    return f"\n{counted}{broken}; {seconds:.0f} s"
