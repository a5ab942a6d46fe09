"""Events of the clock: it has jumped."""

from __future__ import annotations

from typing import Literal, TypeAlias

from events.event import Event

JumpKind: TypeAlias = Literal["sleep", "stopped"]
"""Why time is missing: the machine slept, or the process, or its event loop, stood still."""


class ClockJumped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Time has passed in which the process did not run. A failure that this caused uses no retry.

    Args:
        slept: Seconds for which it did not run.
        kind: "sleep": the machine slept, and the bus's clock stood still. "stopped": the process, the machine or an
            event loop stood still, and the clock went on: a waiting call woke that much late.
    """

    slept: float
    kind: JumpKind
