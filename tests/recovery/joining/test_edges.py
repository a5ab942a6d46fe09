"""Start or join where two things happen at once: a caller and the resumption, an end and a cancellation, a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.errors import StaysPendingError
from events.operation_events import FailureClassified, OperationSucceeded
from recovery import context
from recovery.journal.history import Run
from recovery.journal.store import Row, Store
from recovery.service import Recovery
from tests.recovery.joining.callers import Body, in_thread, joined
from tests.recovery.resume.dead_process import SETTINGS, Killed, die_again, kill, leave


class Interrupt(BaseException):
    """Ends the caller that runs the body, as Ctrl-C does."""


@pytest.fixture
def store() -> MemoryStore:
    """A journal with a call that a dead process left at a checkpoint."""
    store = MemoryStore()
    leave(store, "a", body=lambda: context.checkpoint(21))
    return store


while_read: list[Callable[[], object]] = []
"""Run once, when an ``Item`` with number 1 is made."""


@dataclass
class Item:
    number: int

    def __post_init__(self) -> None:
        if while_read and self.number == 1:
            while_read.pop()()


def test_d16_a_caller_waits_while_the_resumption_reads_the_pending_calls() -> None:
    store, asked = MemoryStore(), list[Future[Any]]()

    def define(service: Recovery, body: Callable[[], object]) -> Any:
        def work(item: Item) -> object:
            return body()

        return service.recoverable("work", **SETTINGS)(work)

    for number in (1, 2):
        with Recovery(store=store) as service, pytest.raises(Killed):
            define(service, lambda: (context.checkpoint(21), kill(service)))(Item(number))

    with Recovery(store=store) as service:
        work = define(service, context.saved)

        def ask() -> None:
            asked.append(in_thread(work, Item(2)))
            threading.Event().wait(0.05)  # a caller that does not wait is over by now

        while_read.append(ask)
        assert service.resume().wait(10.0)
        assert [one.result(10.0) for one in asked] == [21]


def test_a_resumption_ends_although_a_caller_was_cancelled_in_the_call_before_it(store: MemoryStore) -> None:
    def body(_: str) -> None:
        raise Interrupt

    with Recovery(store=store) as service:
        work = service.recoverable("work", **SETTINGS)(body)
        with pytest.raises(Interrupt):
            work("a")
        resumption = service.resume()
        assert resumption.wait(5.0)
    assert "was cancelled by its caller" in str(resumption.calls[0].error)


def test_of_two_equal_calls_that_are_quarantined_each_can_be_resumed_by_hand() -> None:
    store = MemoryStore()
    for _ in range(2):
        leave(store, "a", join=False)
    for _ in range(6):  # equal calls run one after another: a process dies in one of them
        die_again(store)
    with Recovery(store=store) as service:
        body = Body("first", "second")
        work = service.recoverable("work", **SETTINGS)(body)
        resumption = service.resume()
        assert resumption.wait(10.0)
        ids = [one.call for one in resumption.quarantined]
        first = resumption.retry(ids[0])
        assert body.begun.acquire(timeout=5.0)
        second = resumption.retry(ids[1])
        assert second.wait(5.0)
        assert isinstance(second.error, StaysPendingError)
        body.go_on.set()
        assert first.wait(5.0)
        assert [work("a"), work("a")] == ["first", "second"]  # what is owed, then the call that stays pending
        assert (len(ids), len(body.runs)) == (2, 2)


def leave_failed(store: Store, **settings: Any) -> None:
    """Leave the call ("a", "old") as a process does that dies between its last failure and its end."""

    def body(_key: str, _note: str) -> None:
        raise ValueError("wrong")

    with Recovery(store=store) as service:
        assert service.journal is not None
        seal = service.journal.seal
        service.bus.subscribe(FailureClassified, lambda _: seal())
        with pytest.raises(ValueError, match="wrong"):
            service.recoverable("work", **SETTINGS, **settings)(body)("a", "old")


def test_a_new_call_gets_its_own_arguments_not_those_of_one_that_had_failed_for_good() -> None:
    store, settings = MemoryStore(), {"idempotency_key": lambda key, _note: key}
    leave_failed(store, **settings)
    with Recovery(store=store) as service:
        work = service.recoverable("work", **SETTINGS, **settings)(lambda _key, note: note)
        assert work("a", "new") == "new"


def test_a_new_call_is_handed_over_although_an_equal_one_had_failed_for_good(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    leave_failed(SQLiteStore(path))
    body = Body(Interrupt(), "done")
    with Recovery(store=SQLiteStore(path)) as service:
        work = service.recoverable("work", **SETTINGS)(body)
        first = in_thread(work, "a", "old")
        assert body.begun.acquire(timeout=5.0)
        second = in_thread(work, "a", "old")
        joined(service, 1)
        body.go_on.set()
        assert isinstance(first.exception(5.0), Interrupt)
        assert second.result(5.0) == "done"


def test_a_call_that_had_failed_for_good_before_is_not_owed_to_the_program() -> None:
    store = MemoryStore()
    leave_failed(store)
    with Recovery(store=store) as service:
        work = service.recoverable("work", **SETTINGS)(lambda *_: "new")
        resumption = service.resume()
        assert resumption.wait(10.0)
        assert "is not resumed: permanent (ValueError)" in str(resumption.calls[0].error)
        assert work("a", "old") == "new"


def test_a_caller_that_goes_on_with_a_resumed_call_leaves_nothing_owed(store: MemoryStore) -> None:
    body = Body(Interrupt(), "resumed", "new")
    with Recovery(store=store) as service:
        work = service.recoverable("work", **SETTINGS)(body)
        service.resume()
        assert body.begun.acquire(timeout=5.0)
        again = in_thread(work, "a")
        joined(service, 1)
        body.go_on.set()
        assert (again.result(5.0), work("a")) == ("resumed", "new")


@pytest.mark.anyio
async def test_a_result_is_owed_although_the_caller_that_joined_was_cancelled(store: MemoryStore) -> None:
    runs, ends = list[int](), list[anyio.CancelScope]()
    go_on = anyio.Event()

    async def work(_: str) -> int:
        runs.append(1)
        await go_on.wait()
        return len(runs)

    async with Recovery(store=store) as service, anyio.create_task_group() as group:
        work = service.recoverable("work", **SETTINGS)(work)

        async def join() -> None:
            with anyio.CancelScope() as scope:
                ends.append(scope)
                await work("a")

        service.bus.subscribe(OperationSucceeded, lambda _: ends[0].cancel(), operation="work")
        resumption = service.resume()
        with anyio.fail_after(5.0):
            await resumption.loaded.opened()
            group.start_soon(join)
            while not service.calls.joining():
                await anyio.sleep(0.001)
            go_on.set()
            await resumption
            assert (ends[0].cancelled_caught, await work("a"), await work("a")) == (True, 1, 2)


FORK = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore")  # forking with threads is the point
from adapters.sqlite.store import SQLiteStore
from recovery.service import Recovery

with Recovery(store=SQLiteStore(sys.argv[1])) as service:
    depth = []

    @service.recoverable("work", resumable=True)
    def work(number):
        depth.append(number)
        if len(depth) == 1:
            child = multiprocessing.get_context("fork").Process(target=work, args=(number,))
            child.start()
            child.join(5.0)
            print("ended" if child.exitcode == 0 else "the child waits for its parent")
            child.kill()

    work(7)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_an_equal_call_in_a_child_that_was_forked_in_the_body_is_a_nested_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tmp_path / "calls.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
    assert done.stdout == "ended\n"


class Slow(SQLiteStore):
    """A store that does not say what is pending until it is let go."""

    go_on = threading.Event()

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        assert self.go_on.wait(30.0)
        return await super().unfinished()


@pytest.mark.slow
def test_only_the_first_call_waits_for_a_journal_that_is_slow(tmp_path: Path) -> None:
    with Recovery(store=Slow(tmp_path / "calls.db")) as service:
        define = service.recoverable
        work, other = (define(name, resumable=True)(lambda: "done") for name in ("work", "other"))
        assert work() == "done"  # after 5 s
        began = time.monotonic()
        assert [work(), other()] == ["done", "done"]
        assert time.monotonic() - began < 2.0
        Slow.go_on.set()


@pytest.mark.anyio
async def test_a_resumption_runs_a_call_whose_first_caller_was_cancelled_before_it_began(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def die(_: str) -> None:
        context.checkpoint(21)
        kill(service)

    async def go_on(_: str) -> Any:
        return context.saved()

    async with Recovery(store=SQLiteStore(path)) as service:
        with pytest.raises(Killed):
            await service.recoverable("work", **SETTINGS)(die)("a")
    async with Recovery(store=SQLiteStore(path)) as service:
        work = service.recoverable("work", **SETTINGS)(go_on)
        assert await work("b") is None
        with anyio.move_on_after(0.0) as scope:  # while it asks what other processes made of the call
            await work("a")
        assert scope.cancelled_caught
        with anyio.fail_after(5.0):
            resumption = await service.resume()
        assert [call.result for call in resumption.calls] == [21]
