"""``BreakerPolicy``: when a circuit opens, and for how long. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from events.conditions import Condition
from events.evidence import Category
from recovery import validation
from recovery.suggestions import Suggesting


class BreakerPolicy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """When a circuit opens, and for how long.

    Args:
        failure_threshold: Failures in a row that open the circuit, unless *failure_rate* is given.
        failure_rate: The share of failures in the window that opens the circuit, above 0 and at most 1; None counts
            failures in a row.
        window: How many of the last calls or attempts the rate is of; the circuit stays closed until there are that
            many. At least 10, and at least 100 for attempts: of 30 % noise a narrower window opens by chance.
        break_duration: Seconds that the circuit stays open.
        break_growth: How many times longer each break is after a probe fails; at least 1.
        max_break: The most seconds of a break, or *break_duration* if that is longer.
        break_jitter: The share of a break by which it is longer at random, from 0 to 1, so that processes that lost one
            host together do not probe it together. It may exceed *max_break*.
        counts: What a failure is: "calls" that gave up, or failed "attempts".
        categories: The categories that count; any other failure then ends the row. None counts every category but
            PERMANENT, AUTH, EXHAUSTED and CANCELLED.
        half_open_permits: How many calls may probe at a time after a break.
        lease: The most seconds that a probe may take before another call may probe in its place.
        half_open_successes: How many probes must succeed to close the circuit.
        probe: A condition that is asked in place of a call: once it holds after a break, the circuit closes, and no
            call has spent a retry. It is asked while a call waits; a call that is not to wait (``when_open="reject"``)
            probes itself. None probes with a call.
        forget_after: Seconds after which a failure is forgotten: a row of failures begins again when the next one comes
            later, and an open circuit closes when no call has asked for it that long after its break. None: never.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range.
    """

    failure_threshold: int = 5
    failure_rate: float | None = None
    window: int = 100
    break_duration: float = 30.0
    break_growth: float = 2.0
    max_break: float = 300.0
    break_jitter: float = 0.0
    counts: Literal["calls", "attempts"] = "calls"
    categories: frozenset[Category] | None = None
    half_open_permits: int = 1
    lease: float = 60.0
    half_open_successes: int = 1
    probe: Condition | None = None
    forget_after: float | None = 3600.0

    def __post_init__(self) -> None:
        validation.whole("failure_threshold", self.failure_threshold, least=1)
        validation.number("break_duration", self.break_duration, above=0.0)
        validation.number("break_growth", self.break_growth, least=1.0)
        validation.number("max_break", self.max_break, above=0.0)
        validation.choice("counts", self.counts, ("calls", "attempts"))
        validation.whole("half_open_permits", self.half_open_permits, least=1)
        validation.number("lease", self.lease, above=0.0)
        validation.whole("half_open_successes", self.half_open_successes, least=1)
        if validation.number("break_jitter", self.break_jitter) > 1.0:
            raise ValueError(f"break_jitter must be at most 1, not {self.break_jitter!r}")
        if self.forget_after is not None:
            validation.number("forget_after", self.forget_after, above=0.0)
        if not isinstance(self.probe, Condition | None):
            raise TypeError(f"probe must be a Condition or None, not {self.probe!r}")
        validation.whole("window", self.window, least=1)
        if self.failure_rate is not None:
            if validation.number("failure_rate", self.failure_rate, above=0.0) > 1.0:
                raise ValueError(f"failure_rate must be at most 1, not {self.failure_rate!r}")
            validation.whole("window", self.window, least=100 if self.counts == "attempts" else 10)
        if self.categories is not None:
            given = validation.items("categories", self.categories)
            chosen = frozenset(validation.category("categories", one) for one in given)
            msgspec.structs.force_setattr(self, "categories", chosen)
