"""What a run found, as the sections of the report ask for it; and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bench.measure import Spread
from bench.row import Row, amount, in_words
from bench.run import Run
from bench.table import with_spread


class Found(msgspec.Struct, frozen=True):
    """The rows of *run*; one that was not measured says so instead of breaking the report."""

    run: Run

    def row(self, key: str) -> Row:
        """That row."""
        known = self.run.rows.get(key)
        return known or Row(key=key, what=key, unit="", measured=None, note="not measured in this run")

    def figure(self, key: str) -> str:
        """Its median, with its unit."""
        row = self.row(key)
        return "not measured" if row.measured is None else amount(row.measured.middle, row.unit)

    def peer(self, key: str, name: str) -> str:
        """What another was measured at in the same row."""
        row = self.row(key)
        other = row.peers.get(name)
        return "not measured" if other is None else amount(other.middle, row.unit)

    def some(self, keys: Iterable[str]) -> Iterator[tuple[str, Spread]]:
        """Of these rows, those that were measured."""
        for key in keys:
            measured = self.row(key).measured
            if measured is not None:
                yield key, measured

    @property
    def judged(self) -> list[Row]:
        """Every row that has a goal."""
        return [row for row in self.run.rows.values() if row.goal is not None]


WORDS = ("set to", "why", "result")
"""Columns of words."""


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; figures stand to the right of their columns, words to the left."""
    rules = ["---" if number == 0 or name in WORDS else "---:" for number, name in enumerate(head)]
    cells = [head, rules, *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def measured(row: Row) -> str:
    """The figure with its spread, or what stands in its place."""
    return "not measured" if row.measured is None else with_spread(row.measured, row.unit)


def goal(row: Row) -> str:
    """What it should reach."""
    return in_words(row.goal, row.unit)


def verdict(row: Row) -> str:
    """The verdict, so that a failure is seen."""
    return {"fail": "**fail**", "not measured": "*not measured*"}.get(row.verdict, row.verdict)
