"""A program that resumes calls and asks for the same calls again: each runs once in one life."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.errors import CallRejectedError, RecoveryError
from events.operation_events import CallLeftPending, FailureClassified, OperationCancelled, OperationResumed
from recovery import context
from recovery.joining.owed import MAX_OWED
from recovery.joining.register import CallRegister
from recovery.joining.shared_call import Join, Outcome, SharedCall
from recovery.journal.history import Run
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import VirtualClock
from recovery.waiting.waiters import ThreadWaiter
from tests.recorded_events import events_of
from tests.recovery.joining.callers import Body, in_thread, joined
from tests.recovery.resume.dead_process import SETTINGS, Killed, die_again, kill, leave


def define(service: Recovery, body: Any, **settings: Any) -> Any:
    return service.recoverable("work", **{**SETTINGS, **settings})(body)


@pytest.fixture
def store() -> MemoryStore:
    """A journal with a call that a dead process left at a checkpoint."""
    store = MemoryStore()
    leave(store, "a", body=lambda: context.checkpoint(21))
    return store


def test_d16_a_resumed_call_that_still_runs_is_joined(store: MemoryStore) -> None:
    body = Body("done")
    with Recovery(store=store) as service:
        work = define(service, body)
        resumption = service.resume()
        body.begun.acquire()
        again = in_thread(work, "a")
        joined(service, 1)
        body.go_on.set()
        assert again.result(10.0) == "done"
        assert resumption.wait(10.0)
    assert (body.runs, resumption.calls[0].result) == ([("a",)], "done")


CONFLICT: dict[str, Any] = {"idempotency_key": lambda path, *_: path, "on_conflict": "reject"}


def left_wish() -> MemoryStore:
    """A journal with a call for "a" that a dead process left, whose second argument is 1."""
    store = MemoryStore()
    leave(store, "a", 1, **CONFLICT)
    return store


def test_a_wish_that_a_dead_process_left_gives_way_to_another_one_for_the_same_thing() -> None:
    runs: list[tuple[Any, ...]] = []
    with Recovery(store=left_wish()) as service:
        cancelled = events_of(service, OperationCancelled)
        work = define(service, lambda *wish: runs.append(wish), **CONFLICT)
        work("a", 2)
        assert service.resume().wait(10.0)
    assert (runs, len(cancelled)) == ([("a", 2)], 1)


@pytest.mark.anyio
async def test_a_wish_of_a_dead_process_that_is_resumed_already_gives_way() -> None:
    runs: list[tuple[Any, ...]] = []

    async def body(*wish: Any) -> int:
        runs.append(wish)
        if wish[1] == 1:
            await anyio.sleep_forever()
        return len(runs)

    async with Recovery(store=left_wish()) as service:
        cancelled = events_of(service, OperationCancelled)
        work = define(service, body, **CONFLICT)
        service.resume()
        while not runs:
            await anyio.sleep(0.001)
        assert await work("a", 2) == 2
    assert (runs, len(cancelled)) == ([("a", 1), ("a", 2)], 1)


def test_the_result_of_another_wish_is_not_owed() -> None:
    runs: list[tuple[Any, ...]] = []
    with Recovery(store=left_wish()) as service:
        work = define(service, lambda *wish: runs.append(wish), **CONFLICT)
        assert service.resume().wait(10.0)
        work("a", 2)
    assert runs == [("a", 1), ("a", 2)]


def test_d16_what_a_resumption_finished_is_owed_once(store: MemoryStore) -> None:
    results = iter(["resumed", "new"])
    with Recovery(store=store) as service:
        work = define(service, lambda _: next(results))
        assert service.resume().wait(10.0)
        assert [work("a"), work("a")] == ["resumed", "new"]


def test_d16_the_error_of_a_resumed_call_is_owed_as_well(store: MemoryStore) -> None:
    outcomes: list[Any] = [ValueError("wrong"), "new"]

    def body(_: str) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with Recovery(store=store) as service:
        work = define(service, body)
        assert service.resume().wait(10.0)
        with pytest.raises(ValueError, match="wrong"):
            work("a")
        assert work("a") == "new"


def test_d16_a_debt_is_paid_by_those_who_joined(store: MemoryStore) -> None:
    body = Body("resumed", "new")
    with Recovery(store=store) as service:
        work = define(service, body)
        service.resume()
        body.begun.acquire()
        again = in_thread(work, "a")
        joined(service, 1)
        body.go_on.set()
        assert (again.result(10.0), work("a")) == ("resumed", "new")


def test_the_register_owes_at_most_ten_thousand_results() -> None:
    register = CallRegister()
    for number in range(MAX_OWED + 1):
        shared = SharedCall(("work", "", str(number)), "work")
        register.add_pending(shared)
        assert register.resume(shared) == "run"
        register.end(shared, Outcome(number))

    def entered(number: int) -> object:
        return register.enter(("work", "", str(number)), lambda: SharedCall(None, "new"), ())

    assert isinstance(entered(0), SharedCall)  # the oldest is dropped
    newest = entered(MAX_OWED)
    assert isinstance(newest, Outcome)
    assert newest.result == MAX_OWED
    register.close()
    assert isinstance(entered(MAX_OWED - 1), SharedCall)


def test_a_join_says_so_once_after_ten_seconds() -> None:
    join = Join(CallRegister(), SharedCall(("work", "", "a"), "work"))
    assert [join.next_sleep(ThreadWaiter()), join.slept()] == [10.0, True]
    assert [join.next_sleep(ThreadWaiter()), join.slept()] == [math.inf, False]


def test_nothing_is_owed_to_the_caller_that_goes_on_with_what_the_resumption_began(store: MemoryStore) -> None:
    body, runs = Body(KeyboardInterrupt()), []

    def once_cut_off(name: str) -> int:
        runs.append(name)
        if len(runs) == 1:
            body(name)
        return len(runs)

    with Recovery(store=store) as service:
        work = define(service, once_cut_off)
        service.resume()
        body.begun.acquire()
        again = in_thread(work, "a")
        joined(service, 1)
        body.go_on.set()
        assert (again.result(10.0), work("a")) == (2, 3)


# A caller that comes first


def test_d16_a_caller_goes_on_with_a_pending_call_in_its_own_thread(store: MemoryStore) -> None:
    seen: list[Any] = []

    def body(name: str) -> str:
        seen.append((name, context.saved(), context.attempt(), threading.get_ident(), context.key()))
        return "done"

    [key] = {row.call for row in store.rows}
    with Recovery(store=store) as service:
        events = events_of(service, OperationResumed)
        work = define(service, body)
        assert work("a") == "done"
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert seen == [("a", 21, 1, threading.get_ident(), key)]
    assert (len(events), [call.result for call in resumption.calls]) == (1, ["done"])


def test_a_call_keeps_its_retries_and_the_rest_of_its_delay() -> None:
    store, clock = MemoryStore(), VirtualClock(start=time.monotonic())
    settings = {"initial_delay": 60.0, "jitter": "none", "max_retries": 2}
    seen: list[int] = []

    def die_in_the_second(service: Recovery) -> Any:
        def body() -> None:
            seen.append(context.attempt())
            if context.attempt() == 2:
                assert service.journal is not None
                service.journal.seal()
                raise KeyboardInterrupt
            raise ConnectionError("reset")

        return body

    with Recovery(store=store, clock=clock) as service, pytest.raises(KeyboardInterrupt):
        define(service, die_in_the_second(service), **settings)()
    later = VirtualClock(start=clock())
    with Recovery(store=store, clock=later) as service:

        def fail() -> None:
            seen.append(context.attempt())
            raise ConnectionError("again")

        with pytest.raises(ConnectionError, match="again"):
            define(service, fail, **settings)()
    assert seen == [1, 2, 3]  # two retries in all, one of them for the death


def test_d16_the_resumption_leaves_a_call_that_a_caller_has_taken(store: MemoryStore) -> None:
    body = Body("done")
    with Recovery(store=store) as service:
        work = define(service, body)
        first = in_thread(work, "a")
        body.begun.acquire()
        resumption = service.resume()
        assert resumption.loaded.wait(10.0)
        body.go_on.set()
        assert first.result(10.0) == "done"
        assert resumption.wait(10.0)
    assert body.runs == [("a",)]


def test_a_needed_call_that_is_queued_is_run_by_its_caller() -> None:
    store, asked = MemoryStore(), []
    for number in range(5):  # one more than there are threads to resume them
        leave(store, number)

    with Recovery(store=store) as service:

        def body(number: int) -> int:
            asked.append(number)
            if number < 4:
                return work(4) + 1
            joined(service, 3)
            return 0

        work = define(service, body)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert sorted(call.result for call in resumption.calls) == [0, 1, 1, 1, 1]


def test_a_keyed_call_without_stored_arguments_goes_on_with_those_of_its_caller() -> None:
    store, seen = MemoryStore(), []
    settings = {"resumable": False, "idempotency_key": lambda order, *_: str(order)}
    leave(store, "o-1", body=lambda: context.checkpoint(21), **settings)
    with Recovery(store=store) as service:
        work = define(service, lambda *args: seen.append((args, context.saved())), **settings)
        assert service.resume().wait(10.0)
        work("o-1", object)
    assert seen == [(("o-1", object), 21)]


@pytest.mark.parametrize("resumes_first", [True, False])
def test_a_pending_call_that_had_failed_for_good_is_neither_joined_nor_owed(resumes_first: bool) -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        assert service.journal is not None
        seal = service.journal.seal
        service.bus.subscribe(FailureClassified, lambda _: seal())  # the process dies before it has decided
        with pytest.raises(ValueError, match="wrong"):
            define(service, _raise)()
    with Recovery(store=store) as service:
        work = define(service, lambda: "new")
        if resumes_first:
            assert service.resume().wait(10.0)
        assert work() == "new"


@pytest.mark.parametrize("resumes", [False, True])
def test_a_pending_call_that_may_have_had_its_effect_is_refused_once(resumes: bool) -> None:
    store, body = MemoryStore(), Body()
    body.go_on.set()
    leave(store, idempotent=False)
    with Recovery(store=store) as service:
        work = define(service, body, idempotent=False)
        if resumes:
            assert service.resume().wait(10.0)
        with pytest.raises(RecoveryError, match="not idempotent, and may have had its effect"):
            work()
        assert body.runs == []
        assert work() == 1


def _raise() -> None:
    raise ValueError("wrong")


# Calls that stay pending


def test_another_version_is_not_joined_and_said_to_stay(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=store) as service:
        left = events_of(service, CallLeftPending)
        assert define(service, lambda _: "new", version="2")("a") == "new"
    assert len(left) == 1
    assert "1 call stays pending" in caplog.text
    assert "journalled under version '', defined as version '2'" in caplog.text
    with Recovery(store=store) as service:
        assert define(service, lambda _: context.saved())("a") == 21


def test_a_changed_signature_is_said_and_the_call_stays(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=store) as service:
        left = events_of(service, CallLeftPending)
        work = define(service, lambda one, two: "new")
        resumption = service.resume()
        assert resumption.wait(10.0)
        assert work("a", "b") == "new"
    assert ([record.operation for record in resumption.left], len(left)) == (["work"], 1)
    assert "the stored arguments do not fit" in caplog.text


def test_a_later_definition_picks_up_what_was_left(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=store) as service:
        resumption = service.resume()
        assert resumption.wait(10.0)
        assert "no operation of that name is defined" in caplog.text
        assert [record.operation for record in resumption.left] == ["work"]
        define(service, lambda _: "done")
        assert resumption.wait(10.0)
        assert ([call.result for call in resumption.calls], resumption.left) == (["done"], [])


@pytest.mark.parametrize("is_of_the_service", [True, False])
def test_what_stays_and_what_is_not_journalled_is_an_event_only_where_nothing_is_logged(
    store: MemoryStore, caplog: pytest.LogCaptureFixture, *, is_of_the_service: bool
) -> None:
    silent = {"enable_logging": False}
    with Recovery(store=store, **(silent if is_of_the_service else {})) as service:
        left = events_of(service, CallLeftPending)
        work = define(service, lambda one, two: "new", **({} if is_of_the_service else silent))
        assert service.resume().wait(10.0)
        assert work("a", object()) == "new"
    assert (len(left), caplog.messages) == (1, [])


@pytest.mark.anyio
async def test_a_later_async_definition_picks_up_what_was_left(store: MemoryStore) -> None:
    async def body(_: str) -> str:
        return "done"

    async with Recovery(store=store) as service:
        resumption = await service.resume()
        define(service, body)
        with anyio.fail_after(5.0):
            await service.resume()
        assert [call.result for call in resumption.calls] == ["done"]


def test_a_quarantined_call_is_not_run_by_calling_it_again(store: MemoryStore) -> None:
    for _ in range(4):  # in the first attempt it came further
        die_again(store)
    body = Body()
    [call] = {row.call for row in store.rows}
    reason = f"call {call} is quarantined.*recovery retry JOURNAL {call}"
    with Recovery(store=store) as service, pytest.raises(CallRejectedError, match=reason):
        define(service, body)("a")
    assert body.runs == []


def test_a_quarantined_call_without_stored_arguments_is_freed_for_its_next_caller() -> None:
    store, settings = MemoryStore(), {"resumable": False, "idempotency_key": str}
    leave(store, "o-1", **settings)
    for _ in range(3):
        with Recovery(store=store) as service, pytest.raises(Killed):
            define(service, lambda _, one=service: kill(one), **settings)("o-1")
    with Recovery(store=store) as service:
        work = define(service, lambda _: context.attempt(), **settings)
        resumption = service.resume()
        assert resumption.wait(10.0)
        [record] = resumption.quarantined
        with pytest.raises(CallRejectedError, match="is quarantined"):
            work("o-1")
        handle = resumption.retry(record.call)
        assert resumption.wait(10.0)
        assert (work("o-1"), handle.wait(10.0), handle.result) == (5, True, 5)


def test_of_two_equal_calls_that_were_left_one_runs_at_a_time() -> None:
    store, body = MemoryStore(), Body()
    for _ in range(2):
        leave(store, "a", join=False)
    with Recovery(store=store) as service:
        define(service, body)
        resumption = service.resume()
        body.begun.acquire()
        body.go_on.set()
        assert resumption.wait(10.0)
    assert (len(body.runs), body.side_by_side) == (2, 1)


# What the journal has not said


class Unreadable(MemoryStore):
    async def open(self, run: Run) -> Sequence[str]:
        raise OSError("no such disk")


def test_a_call_runs_at_once_and_warns_while_the_journal_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=Unreadable()) as service:
        work = define(service, lambda _: "done")
        began = time.monotonic()
        assert [work("a"), work("b")] == ["done", "done"]
        assert time.monotonic() - began < 2.0
    assert caplog.text.count("a call that a dead process left may run beside an equal one") == 1
    assert "no such disk" in caplog.text


def test_a_call_that_refuses_to_run_unwritten_is_rejected_while_the_journal_cannot_be_read() -> None:
    with Recovery(store=Unreadable()) as service:
        work = define(service, lambda _: "done", durability="strict", on_degraded="refuse")
        with pytest.raises(CallRejectedError, match="has not said yet which calls are pending"):
            work("a")


class Late(MemoryStore):
    def __init__(self, other: MemoryStore, is_ready: threading.Event) -> None:
        super().__init__()
        self.rows, self.runs, self.is_ready = other.rows, other.runs, is_ready

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        assert self.is_ready.wait(10.0)
        return await super().unfinished()


def test_d16_the_first_call_waits_until_the_journal_has_said_what_is_pending(store: MemoryStore) -> None:
    is_ready = threading.Event()
    with Recovery(store=Late(store, is_ready)) as service:
        work = define(service, lambda _: context.saved())
        first = in_thread(work, "a")
        assert not is_ready.wait(0.05)
        assert not first.done()
        is_ready.set()
        assert first.result(10.0) == 21


class InFile(MemoryStore):
    """A store whose file commands can name."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)


@pytest.mark.parametrize(("file", "place"), [("calls.db", "calls.db"), ("my calls.db", "'my calls.db'")])
def test_messages_about_a_quarantined_call_name_the_journal(
    caplog: pytest.LogCaptureFixture, file: str, place: str
) -> None:
    leave(store := InFile(file), "a")
    for _ in range(4):
        die_again(store)
    [call] = {row.call for row in store.rows}
    with Recovery(store=store) as service, pytest.raises(CallRejectedError) as caught:
        define(service, Body())("a")
    assert f"`recovery retry {place} {call}` frees it" in str(caught.value)
    assert f"`recovery retry {place} {call}` resumes it with all its retries" in caplog.text


def test_the_warning_of_a_call_without_its_operation_names_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    leave(store := InFile("{calls}.db"), "a")
    with Recovery(store=store) as service:
        service.resume().wait(5.0)
    assert "or end them with `recovery give-up '{calls}.db' CALL`" in caplog.text
