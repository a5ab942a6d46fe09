"""How far an attempt has come: what puts off a stall, and gives a call its retries back."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from adapters.memory import MemoryStore
from events.operation_events import FailureClassified, OperationFailed
from recovery import context
from recovery.journal.history import replay
from recovery.policies.retry import RetryPolicy, reset_by_progress
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import die_again, leave, resume

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def quick() -> Recovery:
    return Recovery(clock=VirtualClock(), rng=lambda: 0.0)


@pytest.mark.parametrize(
    ("resets", "is_farther", "attempts"),
    [
        (None, False, 3),  # as far as before is no progress
        (3, True, 1 + 2 + 3),
        (None, True, 99),
    ],
)
def test_progress_gives_a_call_its_retries_back(resets: int | None, is_farther: bool, attempts: int) -> None:
    made: list[int] = []

    @quick().recoverable("download", max_retries=2, progress_resets=resets)
    def download() -> None:
        made.append(1)
        context.progress(len(made) if is_farther else 10)
        raise ValueError if len(made) == 99 else ConnectionResetError

    with pytest.raises((ConnectionResetError, ValueError)):
        download()
    assert len(made) == attempts


def test_retries_are_numbered_from_the_latest_progress() -> None:
    service = quick()
    events = events_of(service)
    reached = [10, 20]

    @service.recoverable("download", max_retries=3, progress_resets=5)
    def download() -> None:
        if reached:
            context.progress(reached.pop(0))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        download()
    failures = [event for event in events if isinstance(event, FailureClassified)]
    assert [(one.retries, one.progress_resets) for one in failures] == [(0, 0), (0, 1), (1, 1), (2, 1), (3, 1)]
    [record] = replay({}, "r", events).values()
    assert (record.progress_resets, record.retries) == (1, 3)


def test_after_a_restart_progress_resets_are_counted_on() -> None:
    store, attempts = MemoryStore(), []
    settings: dict[str, Any] = {"max_retries": 2, "progress_resets": 1, "breaker": None}

    def proceed() -> None:
        attempts.append(context.attempt())
        context.progress(len(attempts))

    def fail() -> None:
        proceed()
        raise ConnectionResetError

    leave(store, body=proceed, failures=2, **settings)
    resume(store, fail, **settings)
    # Two failures, of which the second gave its retry back; the third attempt died, which costs one: no more.
    assert attempts == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("allowed", "progressed", "progress_resets", "after"),
    [
        (0, True, 0, (2, 0)),
        (3, True, 0, (0, 1)),
        (3, True, 2, (0, 3)),
        (3, True, 3, (2, 3)),
        (None, True, 99, (0, 100)),
        (None, False, 99, (2, 99)),
    ],
)
def test_progress_resets_follow_the_table(
    allowed: int | None, progressed: bool, progress_resets: int, after: tuple[int, int]
) -> None:
    failed = OperationFailed(
        at=0.0, call="a", error=OSError(), retries=2, progressed=progressed, progress_resets=progress_resets
    )
    assert reset_by_progress(RetryPolicy(progress_resets=allowed), failed) == after


@BACKENDS
def test_a_stalled_attempt_is_ended_and_retried(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0)
    failures = events_of(service, OperationFailed)
    began: list[float] = []

    @service.recoverable("download", stall_timeout=60.0)
    async def download() -> str:
        began.append(clock())
        if len(began) == 1:
            for chunk in range(1, 6):
                await anyio.sleep(50.0)
                context.progress(chunk)
            await anyio.sleep_forever()
        return "whole"

    assert clock.run(download, backend=backend) == "whole"
    assert began == [0.0, pytest.approx(5 * 50.0 + 60.0)]
    assert [repr(event.error) for event in failures] == ["TimeoutError('no progress for 60 s')"]  # type: ignore[attr-defined]


@BACKENDS
def test_progress_from_a_worker_thread_prevents_a_stall(backend: str) -> None:
    deadlines: list[float] = []

    @Recovery().recoverable("download", stall_timeout=60.0, max_retries=0)
    async def download() -> None:
        for chunk in range(1, 4):
            deadlines.append(anyio.current_effective_deadline())
            await anyio.to_thread.run_sync(context.progress, chunk)
            await anyio.lowlevel.checkpoint()  # the loop gets the event, and has to publish it

    anyio.run(download, backend=backend)
    assert deadlines == sorted(set(deadlines))


@BACKENDS
def test_a_moving_attempt_still_has_its_attempt_timeout(backend: str) -> None:
    clock = VirtualClock()

    @Recovery(clock=clock).recoverable("download", stall_timeout=60.0, attempt_timeout=100.0, max_retries=0)
    async def download() -> None:
        for chunk in range(1, 99):
            await anyio.sleep(50.0)
            context.progress(chunk)

    with pytest.raises(TimeoutError):
        clock.run(download, backend=backend)
    assert clock() == pytest.approx(100.0)


@BACKENDS
def test_an_error_of_the_function_is_not_taken_for_a_stall(backend: str) -> None:
    @quick().recoverable("download", stall_timeout=60.0, max_retries=0)
    async def download() -> None:
        raise ConnectionResetError("mine")

    with pytest.raises(ConnectionResetError, match="mine"):
        anyio.run(download, backend=backend)


@BACKENDS
def test_an_attempt_that_starts_over_does_not_stall(backend: str) -> None:
    clock = VirtualClock()
    began: list[float] = []

    @Recovery(clock=clock, rng=lambda: 0.0).recoverable("download", stall_timeout=60.0, max_retries=1)
    async def download() -> str:
        began.append(clock())
        for chunk in range(1, 11):
            await anyio.sleep(50.0)
            context.progress(chunk)
            if len(began) == 1 and chunk == 9:
                raise ConnectionResetError
        return "whole"

    assert clock.run(download, backend=backend) == "whole"


def test_progress_from_before_a_restart_is_none_after_it() -> None:
    store, attempts = MemoryStore(), []
    settings: dict[str, Any] = {"max_retries": 1, "progress_resets": None, "breaker": None}

    def fail_first() -> None:  # in the second attempt of each run, the process dies
        attempts.append(run)
        if attempts.count(run) == 1:
            context.progress(5.0)
            raise ConnectionResetError

    run = 0
    leave(store, body=fail_first, **settings)
    for run in range(1, 6):  # noqa: B007  # ``fail_first`` reads it
        die_again(store, fail_first, **settings)
    assert len(attempts) <= 4
