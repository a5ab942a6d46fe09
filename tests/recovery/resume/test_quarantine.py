"""A call that crashes its process again and again is quarantined, and resumed by hand only."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapters.memory import MemoryStore
from events.errors import RecoveryError
from events.operation_events import OperationQuarantined, OperationResumed, RetryScheduled
from recovery import context
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import SETTINGS, Killed, die_again, kill, kill_at, leave, resume


def poisoned() -> MemoryStore:
    """A store with a call in which four processes died."""
    store = MemoryStore()
    leave(store, "poison")
    for _ in range(3):
        die_again(store)
    return store


def test_a_call_whose_three_resumptions_crashed_is_quarantined(
    caplog: pytest.LogCaptureFixture, store: MemoryStore
) -> None:
    leave(store, "poison")
    assert [len(die_again(store).calls) for _ in range(3)] == [1, 1, 1]
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
    assert caplog.text.count("is quarantined: 4 processes died in it") == 1
    assert [row.kind for row in store.rows].count("OperationQuarantined") == 1


def test_one_quarantined_call_does_not_stop_the_others() -> None:
    store = poisoned()
    leave(store, "good")
    seen: list[Any] = []
    resumption = resume(store, seen.append)
    assert (seen, len(resumption.quarantined)) == (["good"], 1)


@pytest.mark.parametrize(("farther", "quarantined"), [(1, 0), (0, 1)])
def test_only_a_call_that_comes_farther_each_time_is_not_quarantined(
    farther: int, quarantined: int, store: MemoryStore
) -> None:
    frames = iter(range(7, 100))
    leave(store, body=lambda: context.checkpoint(7))
    for _ in range(5):
        found = die_again(store, lambda: context.checkpoint(next(frames) if farther else 7))
    assert len(found.quarantined) == quarantined


# Ends that are no crash of the call


def test_a_service_that_ends_in_good_order_is_no_crash_of_its_calls(store: MemoryStore) -> None:
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
async def test_a_service_that_ends_with_an_error_is_no_crash_of_its_calls(store: MemoryStore) -> None:
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


def test_a_quarantined_call_is_resumed_by_hand_and_may_crash_three_times_more() -> None:
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
