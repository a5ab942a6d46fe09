"""An attempt that dies with its process costs a retry. After the last one the call is quarantined, and not given up."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.errors import RecoveryError
from events.operation_events import OperationQuarantined, OperationResumed, RetryScheduled
from recovery import context
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import SETTINGS, Killed, die_again, kill, kill_at, leave, resume


def poisoned() -> MemoryStore:
    """A store with a call in which four processes died."""
    store = MemoryStore()
    leave(store, "poison")
    for _ in range(3):
        die_again(store)
    return store


def test_d19_a_call_whose_last_attempt_died_with_it_is_quarantined(
    caplog: pytest.LogCaptureFixture, store: MemoryStore
) -> None:
    numbers: list[int] = []
    leave(store, "poison", body=lambda: numbers.append(context.attempt()))
    deaths = [die_again(store, lambda: numbers.append(context.attempt())) for _ in range(3)]
    assert [len(found.calls) for found in deaths] == [1, 1, 1]
    assert numbers == [1, 2, 3, 4]
    seen: list[Any] = []
    for _ in range(2):  # and stays so
        with Recovery(store=store) as service:
            events = events_of(service, OperationQuarantined)
            service.recoverable("work", **SETTINGS)(seen.append)
            resumption = service.resume()
            assert resumption.wait(10.0)
        assert resumption.calls == []
        assert [record.operation for record in resumption.quarantined] == ["work"]
    assert (seen, events) == ([], [])
    assert caplog.text.count("quarantined: its process died in attempt 4, and its retries (3) are used up") == 1
    kinds = [row.kind for row in store.rows]
    assert (kinds.count("OperationQuarantined"), kinds.count("GaveUp")) == (1, 0)


def test_failures_and_deaths_use_the_same_retries(store: MemoryStore) -> None:
    leave(store, failures=1, max_retries=2)
    assert [len(die_again(store, max_retries=2).calls) for _ in range(2)] == [1, 0]


def test_a_death_that_is_not_the_last_leaves_retries_for_failures(store: MemoryStore) -> None:
    leave(store, max_retries=2)
    script = Script(ConnectionError(), ConnectionError(), "a fourth attempt")
    [resumed] = resume(store, script, max_retries=2).calls
    assert isinstance(resumed.error, ConnectionError)
    assert script.calls == 2


@pytest.mark.parametrize(("failures", "attempts"), [(0, 4), (5, 9)])
def test_without_a_limit_on_retries_four_deaths_in_a_row_quarantine(
    failures: int, attempts: int, caplog: pytest.LogCaptureFixture, store: MemoryStore
) -> None:
    numbers: list[int] = []

    def poison() -> None:
        numbers.append(context.attempt())

    leave(store, body=poison, failures=failures, max_retries=None)
    while not die_again(store, poison, max_retries=None).quarantined:
        assert len(numbers) < 20
    assert len(numbers) == attempts
    assert "quarantined: 4 processes in a row died in it" in caplog.text


def test_a_failure_that_the_process_survived_begins_a_new_row_of_deaths(store: MemoryStore) -> None:
    leave(store, max_retries=None)
    for _ in range(3):  # each fails once, and dies in the attempt after that
        found = die_again(store, fails_once(), max_retries=None)
        assert len(found.calls) == 1
    assert [len(die_again(store, max_retries=None).calls) for _ in range(4)] == [1, 1, 1, 0]


def fails_once() -> Callable[[], object]:
    errors = iter([ConnectionError()])

    def body() -> None:
        for error in errors:
            raise error

    return body


def test_one_quarantined_call_does_not_stop_the_others() -> None:
    store = poisoned()
    leave(store, "good")
    seen: list[Any] = []
    resumption = resume(store, seen.append)
    assert (seen, len(resumption.quarantined)) == (["good"], 1)


@pytest.mark.parametrize(("farther", "quarantined"), [(1, 0), (0, 1)])
def test_an_attempt_with_a_new_checkpoint_that_dies_costs_no_retry(
    farther: int, quarantined: int, store: MemoryStore
) -> None:
    frames = iter(range(7, 100))
    leave(store, body=lambda: context.checkpoint(7))
    for _ in range(5):
        found = die_again(store, lambda: context.checkpoint(next(frames) if farther else 7))
    assert len(found.quarantined) == quarantined


def test_a_retry_begins_once_its_start_is_committed(store: MemoryStore) -> None:
    """Otherwise a process that dies in it would leave an attempt that the next process does not know of."""
    written: list[list[str]] = []

    def work() -> None:
        written.append([row.kind for row in store.rows])
        raise ConnectionError

    async def work_in_task() -> None:
        work()

    for function in (work, work_in_task):
        with Recovery(store=store) as service, pytest.raises(ConnectionError):
            call = service.recoverable("work", **SETTINGS)(function)
            anyio.run(call) if function is work_in_task else call()
    starts = [kinds.count("OperationStarted") for kinds in written]
    assert (starts[1:4], starts[5:]) == ([2, 3, 4], [6, 7, 8])


@pytest.mark.parametrize(("seconds", "quarantined"), [(1.5, 0), (0.5, 1)])
def test_an_attempt_that_made_progress_for_a_second_and_died_costs_no_retry(
    seconds: float, quarantined: int, store: MemoryStore
) -> None:
    done = itertools.count(1)

    def proceed(clock: VirtualClock) -> None:
        for _ in range(3):
            context.progress(next(done))
            clock.advance(seconds / 2)

    found = die_while(store, proceed, times=5)
    assert len(found.quarantined) == quarantined


def test_an_attempt_that_came_as_far_as_the_one_before_uses_a_retry(store: MemoryStore) -> None:
    def proceed(clock: VirtualClock) -> None:
        for done in (1, 2, 3):
            context.progress(done)
            clock.advance(1.5)

    # The first came further. Of the others, each comes as far as that.
    assert [len(die_while(store, proceed, times=1).quarantined) for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def die_while(store: MemoryStore, body: Callable[[VirtualClock], object], *, times: int) -> Resumption:
    """Have processes die in *body*, one after another; what the last one found."""
    for _ in range(times):
        clock = VirtualClock()
        with Recovery(store=store, clock=clock) as service:

            def work(service: Recovery = service, clock: VirtualClock = clock) -> None:
                body(clock)
                kill(service)

            call = service.recoverable("work", **SETTINGS)(lambda: work())
            if not store.rows:
                with pytest.raises(Killed):
                    call()
            found = service.resume()
            assert found.wait(10.0)
    return found


# Ends that are no death of the call


def test_a_service_that_ends_in_good_order_charges_nothing(store: MemoryStore) -> None:
    leave(store)
    go_on = threading.Event()
    for _ in range(6):
        begun = threading.Event()

        def work(begun: threading.Event = begun) -> None:
            begun.set()
            go_on.wait(10.0)

        with Recovery(store=store) as service:
            service.recoverable("work", **SETTINGS)(work)
            service.resume()
            assert begun.wait(10.0)
    assert [len(die_again(store).calls) for _ in range(4)] == [1, 1, 1, 0]
    go_on.set()


@pytest.mark.anyio
async def test_a_service_that_ends_with_an_error_charges_nothing(store: MemoryStore) -> None:
    await anyio.to_thread.run_sync(leave, store)
    for _ in range(6):
        begun = anyio.Event()

        async def work(begun: anyio.Event = begun) -> None:
            begun.set()
            await anyio.sleep_forever()

        with pytest.raises(Killed):
            async with Recovery(store=store) as service:
                service.recoverable("work", **SETTINGS)(work)
                resumption = service.resume()
                with anyio.fail_after(5.0):
                    await begun.wait()
                raise Killed
        assert len(resumption.calls) == 1


def test_a_call_whose_process_died_while_it_waited_is_not_quarantined(store: MemoryStore) -> None:
    for _ in range(6):
        with Recovery(store=store) as service:
            kill_at(service, OperationResumed, RetryScheduled)
            call = service.recoverable("work", **SETTINGS)(Script(ConnectionError()))
            if not store.rows:
                with pytest.raises(Killed):
                    call()
            resumption = service.resume()
            resumption.wait(10.0)
    assert (len(resumption.calls), resumption.quarantined) == (1, [])


# By hand


def test_a_death_between_resumption_and_attempt_charges_nothing(store: MemoryStore) -> None:
    leave(store, max_retries=1)
    for _ in range(4):
        with Recovery(store=store) as service:
            kill_at(service, OperationResumed)
            service.recoverable("work", **SETTINGS, max_retries=1)(Script())
            resumption = service.resume()
            assert resumption.wait(10.0)
        assert len(resumption.calls) == 1
    assert len(die_again(store, max_retries=1).calls) == 1


def test_a_quarantined_call_is_resumed_by_hand_with_all_its_retries() -> None:
    store = poisoned()
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(lambda _: kill(service))
        resumption = service.resume()
        assert resumption.wait(10.0)
        with pytest.raises(LookupError, match="'unknown' is quarantined"):
            resumption.retry("unknown")
        assert resumption.retry(resumption.quarantined[0].call).wait(10.0)
    assert [len(die_again(store).calls) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.anyio
async def test_a_quarantined_async_call_is_resumed_in_its_loop() -> None:
    store, seen = await anyio.to_thread.run_sync(poisoned), []

    async def work(argument: str) -> None:
        seen.append(argument)

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = await service.resume()
        call = resumption.quarantined[0].call
        await (await anyio.to_thread.run_sync(resumption.retry, call))
    assert seen == ["poison"]


def test_a_quarantined_async_call_stays_quarantined_where_no_loop_runs() -> None:
    store, seen = poisoned(), []

    async def work(argument: str) -> None:
        seen.append(argument)

    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert resumption.wait(10.0)
        [record] = resumption.quarantined
        with pytest.raises(RecoveryError, match="async calls are resumed under `async with`"):
            resumption.retry(record.call)
    assert (seen, resumption.calls, resumption.quarantined) == ([], [], [record])
    assert store.rows[-1].kind == "OperationQuarantined"


ENDS = """
import sys, threading, time
from adapters.sqlite.store import SQLiteStore
from recovery import Recovery

service = Recovery(store=SQLiteStore(sys.argv[1]), breaker=None)

@service.recoverable("work", resumable=True, durability="strict", max_retries=0)
def work():
    begun.set()
    time.sleep(60)

begun = threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait(20.0)
sys.exit(3)
"""


def test_a_program_that_ends_without_closing_its_service_charges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    ended = subprocess.run([sys.executable, "-c", ENDS, str(path)], timeout=30.0, check=False)
    assert ended.returncode == 3
    with Recovery(store=SQLiteStore(path), breaker=None) as service:
        service.recoverable("work", resumable=True, max_retries=0)(Script("done"))
        found = service.resume()
        assert found.wait(5.0)
    assert ([call.result for call in found.calls], found.quarantined) == (["done"], [])
