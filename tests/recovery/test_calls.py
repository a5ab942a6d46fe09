"""``service.calls``: the calls of a service, and the questions that they wait for."""

from __future__ import annotations

import math
import threading
import time

import anyio
import pytest

from adapters.memory import MemoryStore
from events.evidence import Category
from recovery import WaitingCall
from recovery.journal.history import CallRecord
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recovery.waiting.parked import HOUR, background, only, parks, run

pytestmark = pytest.mark.anyio


async def test_waiting_calls_are_listed(anyio_backend_name: str) -> None:
    service = Recovery(policy=HOUR)
    fetch = service.recoverable("fetch", key=str)(Script(ConnectionError()).as_async())
    assert repr(service.calls) == "<Calls: 0 waiting>"
    async with background(lambda: fetch("example.org"), seconds=0.01):
        assert repr(service.calls) == "<Calls: 1 waiting>"
        [waiting] = service.calls.waiting()
        assert waiting == WaitingCall(
            call=f"{service.bus.run}-1",
            operation="fetch",
            key="example.org",
            attempt=2,
            retries=1,
            left=pytest.approx(3600.0, abs=10.0),
            due=pytest.approx(service.bus.clock() + 3600.0, abs=10.0),
            failure=waiting.failure,
        )
        assert waiting.explain().line == (
            f"fetch[example.org] {waiting.call}: the connection failed (transient): ConnectionError; attempt 2 in 1 h"
        )
        service.calls.retry_now(waiting.call)
    assert service.calls.waiting() == []


async def test_a_call_that_waits_as_before_is_described_once(anyio_backend_name: str) -> None:
    service = Recovery(policy=HOUR, when_open="wait")
    fetch = service.recoverable("fetch")(Script(ConnectionError(), ConnectionError()).as_async())
    async with background(fetch, seconds=0.01):
        [first] = service.calls.each_waiting()
        assert next(service.calls.each_waiting({first.call: first})) is first
        assert service.calls.pause(first.call)
        [paused] = service.calls.each_waiting({first.call: first})
        assert paused.is_paused
        assert service.calls.unpause(first.call)
        [second] = service.calls.each_waiting({first.call: paused})
        assert second.due > first.due
        assert next(service.calls.each_waiting({first.call: second})) is second
        service.calls.edit(first.call, max_elapsed=7200.0)
        [third] = service.calls.each_waiting({first.call: second})
        assert third.deadline < math.inf
        service.calls.retry_now(first.call)
        await anyio.sleep(0.01)
        [last] = service.calls.each_waiting({first.call: third})
        assert last.attempt == 3
        service.calls.retry_now(first.call)


@pytest.mark.parametrize("has_store", [True, False])
async def test_a_call_that_is_not_journalled_is_found_while_it_waits(has_store: bool, anyio_backend_name: str) -> None:
    with Recovery(store=MemoryStore() if has_store else None) as service:
        fetch = service.recoverable("fetch", durability="off", policy=HOUR)(Script(ConnectionError()).as_async())
        async with background(fetch, seconds=0.01):
            call = only(service)
            record = await service.calls.afind(call)
            assert record is not None
            assert service.calls.find(call) is not None
            assert (record.operation, record.state, record.attempt, record.retries) == ("fetch", "waiting", 2, 1)
            service.calls.retry_now(call)
        assert await service.calls.afind(call) is None
        assert service.calls.find("unknown") is None


async def test_the_journal_and_the_memory_agree_on_a_waiting_call(anyio_backend_name: str) -> None:
    def seen(record: CallRecord | None) -> tuple[object, ...]:
        assert record is not None
        assert record.due is not None
        return record.operation, record.key, record.state, record.attempt, record.retries, round(record.due)

    found = []
    for store in (MemoryStore(), None):
        with Recovery(store=store, clock=lambda: 7.0) as service:
            async with background(
                service.recoverable("fetch", policy=HOUR)(Script(ConnectionError()).as_async()), seconds=0.01
            ):
                found.append(seen(service.calls.find(only(service))))
                service.calls.retry_now(only(service))
    assert found == [("fetch", "", "waiting", 2, 1, 3607)] * 2


async def test_a_call_that_is_over_is_found_in_the_journal(anyio_backend_name: str) -> None:
    with Recovery(store=MemoryStore()) as service:
        service.recoverable("fetch", initial_delay=0.0)(Script(ConnectionError()))()
        record = await service.calls.afind(f"{service.bus.run}-1")
        assert record is not None
        assert (record.state, record.attempt) == ("succeeded", 2)


def test_an_answer_resumes_the_calls_that_wait_for_it_at_once() -> None:
    service = Recovery()
    licence = Strategy(wait_for=(service.calls.question("licence", "text"),), backoff=Constant(0.0))
    script = Script(PermissionError("gated"))

    @service.recoverable(
        "fetch", classifier=lambda _: Category.AUTH, policy=RetryPolicy(per_category={Category.AUTH: licence})
    )
    def fetch() -> object:
        script()
        return service.calls.answered("licence")

    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(fetch()), daemon=True)
    thread.start()
    while not service.calls.waiting():
        time.sleep(0)
    began = time.perf_counter()
    service.calls.answer("licence", "yes")
    thread.join(10.0)
    assert results == ["yes"]
    assert time.perf_counter() - began < 0.5  # before the next poll


@pytest.mark.parametrize(("name", "meant"), [("licens", "; did you mean 'licence'?"), ("token", ""), ("licence", None)])
def test_an_answer_to_a_question_that_was_never_asked_is_kept_with_one_warning(
    name: str, meant: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    service = Recovery()
    service.calls.question("licence")
    for _ in range(2):
        service.calls.answer(name)
    warning = f"no call has asked the question {name!r}; its answer is kept for later calls{meant}"
    assert caplog.messages == ([] if meant is None else [warning])
    assert service.calls.answered(name) is True


def test_a_question_that_was_answered_before_is_not_waited_for() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    assert service.calls.answered("licence") is None
    service.calls.answer("licence")
    run("plain", service, Script(ConnectionError()), policy=parks(service.calls.question("licence")))
    assert (clock(), service.calls.answered("licence")) == (0.0, True)
