"""D7: before a call publishes an event that is written, it waits until the write queue is less than half full."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from events.operation_events import GaveUp
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from tests.recovery.journal.stores import Gated, kinds

FULL, FAIL, RETURN = "fill the queue", "fail", "return"

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("FailureClassified", {"max_retries": 0}, [FULL, FAIL]),
    ("OperationRecovered", {"initial_delay": 0.0}, [FAIL, FULL, RETURN]),
    ("OperationSucceeded", {"durability": "journal"}, [FULL, RETURN]),
]


def fill(service: Recovery, store: Gated) -> None:
    """Fill the queue with events of another operation; the store does not write for 20 ms."""
    store.gate.clear()
    for number in range(200):
        service.bus.publish(GaveUp(at=0.0, operation="other", call=f"other-{number}"))
    threading.Timer(0.02, store.gate.set).start()


def call(kind: str, function: Callable[[], None], service: Recovery, **settings: Any) -> None:
    if kind == "plain":
        service.recoverable("fetch", breaker=None, **settings)(function)()
        return

    async def coroutine() -> None:
        function()

    anyio.run(service.recoverable("fetch", breaker=None, **settings)(coroutine), backend=kind)


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
@pytest.mark.parametrize(("written", "settings", "steps"), CASES)
def test_d7_an_event_waits_for_admission(kind: str, written: str, settings: dict[str, Any], steps: list[str]) -> None:
    store, left = Gated(), iter(steps)
    store.gate.set()
    with Recovery(store=store, journal_config=JournalConfig(capacity=64)) as service:
        service.operation("other")

        def work() -> None:
            for step in left:
                if step == FULL:
                    fill(service, store)
                elif step == FAIL:
                    raise ConnectionError
                else:
                    return

        with suppress(ConnectionError):
            call(kind, work, service, **settings)
    assert written in kinds(store)


@pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])
def test_d7_the_start_of_a_journalled_call_waits_for_admission(kind: str) -> None:
    store = Gated()
    store.gate.set()
    with Recovery(store=store, journal_config=JournalConfig(capacity=64)) as service:
        service.operation("other")
        fill(service, store)
        call(kind, lambda: None, service, durability="journal")
    assert "OperationStarted" in kinds(store)


@pytest.mark.slow
def test_d7_many_calls_that_fail_at_once_are_all_written_and_leave_half_of_the_queue() -> None:
    store, waiting, calls = Gated(), list[int](), 300
    store.gate.set()
    with Recovery(store=store, journal_config=JournalConfig(capacity=64)) as service:
        assert service.journal is not None
        journal = service.journal

        @service.recoverable("fetch", initial_delay=0.0, budget=None)
        async def fetch(failures: list[str]) -> None:
            waiting.append(journal.counts.waiting)
            if failures:
                raise ConnectionError(failures.pop())

        async def main() -> None:
            await fetch(["reset"])
            async with anyio.create_task_group() as group:
                for _ in range(calls):
                    group.start_soon(fetch, ["reset"])

        anyio.run(main)
    assert sorted(kinds(store)) == sorted(["FailureClassified", "RetryScheduled", "OperationRecovered"] * (calls + 1))
    assert journal.counts.dropped == 0
    assert max(waiting) <= 32 + 2  # a call passes its slot on before it publishes
