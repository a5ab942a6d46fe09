"""The regression gate: fail when a ratio is more than 20 % worse than the baseline, or a count has grown.

A ratio is worse only if it exceeds the limit by more than its own spread, in each of three tries. The baseline holds
ratios and counts, no times, so that another machine can use it. Ratios are of processor time: what other processes take
of the machine is not in them. A share that should be great is turned over, so that more is always worse.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.measure import Spread
from bench.row import Row

ALLOWED = 1.2
"""How much worse a ratio may be than its baseline. A count, which another run reproduces, may not grow at all."""
TRIES = 3
BASELINE = Path(__file__).with_name("baseline.json")

Measure = Callable[[Iterable[str]], Mapping[str, Spread]]
"""Measures the figures of these keys again; it may return further figures."""


class StaleBaselineError(Exception):
    """The baseline and the measured rows have different keys."""


class Finding(msgspec.Struct, frozen=True):
    """One figure: its baseline, its latest value, and whether it was worse in every try."""

    key: str
    before: float
    now: Spread
    is_worse: bool

    @property
    def line(self) -> str:
        """The finding as one line of text."""
        change = 100.0 * (self.now.middle / self.before - 1.0)
        word = "WORSE" if self.is_worse else "ok"
        if self.now.is_exact:
            return f"{word:5}  {self.key:24} {self.before:8.0f}  -> {self.now.middle:8.0f}"
        return (
            f"{word:5}  {self.key:24} {self.before:8.3f}x -> {self.now.middle:8.3f}x "
            f"({self.now.low:.3f} to {self.now.high:.3f})  {change:+.0f} %"
        )


def cost(row: Row) -> Spread | None:
    """The figure of *row* as the gate compares it: more is worse. A share with the goal "at least" is turned over."""
    found = row.measured
    if found is None or row.goal is None or row.goal.sense == "most":
        return found
    return Spread(1.0 / found.high, 1.0 / found.middle, 1.0 / found.low, found.rounds)


def is_worse(now: Spread, before: float) -> bool:
    """Whether even the better edge of the spread is worse than allowed."""
    return now.low > before * (1.0 if now.is_exact else ALLOWED)


def check(baseline: Mapping[str, float], measure: Measure) -> list[Finding]:
    """Measure every figure of the baseline; measure those that look worse again, up to three times in all.

    Raises:
        StaleBaselineError: A figure of the baseline is no longer measured, or a measured one is not in the baseline.
    """
    latest: dict[str, Spread] = {}
    suspects = list(baseline)
    for number in range(TRIES):
        found = measure(suspects)
        strange = set(suspects) - set(found) or (set(found) - set(baseline) if number == 0 else set())
        if strange:
            raise StaleBaselineError(f"{', '.join(sorted(strange))}: make bench-baseline writes a new baseline")
        latest.update({key: found[key] for key in suspects})
        suspects = [key for key in suspects if is_worse(found[key], baseline[key])]
        if not suspects:
            break
    return [Finding(key, baseline[key], latest[key], key in suspects) for key in baseline]


def read(path: Path = BASELINE) -> dict[str, float]:
    """Read the baseline."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, float])


def write(runs: Sequence[Mapping[str, Spread]], path: Path = BASELINE) -> None:
    """Write a new baseline: for each figure, the median of the *runs*."""
    content = {key: round(statistics.median(run[key].middle for run in runs), 4) for key in sorted(runs[0])}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
