"""Look up the figures of a run for the report, and write tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bench.measure import Spread
from bench.row import Row, amount, in_words
from bench.run import Run
from bench.table import with_spread


class Figures(msgspec.Struct, frozen=True):
    """The rows of *run*. A row that was not measured reads "not measured" and does not break the report."""

    run: Run

    def row(self, key: str) -> Row:
        """The row with this key."""
        known = self.run.rows.get(key)
        return known or Row(key=key, what=key, unit="", measured=None, note="not measured in this run")

    def figure(self, key: str) -> str:
        """The median of a row, with its unit."""
        row = self.row(key)
        return "not measured" if row.measured is None else amount(row.measured.middle, row.unit)

    def peer(self, key: str, name: str) -> str:
        """The median of another library in the same row, with its unit."""
        row = self.row(key)
        other = row.peers.get(name)
        return "not measured" if other is None else amount(other.middle, row.unit)

    def some(self, keys: Iterable[str]) -> Iterator[tuple[str, Spread]]:
        """The measured figures among the rows with these keys."""
        for key in keys:
            measured = self.row(key).measured
            if measured is not None:
                yield key, measured

    @property
    def judged(self) -> list[Row]:
        """Every row that has a goal."""
        return [row for row in self.run.rows.values() if row.goal is not None]


WORDS = ("set to", "why", "result")
"""Columns of text, which are aligned to the left."""


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: figures are aligned to the right, text to the left."""
    rules = ["---" if number == 0 or name in WORDS else "---:" for number, name in enumerate(head)]
    cells = [head, rules, *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def measured(row: Row) -> str:
    """The figure with its spread, or "not measured"."""
    return "not measured" if row.measured is None else with_spread(row.measured, row.unit)


def goal(row: Row) -> str:
    """The goal of a row."""
    return in_words(row.goal, row.unit)


def verdict(row: Row) -> str:
    """The verdict of a row; a failure is in bold."""
    return {"fail": "**fail**", "not measured": "*not measured*"}.get(row.verdict, row.verdict)
