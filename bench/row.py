"""One line of the table: what was measured, what it should reach, and what others reach."""

from __future__ import annotations

import msgspec

from bench.measure import Goal, Spread, Verdict, judge


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A figure, with the *goal* it should reach and what the predecessor's report *required*.

    *key* names it for programs. *before* and *best* are what the predecessor and the best peer were measured at
    elsewhere, quoted as given; *peers* holds what was measured in this run. ``None`` for *measured*: it could not be,
    and *note* says why.
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
    """No more than that."""
    return Goal("most", limit, words)


def least(limit: float, words: str = "") -> Goal:
    """No less than that."""
    return Goal("least", limit, words)


def thousands(value: float) -> str:
    """*value* as a whole number, in groups of three."""
    return f"{value:,.0f}".replace(",", " ")


def number(value: float) -> str:
    """*value* with about three digits, for people."""
    size = abs(value)
    if size >= 1000:
        return thousands(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size < 0.0005 else 3
    return f"{value:.{digits}f}"


def amount(value: float, unit: str) -> str:
    """*value* with its unit."""
    return f"{number(value)}{unit}" if unit in ("x", "") else f"{number(value)} {unit}"


def in_words(goal: Goal | None, unit: str) -> str:
    """*goal* as the table shows it."""
    if goal is None:
        return "-"
    return goal.words or f"{'≤' if goal.sense == 'most' else '≥'} {amount(goal.limit, unit)}"
