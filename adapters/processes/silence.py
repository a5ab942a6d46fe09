"""Whether a command is silent: it prints nothing, computes nothing, reads and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from adapters.processes.running import POLL_INTERVAL
from adapters.processes.tree import Tree
from recovery.installation import extra

with extra("launcher"):
    import psutil

LEAST_CPU = 0.01
"""Share of one core that a tree of processes must use to count as busy: a timer that looks for news uses less."""

LEAST_BYTES = 1024.0
"""Bytes a second that it must read and write to count as busy."""

SAMPLES = 10
"""Looks at the processes during the allowed silence; fewer, if that is short."""

MOST_INTERVAL = 10.0
"""Seconds between two looks, at most."""


class SilenceWatch:
    """Tells when a tree of processes has been silent for too long.

    Output makes it start over, and so does processor time or input and output of any process of the tree: a compiler
    may print nothing for many minutes. What waits for another machine in silence is silent.

    Args:
        allowed: Seconds of silence that are allowed; ``None`` for any number.
        tree: The processes.
        clock: The current time in seconds.
    """

    def __init__(self, allowed: float | None, tree: Tree, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed = allowed
        self._tree = tree
        self._clock = clock
        self._interval = min(max((allowed or 0.0) / SAMPLES, POLL_INTERVAL), MOST_INTERVAL)
        self.silent_for = 0.0
        """Seconds of silence, as of the latest look."""
        self._looked = clock()
        self._used: dict[psutil.Process, tuple[float, float]] = {}

    def start_over(self) -> None:
        """Note that there was output."""
        self.silent_for = 0.0

    def is_over(self) -> bool:
        """Whether the silence has lasted for longer than is allowed. To be asked again and again."""
        if self._allowed is None:
            return False
        now = self._clock()
        passed = now - self._looked
        if passed < self._interval:
            return False
        self._looked = now
        if self._was_busy(passed):
            self.silent_for = 0.0
        else:  # where everything stood still, as in a frozen container, no silence has passed
            self.silent_for += min(passed, 2 * self._interval)
        return self.silent_for >= self._allowed

    def _was_busy(self, seconds: float) -> bool:
        before, self._used = self._used, {one: _used_by(one) for one in self._tree.members()}
        grown = [
            (cpu - before.get(one, (0.0, 0.0))[0], data - before.get(one, (0.0, 0.0))[1])
            for one, (cpu, data) in self._used.items()
        ]
        cpu, data = sum(cpu for cpu, _ in grown), sum(data for _, data in grown)
        return cpu >= LEAST_CPU * seconds or data >= LEAST_BYTES * seconds


def _used_by(process: psutil.Process) -> tuple[float, float]:
    """Seconds of processor time, and bytes read and written, of *process* and the children it has waited for."""
    try:
        with process.oneshot():
            times = process.cpu_times()
            counters = process.io_counters() if hasattr(process, "io_counters") else None
    except psutil.Error:
        return 0.0, 0.0
    cpu = times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    if counters is None:  # macOS
        return cpu, 0.0
    read, written = (getattr(counters, f"{one}_chars", getattr(counters, f"{one}_bytes")) for one in ("read", "write"))
    return cpu, read + written
