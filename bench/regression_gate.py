"""Whether a ratio has become worse than it was: by more than 20 % beyond its own spread, in each of three tries.

The baseline holds ratios only, so that another machine can be asked the same. Times are of the processor, not of the
clock on the wall: what other processes take of the machine is not in them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.measure import Spread

ALLOWED = 1.2
TRIES = 3
BASELINE = Path(__file__).with_name("baseline.json")

Measure = Callable[[Iterable[str]], Mapping[str, Spread]]
"""Measures the ratios of these keys again (more may come with them)."""


class StaleBaselineError(Exception):
    """The baseline and the rows do not speak of the same ratios."""


class Finding(msgspec.Struct, frozen=True):
    """One ratio: what it was, what it is in the latest try, and whether it was worse in all of them."""

    key: str
    before: float
    now: Spread
    is_worse: bool

    @property
    def line(self) -> str:
        """The finding for people."""
        change = 100.0 * (self.now.middle / self.before - 1.0)
        word = "WORSE" if self.is_worse else "ok"
        return (
            f"{word:5}  {self.key:24} {self.before:8.3f}x -> {self.now.middle:8.3f}x "
            f"({self.now.low:.3f} to {self.now.high:.3f})  {change:+.0f} %"
        )


def is_worse(now: Spread, before: float) -> bool:
    """Whether even the better edge of the spread is worse by more than is allowed."""
    return now.low > before * ALLOWED


def check(baseline: Mapping[str, float], measure: Measure) -> list[Finding]:
    """Measure what the baseline has, and what looks worse again, up to three times.

    Raises StaleBaselineError if a ratio of the baseline is not measured any more, or one measured is not in it.
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
    """The ratios of the baseline."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, float])


def write(runs: Sequence[Mapping[str, Spread]], path: Path = BASELINE) -> None:
    """Make these the baseline: of each ratio, the median of the *runs*."""
    content = {key: round(statistics.median(run[key].middle for run in runs), 4) for key in sorted(runs[0])}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
