from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import anyio
import anyio.to_thread
import msgspec
import pytest

from adapters.memory import MemoryStore
from events.circuit_events import CircuitOpened
from events.errors import RecoveryError
from events.evidence import Category
from events.operation_events import (
    FailureClassified,
    GaveUp,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    RetryScheduled,
)
from recovery import context
from recovery.journal.history import Run
from recovery.journal.store import Row
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names

SETTINGS: dict[str, Any] = {"resumable": True, "initial_delay": 0.0}


class Killed(BaseException):
    """Stands for a kill -9: nothing after it is written."""


def leave(store: MemoryStore, body: Callable[[], object], *args: Any, failures: int = 0, **settings: Any) -> None:
    """Leave a call of "work" in *store* as a process would that was killed in its attempt after *failures*."""
    service = Recovery(store=store)

    @service.recoverable("work", **{**SETTINGS, **settings})
    def work(*_: Any) -> None:
        body()
        if context.attempt() <= failures:
            raise ConnectionError(f"failure {context.attempt()}")
        raise Killed

    original = body

    def body_then_die() -> None:
        original()
        if context.attempt() > failures:
            service.journal.seal()  # type: ignore[union-attr]

    body = body_then_die
    with service, pytest.raises(Killed):
        work(*args)


def test_a_call_that_was_under_way_is_made_again_with_its_arguments() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "a", 2)
    seen: list[Any] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(lambda *args: seen.append(args))
        assert service.resume().wait(10.0)
    assert seen == [("a", 2)]


def test_attempts_are_counted_on() -> None:
    store = MemoryStore()
    leave(store, lambda: None, failures=2)
    seen: list[int] = []

    def work() -> None:
        seen.append(context.attempt())
        raise ConnectionError

    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert seen == [3, 4]  # three retries are allowed, two were used up
    assert isinstance(resumption.calls[0].error, ConnectionError)


def test_the_key_and_the_checkpoint_survive() -> None:
    store = MemoryStore()
    keys: list[str] = []
    leave(store, lambda: (keys.append(context.key()), context.checkpoint({"offset": 7})))
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(lambda: (context.key(), context.saved()))
        resumption = service.resume()
        resumption.wait(10.0)
    assert resumption.calls[0].result == (keys[0], {"offset": 7})


def test_a_call_that_is_over_is_not_made_again() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    for _ in range(2):
        with Recovery(store=store) as service:
            service.recoverable("work", **SETTINGS)(lambda: None)
            resumption = service.resume()
            resumption.wait(10.0)
    assert resumption.calls == []


def test_a_resumed_call_says_so_and_that_it_recovered() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    with Recovery(store=store) as service:
        heard = events_of(service, OperationResumed, OperationRecovered)
        service.recoverable("work", **SETTINGS)(lambda: None)
        service.resume().wait(10.0)
    assert names(heard) == ["OperationResumed", "OperationRecovered"]


def test_an_unknown_name_stays_in_the_journal() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    with Recovery(store=store) as service:
        resumption = service.resume()
        resumption.wait(10.0)
        assert [record.operation for record in resumption.left] == ["work"]
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(lambda: None)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert len(resumption.calls) == 1


def test_another_version_stays_in_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    leave(store, lambda: None, version="1")
    with Recovery(store=store) as service:
        service.recoverable("work", version="2", **SETTINGS)(lambda: None)
        resumption = service.resume()
        resumption.wait(10.0)
    assert (len(resumption.calls), len(resumption.left)) == (0, 1)
    assert "version '1'" in caplog.text


async def nothing() -> None: ...


def test_async_calls_stay_pending_under_a_plain_with(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(nothing)
        resumption = service.resume()
        resumption.wait(10.0)
    assert (len(resumption.calls), len(resumption.left)) == (0, 1)
    assert "async calls stay pending (work)" in caplog.text


@pytest.mark.anyio
async def test_async_calls_are_resumed_as_tasks_of_the_service() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "a")
    seen: list[Any] = []

    async def work(argument: str) -> None:
        await anyio.sleep(0)
        seen.append(argument)

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        await service.resume()
    assert seen == ["a"]


@pytest.mark.anyio
async def test_the_service_waits_for_what_it_carries_on() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    seen: list[str] = []

    async def work() -> None:
        await anyio.sleep(0.01)
        seen.append("done")

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        service.resume()
    assert seen == ["done"]


@pytest.mark.anyio
async def test_a_resumed_call_that_fails_does_not_break_the_others() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "bad")
    leave(store, lambda: None, "good")

    async def work(argument: str) -> str:
        if argument == "bad":
            raise ValueError(argument)
        return argument

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = await service.resume()
    outcomes = {call.record.arguments: (call.result, type(call.error)) for call in resumption.calls}
    assert outcomes == {b'[["bad"],{}]': (None, ValueError), b'[["good"],{}]': ("good", type(None))}


def test_plain_calls_are_resumed_four_at_a_time() -> None:
    store = MemoryStore()
    for _ in range(6):
        leave(store, lambda: None)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        go_on.wait(10.0)

    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert all(begun.acquire(timeout=10.0) for _ in range(4))
        assert not begun.acquire(timeout=0.01)
        go_on.set()
        assert resumption.wait(10.0)


def test_a_call_that_died_after_its_last_failure_is_given_up_not_tried_again() -> None:
    store = MemoryStore()
    leave(store, lambda: None, failures=3, max_retries=3)
    # What a crash between the last failure and its verdict leaves: one more failure, and nothing after it.
    last = [row for row in store.rows if row.kind == "FailureClassified"][-1]
    body = last.body.replace(b'"attempt":3', b'"attempt":4').replace(b'"retries":2', b'"retries":3')
    store.rows.append(Row(last.run, last.call, last.kind, body, last.number + 1))
    calls: list[int] = []
    with Recovery(store=store) as service:
        heard = events_of(service, GaveUp)
        service.recoverable("work", **{**SETTINGS, "max_retries": 3})(lambda: calls.append(1))
        resumption = service.resume()
        resumption.wait(10.0)
    assert (calls, names(heard)) == ([], ["GaveUp"])
    assert "out of retries" in str(resumption.calls[0].error)


def test_resuming_twice_carries_on_once() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "a")
    seen: list[Any] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        assert service.resume() is service.resume()
        assert service.resume().wait(10.0)
    assert seen == ["a"]


def test_threads_that_resume_at_once_get_the_same_answer() -> None:
    together = threading.Barrier(4)
    for _ in range(10):
        found: list[Resumption] = []
        with Recovery(store=MemoryStore()) as service:

            def resume(service: Recovery = service, found: list[Resumption] = found) -> None:
                together.wait(10.0)
                found.append(service.resume())

            threads = [threading.Thread(target=resume) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10.0)
        assert len(set(found)) == 1


def test_what_is_cancelled_because_the_launcher_ends_is_resumed_next_time() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "a")

    async def work(_: str) -> None:
        await anyio.sleep_forever()

    async def launcher() -> None:
        async with Recovery(store=store) as service:
            service.recoverable("work", **SETTINGS)(work)
            await service.resume().loaded.opened()
            raise KeyError("a bug elsewhere")

    with pytest.raises(KeyError):
        anyio.run(launcher)
    seen: list[str] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        assert service.resume().wait(10.0)
    assert seen == ["a"]


def test_another_function_cannot_take_over_a_resumable_name() -> None:
    service = Recovery(store=MemoryStore())
    service.recoverable("work", **SETTINGS)(test_resuming_needs_a_store)
    with pytest.raises(ValueError, match="already resumes its calls with test_resuming_needs_a_store"):
        service.recoverable("work", **SETTINGS)(nothing)


def test_resuming_needs_a_store() -> None:
    with pytest.raises(ValueError, match="without a store"):
        Recovery().resume()


def test_a_row_that_cannot_be_read_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    leave(store, lambda: None, "a")
    first = store.rows[0]
    store.rows.appendleft(type(first)(first.run, "other", "OperationStarted", b"garbage", 99))
    seen: list[Any] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        assert service.resume().wait(10.0)
    assert seen == ["a"]
    assert "call other" in caplog.text


class LimitedError(Exception):
    status = 429
    headers: ClassVar = {"Retry-After": "600"}


def test_a_crash_does_not_forget_how_long_a_server_wanted_to_be_left_alone() -> None:
    store = MemoryStore()
    clock = VirtualClock(start=time.monotonic())
    with Recovery(store=store, clock=clock) as service:

        def die(_: Any) -> None:
            service.journal.seal()  # type: ignore[union-attr]
            raise Killed

        service.bus.subscribe(FailureClassified, die)
        with pytest.raises(Killed):
            service.recoverable("work", **SETTINGS)(Script(LimitedError()))()
    later = VirtualClock(start=clock() + 100.0)
    with Recovery(store=store, clock=later) as service:
        service.recoverable("work", **SETTINGS)(Script())
        assert service.resume().wait(10.0)
    assert later() >= clock() + 600.0


def test_permanent_failures_that_were_not_decided_open_no_circuit() -> None:
    store = MemoryStore()
    for run in range(5):
        with Recovery(store=store, run=f"run{run}") as service:

            def die(_: Any) -> None:
                service.journal.seal()  # type: ignore[union-attr]
                raise Killed

            service.bus.subscribe(FailureClassified, die)
            with pytest.raises(Killed):
                service.recoverable("work", **SETTINGS)(Script(ValueError("wrong")))()
    with Recovery(store=store) as service:
        gave_up, opened = events_of(service, GaveUp), events_of(service, CircuitOpened)
        service.recoverable("work", **SETTINGS)(Script())
        assert service.resume().wait(10.0)
    assert ([event.category for event in gave_up], opened) == ([Category.PERMANENT] * 5, [])  # type: ignore[attr-defined]


def test_a_call_that_had_no_retry_left_when_its_process_died_is_given_up() -> None:
    store = MemoryStore()
    with Recovery(store=store, run="dead") as service:

        def die(_: Any) -> None:
            service.journal.seal()  # type: ignore[union-attr]
            raise Killed

        service.bus.subscribe(RetryScheduled, die)
        with pytest.raises(Killed):
            service.recoverable("work", **SETTINGS, max_retries=3)(Script(*[ConnectionError()] * 3))()
    script = Script()
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS, max_retries=0)(script)  # the policy has changed meanwhile
        assert service.resume().wait(10.0)
    assert script.calls == 0


# Poison: a call that kills its process


def die_again(store: MemoryStore, body: Callable[[], object] = lambda: None, **settings: Any) -> Resumption:
    """Resume what is left in *store* in a process that is killed in the attempt."""
    with Recovery(store=store) as service:

        def work(*_: Any) -> None:
            body()
            service.journal.seal()  # type: ignore[union-attr]
            raise Killed

        service.recoverable("work", **{**SETTINGS, **settings})(work)
        resumption = service.resume()
        assert resumption.wait(10.0)
    return resumption


def test_a_call_that_was_resumed_three_times_in_vain_is_quarantined(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    leave(store, lambda: None, "poison")
    assert [len(die_again(store).calls) for _ in range(3)] == [1, 1, 1]
    seen: list[Any] = []
    for _ in range(2):  # and stays so
        with Recovery(store=store) as service:
            heard = events_of(service, OperationQuarantined)
            service.recoverable("work", **SETTINGS)(seen.append)
            resumption = service.resume()
            assert resumption.wait(10.0)
        assert resumption.calls == []
        assert [record.operation for record in resumption.quarantined] == ["work"]
    assert (seen, names(heard)) == ([], [])
    assert caplog.text.count("is quarantined: 4 processes died in it") == 1
    assert [row.kind for row in store.rows].count("OperationQuarantined") == 1


def test_one_poison_call_does_not_stop_the_others() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "poison")
    for _ in range(3):
        die_again(store)
    leave(store, lambda: None, "good")
    seen: list[Any] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert (seen, len(resumption.quarantined)) == (["good"], 1)


def test_a_call_that_comes_further_each_time_is_not_poison() -> None:
    store, frames = MemoryStore(), iter(range(100))
    leave(store, lambda: None)
    for _ in range(6):
        assert len(die_again(store, lambda: context.checkpoint(next(frames))).calls) == 1


def test_a_service_that_ends_in_good_order_has_not_died_in_a_call() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
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
async def test_a_service_that_is_left_with_an_error_has_not_died_in_a_call() -> None:
    store = MemoryStore()
    await anyio.to_thread.run_sync(leave, store, lambda: None)
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


def test_the_same_checkpoint_again_is_no_progress() -> None:
    store = MemoryStore()
    leave(store, lambda: context.checkpoint(7))
    for _ in range(3):
        die_again(store, lambda: context.checkpoint(7))
    assert len(die_again(store).quarantined) == 1


def test_a_call_whose_process_died_while_it_waited_is_not_poison() -> None:
    store = MemoryStore()
    for _ in range(6):
        with Recovery(store=store) as service:

            def die(_: Any) -> None:
                service.journal.seal()  # type: ignore[union-attr]
                raise Killed

            service.bus.subscribe(OperationResumed, die)
            service.bus.subscribe(RetryScheduled, die)
            call = service.recoverable("work", **SETTINGS)(Script(ConnectionError()))
            if not store.rows:
                with pytest.raises(Killed):
                    call()
            resumption = service.resume()
            resumption.wait(10.0)
    assert (len(resumption.calls), resumption.quarantined) == (1, [])


def test_a_quarantined_call_is_resumed_by_hand_and_may_die_three_times_more() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "poison")
    for _ in range(3):
        die_again(store)
    with Recovery(store=store) as service:

        def dies(_: Any) -> None:
            service.journal.seal()  # type: ignore[union-attr]
            raise Killed

        service.recoverable("work", **SETTINGS)(dies)
        resumption = service.resume()
        assert resumption.wait(10.0)
        with pytest.raises(LookupError, match="'nobody' is quarantined"):
            resumption.retry("nobody")
        assert resumption.retry(resumption.quarantined[0].call).wait(10.0)
    assert [len(die_again(store).calls) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.anyio
async def test_a_quarantined_coroutine_is_resumed_in_its_loop() -> None:
    store = MemoryStore()
    leave(store, lambda: None, "poison")
    for _ in range(3):
        await anyio.to_thread.run_sync(die_again, store)
    seen: list[Any] = []

    async def work(argument: str) -> None:
        seen.append(argument)

    async with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = await service.resume()
        call = resumption.quarantined[0].call
        await (await anyio.to_thread.run_sync(resumption.retry, call))
    assert seen == ["poison"]


def test_a_quarantined_coroutine_stays_quarantined_where_no_loop_runs(caplog: pytest.LogCaptureFixture) -> None:
    store, seen = MemoryStore(), []
    leave(store, lambda: None, "poison")
    for _ in range(3):
        die_again(store)

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


# Not all at once


@pytest.mark.anyio
async def test_what_is_overdue_starts_spread_out_and_the_first_at_once() -> None:
    store = MemoryStore()
    for _ in range(3):
        leave(store, lambda: None)

    async with Recovery(store=store, rng=lambda: 0.5) as service:
        heard = events_of(service, OperationResumed)
        service.recoverable("work", **SETTINGS)(nothing)
        await service.resume()
    assert sorted(event.after for event in heard if isinstance(event, OperationResumed)) == [0.0, 0.02, 0.02]


@pytest.mark.anyio
async def test_of_very_many_the_first_does_not_wait_until_all_have_begun() -> None:
    store, begun = MemoryStore(), []
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.journal.follow("work")
        for number in range(2000):
            arguments = msgspec.Raw(b"[[],{}]")
            service.bus.publish(OperationStarted(at=0.0, operation="work", call=f"c-{number}", arguments=arguments))
    with pytest.raises(KeyError, match="enough"):
        async with Recovery(store=store) as service:
            heard = events_of(service, OperationResumed)

            async def work() -> None:
                begun.append(len(heard))

            service.recoverable("work", **SETTINGS)(work)
            service.resume()
            while not begun:
                await anyio.sleep(0.001)
            raise KeyError("enough")  # the rest would take seconds
    assert begun[0] < 1000


def test_a_call_that_is_resumed_starts_when_that_is_committed() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    seen: list[list[str]] = []
    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(lambda: seen.append([row.kind for row in store.rows]))
        assert service.resume().wait(10.0)
    assert seen[0][-2:] == ["OperationResumed", "OperationStarted"]


def test_the_later_attempts_of_a_call_that_is_resumed_are_committed_first_too() -> None:
    store = MemoryStore()
    leave(store, lambda: None)
    seen: list[tuple[str, int]] = []

    def work() -> None:
        seen.append((store.rows[-1].kind, context.attempt()))
        if context.attempt() < 3:
            raise ConnectionError

    with Recovery(store=store) as service:
        service.recoverable("work", **SETTINGS)(work)
        assert service.resume().wait(10.0)
    assert seen == [("OperationStarted", 1), ("OperationStarted", 2), ("OperationStarted", 3)]


# A journal that cannot be read at first


class LockedAtFirst(MemoryStore):
    """Cannot be opened, or adopts half of what there is and fails, the first *times*."""

    def __init__(self, broken: str, store: MemoryStore, times: int = 1) -> None:
        super().__init__()
        self.rows, self.runs = (store.rows, store.runs) if broken == "open" else (MemoryStore().rows, {})
        self.broken, self.times, self.store = broken, times, store

    async def open(self, run: Run) -> Sequence[str]:
        if self.broken == "open":
            self._fail()
        return await super().open(run)

    async def adopt(self) -> bool:
        if self.broken == "adopt" and not self.rows:
            self.rows.extend(self.store.rows)
            self._fail()
        return False

    def _fail(self) -> None:
        if self.times:
            self.times -= 1
            raise OSError("database is locked")


@pytest.mark.parametrize("broken", ["open", "adopt"])
def test_what_cannot_be_read_at_once_is_resumed_when_it_can(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recovery.journal.writer.FIRST_PAUSE", 0.005)
    store = MemoryStore()
    leave(store, lambda: None, "a")
    seen: list[Any] = []
    with Recovery(store=LockedAtFirst(broken, store)) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        assert service.resume().wait(10.0)
    assert seen == ["a"]


@pytest.mark.anyio
async def test_whoever_leaves_does_not_wait_for_a_journal_that_cannot_be_read() -> None:
    with anyio.fail_after(3.0):
        async with Recovery(store=LockedAtFirst("open", MemoryStore(), times=1000)) as service:
            resumption = service.resume()
    assert (resumption.loaded.is_open, resumption.calls) == (True, [])


def test_a_service_that_is_closed_has_found_what_it_could() -> None:
    with Recovery(store=LockedAtFirst("open", MemoryStore(), times=1000)) as service:
        resumption = service.resume()
        assert not resumption.loaded.wait(0.01)
    assert resumption.wait(3.0)


def test_a_call_that_must_not_be_resumed_unwritten_stays_pending() -> None:
    class Failing(MemoryStore):
        fails = False

        async def append(self, rows: Sequence[Row]) -> None:
            if self.fails:
                raise OSError("no space left")
            await super().append(rows)

    settings = {**SETTINGS, "durability": "strict", "on_degraded": "refuse"}
    store = Failing()
    leave(store, lambda: None, "a", **settings)
    seen: list[str] = []
    for fails in (True,) * 5 + (False,):
        with Recovery(store=store) as service:
            service.recoverable("work", **settings)(seen.append)
            assert service.journal is not None
            service.journal.pending(10.0)
            store.fails = fails
            resumption = service.resume()
            assert resumption.wait(10.0)
            assert [type(call.error) for call in resumption.calls] == [RecoveryError if fails else type(None)]
            store.fails = False
    assert seen == ["a"]
