"""One row of the table: a figure, its goal, and the same figure of others."""

from __future__ import annotations

import msgspec

from bench.measure import Goal, Spread, Verdict, judge


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its goal.

    Args:
        key: The name of the figure for programs.
        what: Its name in tables.
        unit: Its unit; "x" for ratios, empty for counts.
        measured: The figure; ``None`` if it could not be measured, and then *note* says why.
        goal: The limit that we set.
        required: The limit that the predecessor's report set.
        before: The predecessor's figure, measured elsewhere and quoted as given.
        best: The best figures of other libraries, measured elsewhere and quoted as given.
        peers: Figures of others, measured in this run.
        note: A remark for the reader.
    """

    key: str
    what: str
    unit: str
    measured: Spread | None
    goal: Goal | None = None
    required: Goal | None = None
    before: str = ""
    best: str = ""
    peers: dict[str, Spread] = {}
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the goal is reached."""
        return judge(self.measured, self.goal)


def most(limit: float, words: str = "") -> Goal:
    """The goal "no more than *limit*"."""
    return Goal("most", limit, words)


def least(limit: float, words: str = "") -> Goal:
    """The goal "no less than *limit*"."""
    return Goal("least", limit, words)


def thousands(value: float) -> str:
    """*value* as a whole number, in groups of three."""
    return f"{value:,.0f}".replace(",", " ")


def number(value: float) -> str:
    """*value* with about three digits."""
    size = abs(value)
    if size >= 1000:
        return thousands(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size < 0.0005 else 3
    return f"{value:.{digits}f}"


def amount(value: float, unit: str) -> str:
    """*value* with its unit; without a unit it is a count."""
    if not unit:
        return thousands(value)
    return f"{number(value)}{unit}" if unit == "x" else f"{number(value)} {unit}"


def in_words(goal: Goal | None, unit: str) -> str:
    """*goal* as the table shows it."""
    if goal is None:
        return "-"
    return goal.words or f"{'≤' if goal.sense == 'most' else '≥'} {amount(goal.limit, unit)}"
