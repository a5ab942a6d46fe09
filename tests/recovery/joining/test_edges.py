"""Start or join where two things happen at once: a caller and the resumption, an end and a cancellation, a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory import MemoryStore
from recovery import context
from recovery.service import Recovery
from tests.recovery.joining.callers import in_thread
from tests.recovery.resume.dead_process import SETTINGS, Killed, kill, leave


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


def test_a_caller_waits_while_the_resumption_reads_the_pending_calls() -> None:
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
