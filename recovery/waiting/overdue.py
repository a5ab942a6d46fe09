"""What a jump of the clock does to the calls that wait: which are due, and that not all of them come back at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from recovery.operations import OperationKey
from recovery.policies.jumps import Jump
from recovery.waiting.wait import Wait

HEAD_START = 1.0
"""Seconds by which one call of each key comes back before the others."""


class Sleeping(Protocol):
    """What the register needs of a call that sleeps without a ``Wait`` (``recovery.waiting.sleep``)."""

    def as_wait(self) -> Wait:
        """A new wait, as it stands now."""
        ...

    @property
    def due(self) -> float:
        """When it ends, on the clock of the waits."""
        ...

    def steered(self, wait: Wait) -> None:
        """End the sleep: the call goes on in *wait*. The caller holds the lock of the waits."""

    def wake(self) -> None:
        """Resume the call, after ``steered``; never blocks."""


def come_back(
    waits: dict[str, Wait | Sleeping], jump: Jump, now: float, jitter: Callable[[int], float]
) -> list[Wait | Sleeping]:
    """Move *waits* after *jump*: overdue calls come back staggered, one of each key first. The caller holds the lock.

    A sleep that is overdue becomes a wait. Returns what is to be woken without the lock.
    """
    woken: list[Wait | Sleeping] = []
    overdue: defaultdict[OperationKey, list[Wait]] = defaultdict(list)
    for call, waiting in list(waits.items()):
        if isinstance(waiting, Wait):
            wait = waiting
            if jump.kind == "stopped":
                wait.deadline += jump.slept
            elif wait.counts_sleep and not wait.is_paused:
                wait.due -= jump.slept
        elif waiting.due < now + HEAD_START:
            wait = waits[call] = waiting.as_wait()
            waiting.steered(wait)
        else:
            continue
        woken.append(waiting)
        if wait.due < now + HEAD_START and not (wait.is_paused or wait.is_over or wait.pending):
            overdue[wait.operation_key].append(wait)
    for of_key in overdue.values():
        of_key.sort(key=lambda one: one.due)
        for number, wait in enumerate(of_key):
            wait.postpone(now + HEAD_START + jitter(len(of_key)) if number else now)
            wait.deadline = max(wait.deadline, wait.due)  # it was due in time
    return woken
