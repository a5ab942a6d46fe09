"""Services, failing functions and events for tests of the monitor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.monitoring.snapshot import OperationSnapshot, Snapshot, WindowCounts
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import VirtualClock

PLAIN = RetryPolicy(max_retries=3, backoff=Constant(2.0), jitter="none")


def service_on(clock: VirtualClock, **options: Any) -> Recovery:
    return Recovery(clock=clock, policy=PLAIN, breaker=None, **options)


def failing(times: int, clock: VirtualClock | None = None, takes: float = 0.0) -> Callable[..., str]:
    """A function that raises that many times, then returns; each call of it *takes* seconds."""
    left = [times]

    def run(*_: object) -> str:
        if clock is not None:
            clock.advance(takes)
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError("reset")
        return "done"

    return run


def repeat(function: Callable[[], object], times: int) -> None:
    for _ in range(times):
        function()


def operation_of(snapshot: Snapshot, operation: str, key: str = "") -> OperationSnapshot:
    [part] = [part for part in snapshot.operations if (part.operation, part.key) == (operation, key)]
    return part


def counts(counted: WindowCounts, *fields: str) -> list[Any]:
    return [getattr(counted, field) for field in fields]


def failure(call: str, at: float, attempt: int = 1, operation: str = "fetch") -> FailureClassified:
    evidence = Evidence(type="builtins.OSError")
    return FailureClassified(
        at=at, operation=operation, call=call, attempt=attempt, category=Category.TRANSIENT, evidence=evidence
    )


def give_up(service: Recovery, times: int) -> None:
    """Let calls of the operation "fetch" give up."""
    fetch = service.recoverable("fetch", max_retries=0)(failing(times))
    for _ in range(times):
        with pytest.raises(ConnectionError):
            fetch()
