"""What subscribers answer, and how their answers become one.

Verdicts form a join semilattice: the join is commutative, associative and idempotent. So the order of subscribers does
not matter, and a subscriber can only make the outcome stricter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from events.conditions import Condition


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Try again.

    Args:
        after: Seconds to wait.
        within: Seconds from now within which that wait must end; otherwise the call gives up.
    """

    after: float = 0.0
    within: float = math.inf


class Park(msgspec.Struct, frozen=True):
    """Wait for causes to go away. That uses no retry.

    Args:
        after: Seconds to wait at least.
        until: The causes. Every ``Condition`` among them must hold before the next attempt; a text only says why.
        within: Seconds from now within which the wait must end; otherwise the call gives up.
        counts_as_retry: Whether the wait uses a retry after all. It does if another subscriber answered with a Retry:
            parking gives a call no more attempts than its policy.
        asks_person: Whether the call has no retries left and waits until a person says retry or give up. Circuits and
            alerts count it as a call that gave up.
    """

    after: float = 0.0
    until: tuple[Condition | str, ...] = ()
    within: float = math.inf
    counts_as_retry: bool = False
    asks_person: bool = False

    @property
    def why(self) -> str:
        """The causes in one line."""
        return "; ".join(map(str, self.until))


class GiveUp(msgspec.Struct, frozen=True):
    """Do not try again.

    Args:
        reasons: Why, sorted. ``GiveUp("out of time")`` is short for ``GiveUp(("out of time",))``.
        after: Seconds after which a new call may succeed; None if that is unknown.
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
"""For isinstance(): with the union, which is made again each time, it takes five times as long."""

OUT_OF_TIME = "out of time"


def check(verdict: Verdict) -> None:
    """Raise TypeError or ValueError for a verdict whose fields cannot be compared with those of another one.

    Structs do not check their fields; the bus does, for the answers of subscribers.
    """
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
            raise TypeError(f"reasons must be a tuple of str, and until a tuple of conditions or str: {verdict}")


def join(one: Verdict | None, other: Verdict | None) -> Verdict | None:
    """The stricter of both in every respect; ``None`` (no verdict) is neutral.

    The kind is the strictest (Retry < Park < GiveUp), *after* the longest, *within* the shortest. Causes and reasons
    are united. A park joined with a retry counts as a retry.
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
        asks_person = any(isinstance(verdict, Park) and verdict.asks_person for verdict in (one, other))
        return Park(after, tuple(sorted(causes, key=_in_order)), within, counts_as_retry, asks_person)
    return Retry(after, within)


def _in_order(cause: Condition | str) -> tuple[str, bool]:
    return str(cause), isinstance(cause, str)


def _join_give_up(one: Verdict, other: Verdict) -> GiveUp:
    # The delay of a milder verdict is dropped: with it, the result would depend on the order.
    ended = [verdict for verdict in (one, other) if isinstance(verdict, GiveUp)]
    afters = [verdict.after for verdict in ended if verdict.after is not None]
    return GiveUp(tuple(reason for verdict in ended for reason in verdict.reasons), max(afters, default=None))


def settle(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The join of *verdicts*, as the caller acts on it: a wait that would end too late is ``GiveUp("out of time")``.

    Times are compared only here, after the join: comparing them in pairs would make the result depend on the order.
    """
    verdict: Verdict | None = None
    for one in verdicts:
        verdict = one if verdict is None else join(verdict, one)
    if verdict is None or isinstance(verdict, GiveUp) or verdict.after <= verdict.within:
        return verdict
    return GiveUp(OUT_OF_TIME)
