"""A call in journal mode that succeeds: how few functions it takes, and what is unusual in the midst of it."""

from __future__ import annotations

import contextvars
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import anyio
import cloudpickle
import msgspec
import pytest

import recovery.execution
from adapters.memory import MemoryStore
from events.errors import AwaitableResultError
from events.operation_events import GaveUp
from recovery import Recovery, context
from recovery.journal.config import JournalConfig
from tests.recovery.journal.stores import Gated, kinds

FOLDER = str(recovery.execution.__path__[0])
KINDS = ["plain", "asyncio", "trio"]


@contextmanager
def journalled(store: MemoryStore, clock: Callable[[], float] = time.monotonic) -> Iterator[Recovery]:
    """A service whose journal takes records."""
    with Recovery(store=store, enable_logging=False, clock=clock) as service:
        service.recoverable("warm-up", durability="journal")(lambda: None)()
        settle(service)
        yield service


def fetch() -> None:
    """A function that may be defined again, as it has a home."""


def settle(service: Recovery) -> None:
    assert service.journal is not None
    service.journal.receipt().wait(30.0)


def caller(service: Recovery, kind: str, body: Callable[[], object]) -> Callable[[], object]:
    """*body*, recoverable in journal mode, called in a loop of that *kind*; the first call is behind it."""

    async def coroutine() -> object:
        return body()

    function: Any = service.recoverable("fetch", durability="journal", max_retries=0)(
        body if kind == "plain" else coroutine
    )
    call = function if kind == "plain" else lambda: anyio.run(function, backend=kind)
    call()
    settle(service)
    return call  # type: ignore[no-any-return]  # the type of the function is lost in the choice


def rows_of(store: MemoryStore, operation: str = "fetch") -> list[tuple[str, str]]:
    """The events of *operation* in the journal: the id of the call, and the kind."""
    rows = [msgspec.json.decode(row.body) for row in store.rows]
    return [(row["call"], row["event"]) for row in rows if row["operation"] == operation]


@pytest.mark.parametrize("kind", KINDS)
def test_a_success_in_journal_mode_takes_one_function_of_the_runner(kind: str) -> None:
    names: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(FOLDER):
            names.append(frame.f_code.co_name)

    with journalled(MemoryStore()) as service:
        call, previous = caller(service, kind, lambda: None), sys.getprofile()
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(previous)
    assert names == ["recoverable_call"]


def interrupted_at(number: int, *, fails: bool) -> tuple[bool, list[str]]:
    """Whether there is such a moment, and the events of a call that is interrupted at it."""
    moments, store = 0, MemoryStore()

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal moments
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(FOLDER):
            moments += 1
            if moments == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    failures = iter([False, fails])

    def body() -> None:
        if next(failures):
            raise ConnectionError

    with journalled(store) as service:
        call, previous = caller(service, "plain", body), sys.getprofile()
        sys.setprofile(profile)
        try:
            contextvars.copy_context().run(call)  # the interruption may come where the context is put back
        except (KeyboardInterrupt, ConnectionError):
            pass
        finally:
            sys.setprofile(previous)
        successes = service.operation("fetch").successes
    rows = rows_of(store)
    events = [event for call_id, event in rows if call_id != rows[0][0] and event != "FailureClassified"]
    assert successes == 1 + events.count("OperationSucceeded")
    return moments >= number, events


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_is_interrupted_at_any_moment_has_one_end_in_the_journal(fails: bool) -> None:
    number, is_reached = 0, True
    while is_reached:
        number += 1
        is_reached, events = contextvars.copy_context().run(interrupted_at, number, fails=fails)
        assert len(events) in (0, 2), f"interrupted at moment {number}: {events}"
        assert events[:1] in ([], ["OperationStarted"])
    assert number > 8


class Interrupting:
    """A clock whose next reading by the program is interrupted once it *is_armed*."""

    is_armed = False

    def __call__(self) -> float:
        if self.is_armed and threading.current_thread() is threading.main_thread():
            self.is_armed = False
            raise KeyboardInterrupt
        return 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_interrupted_as_it_says_that_it_succeeded_has_succeeded(kind: str) -> None:
    clock, store = Interrupting(), MemoryStore()
    arms = iter([False, True])

    def body() -> None:
        clock.is_armed = next(arms)

    with journalled(store, clock=clock) as service:
        call = caller(service, kind, body)
        with pytest.raises(KeyboardInterrupt):
            call()
    assert [event for _, event in rows_of(store)] == ["OperationStarted", "OperationSucceeded"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_success_waits_for_admission_where_the_queue_filled_in_the_body(kind: str) -> None:
    store = Gated()
    store.gate.set()
    steps = iter([False, True])

    def body() -> None:
        if next(steps):
            store.gate.clear()
            for number in range(200):
                service.bus.publish(GaveUp(at=0.0, operation="other", call=f"other-{number}"))
            waiter.start()

    waiter = threading.Timer(0.02, store.gate.set)
    with Recovery(store=store, journal_config=JournalConfig(capacity=64)) as service:
        service.operation("other")
        caller(service, kind, body)()
    assert kinds(store).count("OperationSucceeded") == 2


def test_a_function_that_is_defined_again_without_a_journal_is_not_written() -> None:
    store = MemoryStore()
    with journalled(store) as service:
        old = service.recoverable("fetch", durability="journal")(fetch)
        old()
        settle(service)
        old()
        service.recoverable("fetch", durability="off")(fetch)
        old()
    assert len(rows_of(store)) == 4


def test_a_plain_function_that_returns_an_awaitable_later_is_refused() -> None:
    async def coroutine() -> None:
        pass

    results = iter([lambda: None, lambda: None, coroutine])
    with journalled(MemoryStore()) as service:
        call = caller(service, "plain", lambda: next(results)())
        call()
        with pytest.raises(AwaitableResultError):
            call()


def test_a_checkpoint_after_the_end_is_not_saved() -> None:
    contexts: list[contextvars.Context] = []
    store = MemoryStore()
    with journalled(store) as service:
        caller(service, "plain", lambda: contexts.append(contextvars.copy_context()))()
        contexts[-1].run(context.checkpoint, 1)
        assert contexts[-1].run(context.attempt) == 1
    assert "CheckpointSaved" not in [event for _, event in rows_of(store)]


def test_a_function_with_a_compiled_start_is_pickled_by_value() -> None:
    with journalled(MemoryStore()) as service:
        function = service.recoverable("fetch", durability="journal")(lambda value: value + 1)
        assert (function(1), function(1)) == (2, 2)
        assert pickle.loads(cloudpickle.dumps(function))(1) == 2
