"""How long a wait still lasts that another process began. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from recovery.journal.history import CallRecord, Run


def remaining(record: CallRecord, runs: Mapping[str, Run], now: Run) -> float:
    """Seconds left of the wait of *record*, for the run *now*, with its clocks read at this moment.

    Within one boot the monotonic clock counts, however the wall clock is set. Across boots only the wall clock means
    anything; it never yields more than the whole delay.
    """
    return 0.0 if record.due is None else time_left(record.run, record.due, record.delay, runs, now)


def time_left(run: str, due: float, delay: float, runs: Mapping[str, Run], now: Run) -> float:
    """Seconds until *due*, on the clock of *run*, as ``remaining``; at most *delay*."""
    then = runs.get(run)
    if then is None:
        return 0.0
    is_one_boot = then.boot and then.boot == now.boot
    left = due - now.monotonic if is_one_boot else due - then.monotonic + then.wall - now.wall
    return min(max(left, 0.0), delay)
