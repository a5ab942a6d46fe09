"""What subscribers answer, and how their answers become one.

Verdicts form a join semilattice: the join is commutative, associative and idempotent, so the order in which
subscribers are asked cannot matter, and a subscriber can only ever make the outcome stricter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from events.conditions import Condition


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Try again *after* seconds, provided that this wait ends *within* so many seconds from now."""

    after: float = 0.0
    within: float = math.inf


class Park(msgspec.Struct, frozen=True):
    """Wait for causes to go away, *after* seconds at the least; this uses up no retry, unless it is *counts_as_retry*.

    A park that somebody else answered with a retry is charged: nobody gets attempts beyond the policy by parking.
    *until* are the causes: those that are a ``Condition`` must all hold before the next attempt, those that are only a
    name say why. *within* is as for ``Retry``; a wait for conditions is given up when it has passed.
    """

    after: float = 0.0
    until: tuple[Condition | str, ...] = ()
    within: float = math.inf
    counts_as_retry: bool = False

    @property
    def why(self) -> str:
        """The causes in one line."""
        return "; ".join(map(str, self.until))


class GiveUp(msgspec.Struct, frozen=True):
    """Do not try again. *reasons* are sorted; *after* is how long a fresh call had better wait, ``None`` if unknown.

    ``GiveUp("out of time")`` is short for ``GiveUp(("out of time",))``.
    """

    reasons: tuple[str, ...] | str = ()
    after: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.reasons, str):
            msgspec.structs.force_setattr(self, "reasons", (self.reasons,))
        elif isinstance(self.reasons, tuple) and len(self.reasons) > 1:
            msgspec.structs.force_setattr(self, "reasons", tuple(sorted(set(self.reasons))))

    @property
    def reason(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


Verdict: TypeAlias = Retry | Park | GiveUp

VERDICTS = (Retry, Park, GiveUp)
"""For isinstance(), which would make the union anew each time, and takes five times as long with it."""

OUT_OF_TIME = "out of time"


def check(verdict: Verdict) -> None:
    """Raise TypeError or ValueError for a verdict whose fields cannot be compared with another's.

    Structs do not check what they are made of; the bus does, for what subscribers answer.
    """
    if type(verdict) is Retry and type(verdict.after) is float and verdict.after <= verdict.within:
        return  # most are like this
    if isinstance(verdict, GiveUp):
        numbers: tuple[object, ...] = () if verdict.after is None else (verdict.after,)
    else:
        numbers = (verdict.after, verdict.within)
    for number in numbers:
        if not isinstance(number, int | float):
            raise TypeError(f"seconds must be a number: {verdict}")
        if number != number:
            raise ValueError(f"seconds must not be NaN: {verdict}")
    if not isinstance(verdict, Retry):
        texts, kinds = (verdict.until, (Condition, str)) if isinstance(verdict, Park) else (verdict.reasons, (str,))
        if not isinstance(texts, tuple) or not all(isinstance(text, kinds) for text in texts):
            raise TypeError(f"reasons must be a tuple of str, and what is waited for conditions or str: {verdict}")


def join(one: Verdict | None, other: Verdict | None) -> Verdict | None:
    """The stricter of both in every respect; ``None`` (no opinion) is neutral.

    The kind is the strictest (Retry < Park < GiveUp), *after* the longest, *within* the shortest; reasons are united;
    a park with a retry is charged.
    """
    if one is None or one == other:
        return other
    if other is None:
        return one
    if isinstance(one, GiveUp) or isinstance(other, GiveUp):
        return _join_give_up(one, other)
    after = max(one.after, other.after)
    within = min(one.within, other.within)
    if isinstance(one, Park) or isinstance(other, Park):
        causes = {cause for verdict in (one, other) if isinstance(verdict, Park) for cause in verdict.until}
        counts_as_retry = any(isinstance(verdict, Retry) or verdict.counts_as_retry for verdict in (one, other))
        return Park(after, tuple(sorted(causes, key=_in_order)), within, counts_as_retry)
    return Retry(after, within)


def _in_order(cause: Condition | str) -> tuple[str, bool]:
    return str(cause), isinstance(cause, str)


def _join_give_up(one: Verdict, other: Verdict) -> GiveUp:
    # What the milder verdict wanted is dropped: keeping its delay would make the result depend on the order.
    ended = [verdict for verdict in (one, other) if isinstance(verdict, GiveUp)]
    afters = [verdict.after for verdict in ended if verdict.after is not None]
    reasons = sorted({reason for verdict in ended for reason in verdict.reasons})
    return GiveUp(tuple(reasons), max(afters, default=None))


def settle(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The strictest of *verdicts*, as it is acted on: a wait that would end too late is ``GiveUp("out of time")``.

    Time is compared only here, after the join: comparing pairs would make the result depend on the order.
    """
    verdict: Verdict | None = None
    for one in verdicts:
        verdict = one if verdict is None else join(verdict, one)
    if verdict is None or isinstance(verdict, GiveUp) or verdict.after <= verdict.within:
        return verdict
    return GiveUp(OUT_OF_TIME)
