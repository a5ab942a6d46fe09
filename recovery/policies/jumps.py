"""When a clock has jumped, and which failures a jump excuses: pure; readings of the clocks are arguments.

Source: Linux's clock_gettime(2): CLOCK_BOOTTIME is CLOCK_MONOTONIC plus the time that the machine was suspended.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from events.clock_events import JumpKind
from events.evidence import Category
from recovery.policies.backoff import Constant, Exponential, Linear, base_delay
from recovery.policies.retry import HOPELESS, NEVER, RetryPolicy

LEAST_JUMP = 10.0
"""Seconds that must be missing at least."""

AFFECTED = 60.0
"""Seconds after a jump within which an attempt begins that may still fail of it: the network is not back yet."""

LIVED_THROUGH = 3600.0
"""Seconds after a jump from which a failure has a cause of its own, even if its attempt was under way at the jump."""

MOST_BUSY = 0.5
"""Share of a late span that the processors worked for the process, from which it was not stopped: it was busy."""

APART = 1.0
"""Seconds: looks that are closer together are one. When a process goes on, its threads look in any order."""


class Reading(NamedTuple):
    """The clocks at one moment.

    Args:
        now: Monotonic seconds.
        ahead: How many seconds a clock that runs while the machine sleeps is ahead of them.
        busy: Seconds that the processors have worked for the process.
    """

    now: float
    ahead: float
    busy: float


class Jump(NamedTuple):
    """A jump that was seen *at* that time, after *slept* seconds without the process."""

    at: float
    slept: float
    kind: JumpKind


class Looks(msgspec.Struct, frozen=True):
    """The looks at the clocks so far.

    Args:
        ahead: As of the latest look.
        earlier: A look at least ``APART`` seconds before *latest*: the process ran then.
        latest: The latest look of which the same holds.
        jumped: When the latest jump was seen.
    """

    ahead: float
    earlier: Reading
    latest: Reading
    jumped: float = -math.inf


def first_look(reading: Reading) -> Looks:
    """The looks when the first one gives *reading*."""
    return Looks(reading.ahead, reading, reading)


def look(looks: Looks, reading: Reading, due: float, least: float = LEAST_JUMP) -> tuple[Looks, Jump | None]:
    """The looks after another one, and the jump that it sees.

    Args:
        looks: The looks before.
        reading: What the clocks say.
        due: When a waiting call was to wake that has not woken earlier; infinite for none.
        least: Seconds that must be missing at least.
    """
    earlier, latest = looks.earlier, looks.latest
    if reading.now - latest.now >= APART:
        earlier, latest = latest, reading
    slept, late = reading.ahead - looks.ahead, reading.now - max(due, earlier.now, looks.jumped)
    jump = None
    if slept > least:
        jump = Jump(reading.now, slept, "sleep")
    elif late > least and reading.busy - earlier.busy < late * MOST_BUSY:
        jump = Jump(reading.now, late, "stopped")
    return Looks(reading.ahead, earlier, latest, looks.jumped if jump is None else jump.at), jump


def may_excuse(jump: Jump, began: float | None, at: float) -> bool:
    """Whether a failure *at* that time may be due to *jump*: its attempt was under way then, or began soon after.

    Args:
        jump: The jump.
        began: When the attempt began; None if nothing read the clock then: the failure itself must come soon.
        at: When it failed.
    """
    return at <= jump.at + LIVED_THROUGH and (at if began is None else began) <= jump.at + AFFECTED


def may_wait(policy: RetryPolicy, category: Category, retry: int, asked: float | None) -> bool:
    """Whether a failure may be retried after a delay. No other failure is excused: its retry comes at once anyway.

    Args:
        policy: The policy.
        category: The category of the failure.
        retry: The number of the retry that would follow.
        asked: Seconds that a server asked to wait.
    """
    strategies, backoff, cap = policy.per_category, policy.backoff, policy.max_delay
    if not (asked or strategies) and isinstance(backoff, Exponential) and backoff.initial == 0.0:
        return False  # at once, for a failure of any category: to look that up takes longer
    strategy = strategies.get(category)
    if category in HOPELESS and (strategy is None or category in NEVER):
        return False
    if asked or (strategy is not None and strategy.wait_for):
        return True
    if strategy is not None:
        backoff = backoff if isinstance(strategy.backoff, msgspec.UnsetType) else strategy.backoff
        cap = cap if isinstance(strategy.max_delay, msgspec.UnsetType) else strategy.max_delay
    if not isinstance(backoff, Constant | Linear | Exponential | tuple):
        return True  # a function of the user's, which is asked once for each failure
    return cap != 0.0 and base_delay(backoff, retry) > 0.0
