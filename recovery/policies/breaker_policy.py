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
        window: How many of the last calls or attempts a rate is of; the circuit stays closed until there are that
            many. At least 10, and at least 100 for attempts: of 30 % noise a narrower window opens by chance.
        window_seconds: Seconds of a window by time, in place of *window*; it moves on in tenths. None: no such window.
        minimum_calls: How many calls or attempts must be in a window by time for the circuit to open.
        slow_call_rate: The share of slow calls or attempts in the window that opens the circuit, above 0 and at most 1.
            A slow probe then counts as a failed one. None: durations are not measured.
        slow_call_seconds: Seconds from which an attempt is slow; of a call, the last attempt counts.
        break_duration: Seconds that the circuit stays open.
        break_growth: How many times longer each break is after a probe fails; at least 1.
        max_break: The most seconds of a break, or *break_duration* if that is longer.
        break_jitter: The share of a break by which it is longer at random, from 0 to 1, so that processes that lost one
            host together do not probe it together. It may exceed *max_break*.
        counts: What a failure is: "calls" that gave up, or failed "attempts". A probe is one attempt in any case.
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
    window_seconds: float | None = None
    minimum_calls: int = 100
    slow_call_rate: float | None = None
    slow_call_seconds: float = 60.0
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
        validation.whole("minimum_calls", self.minimum_calls, least=1)
        validation.number("slow_call_seconds", self.slow_call_seconds, above=0.0)
        rates = [name for name in ("failure_rate", "slow_call_rate") if getattr(self, name) is not None]
        for name in rates:
            if validation.number(name, getattr(self, name), above=0.0) > 1.0:
                raise ValueError(f"{name} must be at most 1, not {getattr(self, name)!r}")
        if self.window_seconds is not None:
            validation.number("window_seconds", self.window_seconds, above=0.0)
            if not rates:
                raise ValueError("window_seconds must have a rate: set failure_rate or slow_call_rate too")
        elif rates:
            validation.whole("window", self.window, least=100 if self.counts == "attempts" else 10)
        if self.categories is not None:
            given = validation.items("categories", self.categories)
            chosen = frozenset(validation.category("categories", one) for one in given)
            msgspec.structs.force_setattr(self, "categories", chosen)

    @property
    def is_measured(self) -> bool:
        """Whether a closed circuit must hear of each success too: for a window by time, or slow calls."""
        return self.window_seconds is not None or self.slow_call_rate is not None
