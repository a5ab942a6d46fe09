"""The clock by which this process knows what it was sent and holds: it runs while the machine is suspended, too."""

from __future__ import annotations

import time
from collections.abc import Callable


def _clock() -> Callable[[], float]:
    try:
        clock = time.CLOCK_BOOTTIME
        time.clock_gettime(clock)
    except (AttributeError, OSError):  # no Linux, or an emulated one
        return time.monotonic
    return lambda: time.clock_gettime(clock)


boottime = _clock()
"""Monotonic seconds, on Linux with those for which the machine was suspended: for the servers, they pass as well."""
