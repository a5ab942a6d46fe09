"""Blocks of code that recover: ``for`` and ``async for`` over ``service.attempts``."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from types import FrameType
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events import (
    CallRejectedError,
    Event,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from recovery import Recovery, context, outcome_of
from recovery.testing import Script, VirtualClock

STEADY: dict[str, Any] = {"initial_delay": 1.0, "backoff_factor": 1.0, "jitter": "none"}
KINDS = (
    OperationStarted,
    OperationFailed,
    RetryScheduled,
    OperationSucceeded,
    OperationRecovered,
    GaveUp,
    OperationCancelled,
)


class Blocks:
    """Runs a script in a block, in the way that *name* says, on a virtual clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = VirtualClock()
        self.service = Recovery(clock=self.clock, rng=lambda: 0.5)
        self.numbers: list[int] = []
        self.events: list[str] = []

    def record(self) -> None:
        self.service.bus.subscribe(KINDS, lambda event: self.events.append(type(event).__name__))

    def run(self, script: Script, **settings: Any) -> Any:
        if self.name != "plain":
            return self.clock.run(self._run, script, settings, backend=self.name)
        for attempt in self.service.attempts("block", **(STEADY | settings)):
            with attempt:
                self.numbers.append(attempt.number)
                return script()
        return "ended"

    async def _run(self, script: Script, settings: Any) -> Any:
        async for attempt in self.service.attempts("block", **(STEADY | settings)):
            with attempt:
                self.numbers.append(attempt.number)
                return script()
        return "ended"

    def each(self, body: Any, **settings: Any) -> None:
        """*body* for each attempt, outside of a block."""

        async def loop() -> None:
            async for attempt in self.service.attempts("block", **(STEADY | settings)):
                if body(attempt):
                    break

        if self.name != "plain":
            return self.clock.run(loop, backend=self.name)
        for attempt in self.service.attempts("block", **(STEADY | settings)):
            if body(attempt):
                break
        return None


@pytest.fixture(params=["plain", "asyncio", "trio"])
def blocks(request: pytest.FixtureRequest) -> Blocks:
    return Blocks(request.param)


def test_a_block_is_tried_until_it_ends_well(blocks: Blocks) -> None:
    blocks.record()
    assert blocks.run(Script(ConnectionError, TimeoutError, "page")) == "page"
    assert blocks.numbers == [1, 2, 3]
    assert blocks.clock() == 2.0
    retry = ["OperationStarted", "OperationFailed", "RetryScheduled"]
    assert blocks.events == [*retry, *retry, "OperationStarted", "OperationRecovered", "OperationSucceeded"]


def test_the_last_failure_leaves_the_block_with_its_outcome(blocks: Blocks) -> None:
    errors = [ConnectionError("first"), ConnectionError("last")]
    with pytest.raises(ConnectionError, match="last") as caught:
        blocks.run(Script(*errors), max_retries=1)
    assert caught.value is errors[1]
    found = outcome_of(caught.value)
    assert found is not None
    assert (found.kind, found.attempts, found.elapsed, found.operation) == ("exhausted", 2, 1.0, "block")
    assert any("gave up after 2 attempts" in note for note in caught.value.__notes__)


def test_a_permanent_failure_is_not_tried_again(blocks: Blocks) -> None:
    with pytest.raises(PermissionError):
        blocks.run(Script(PermissionError("denied")))
    assert blocks.numbers == [1]


def test_blocks_of_one_name_share_a_circuit_with_functions(blocks: Blocks) -> None:
    for _ in range(5):
        with pytest.raises(ConnectionError):
            blocks.run(Script(ConnectionError), max_retries=0)
    with pytest.raises(CallRejectedError):
        blocks.run(Script(), max_retries=0)
    function = blocks.service.recoverable("block", **(STEADY | {"max_retries": 0}))(Script())
    with pytest.raises(CallRejectedError):
        function()


def test_a_block_that_an_open_circuit_defers_waits_for_its_end(blocks: Blocks) -> None:
    blocks.run(Script(), when_open="wait", circuit_breaker_threshold=1, max_retries=0)
    with pytest.raises(ConnectionError):
        blocks.run(Script(ConnectionError), when_open="wait", circuit_breaker_threshold=1, max_retries=0)
    assert blocks.run(Script("page"), when_open="wait", circuit_breaker_threshold=1, max_retries=0) == "page"
    assert blocks.clock() == pytest.approx(30.0, abs=0.1)


def test_a_block_waits_no_longer_than_max_elapsed(blocks: Blocks) -> None:
    with pytest.raises(ConnectionError) as caught:
        blocks.run(Script(*[ConnectionError] * 9), max_retries=None, max_elapsed=2.5)
    found = outcome_of(caught.value)
    assert found is not None
    assert (found.kind, found.attempts) == ("out of time", 3)


@pytest.mark.parametrize("when", ["before the block", "after a failure"])
def test_leaving_the_loop_ends_the_call_as_cancelled(blocks: Blocks, when: str) -> None:
    blocks.record()

    def body(attempt: Any) -> bool:
        if when == "before the block" or attempt.number == 2:
            return True
        with attempt:
            raise ConnectionError
        return False

    blocks.each(body)
    assert blocks.events[-1] == "OperationCancelled"
    assert blocks.events.count("OperationCancelled") == 1


def test_a_loop_that_runs_on_after_a_good_block_ends(blocks: Blocks) -> None:
    blocks.record()

    def body(attempt: Any) -> bool:
        with attempt:
            blocks.numbers.append(attempt.number)
        return False

    blocks.each(body)
    assert blocks.numbers == [1]
    assert blocks.events == ["OperationStarted", "OperationSucceeded"]


def test_a_loop_without_its_block_says_so(blocks: Blocks) -> None:
    with pytest.raises(RuntimeError, match="the body of the loop is `with attempt:`"):
        blocks.each(lambda _: False)


def test_a_block_runs_once(blocks: Blocks) -> None:
    def body(attempt: Any) -> bool:
        with attempt:
            pass
        with attempt:
            pass
        return False

    with pytest.raises(RuntimeError, match="cannot run again; the loop gives the next attempt"):
        blocks.each(body)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_call_as_cancelled(blocks: Blocks, stop: type[BaseException]) -> None:
    blocks.record()
    with pytest.raises(stop):
        blocks.run(Script(stop))
    assert blocks.events == ["OperationStarted", "OperationCancelled"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("moment", ["in the block", "in the wait"])
def test_a_cancellation_ends_the_call_as_cancelled(backend: str, moment: str) -> None:
    blocks = Blocks(backend)
    blocks.record()

    async def main() -> None:
        with anyio.move_on_after(0.5):
            async for attempt in blocks.service.attempts("block", **STEADY):
                with attempt:
                    if moment == "in the block":
                        await anyio.sleep(9)
                    raise ConnectionError

    blocks.clock.run(main, backend=backend)
    assert blocks.events[-1] == "OperationCancelled"
    assert blocks.service.calls.waiting() == []


def test_waiting_blocks_are_listed_and_steered() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(block)
            await anyio.sleep(1)
            [waits] = service.calls.waiting()
            assert (waits.operation, waits.attempt) == ("block", 2)
            assert service.calls.retry_now(waits.call, "now")

    async def block() -> None:
        async for attempt in service.attempts("block", initial_delay=1000.0, max_delay=1000.0, jitter="none"):
            with attempt:
                if attempt.number == 1:
                    raise ConnectionError

    clock.run(main)
    assert clock() == 1.0


def test_a_journalled_block_is_in_the_journal_and_has_a_context() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        for attempt in service.attempts("block", durability="journal", initial_delay=0.0):
            with attempt:
                assert context.attempt() == attempt.number
                assert context.key() == attempt.call
                context.checkpoint(attempt.number)
                if attempt.number == 1:
                    raise ConnectionError
                assert context.saved() == 2
        assert not context.is_running()
        record = service.calls.find(attempt.call)
    assert record is not None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("key", str),
        ("resumable", True),
        ("attempt_timeout", 1.0),
        ("fallback", 1),
        ("before_retry", len),
        ("durability", "strict"),
    ],
)
def test_a_setting_that_needs_a_function_is_refused(setting: str, value: Any) -> None:
    settings: Any = {setting: value}
    with pytest.raises(ValueError, match=f"{setting}.* needs a function to wrap"):
        Recovery(store=MemoryStore()).attempts("block", **settings)


def test_one_name_has_one_set_of_settings() -> None:
    service = Recovery()
    service.attempts("block", max_retries=2)
    service.attempts("block", max_retries=2)
    service.attempts("block")
    with pytest.raises(ValueError, match="already defined"):
        service.attempts("block", max_retries=3)


def test_a_service_that_is_switched_off_makes_one_attempt(blocks: Blocks) -> None:
    blocks.service.configure(enabled=False)
    blocks.record()
    with pytest.raises(ConnectionError) as caught:
        blocks.run(Script(ConnectionError("bare")))
    assert (blocks.numbers, blocks.events) == ([1], [])
    assert outcome_of(caught.value) is None
    blocks.service.configure(enabled=True)
    assert blocks.run(Script(ConnectionError, "page")) == "page"


def test_a_recoverable_call_in_a_block_is_nested() -> None:
    service = Recovery()
    script = Script(*[ConnectionError] * 9)
    inner = service.recoverable("block", max_retries=1, initial_delay=0.0)(script)
    with pytest.raises(ConnectionError):
        for attempt in service.attempts("block"):
            with attempt:
                inner()
    assert script.calls == 2


def test_an_error_leaves_no_cycle() -> None:
    service = Recovery()

    def fetch() -> None:
        for attempt in service.attempts("block", max_retries=2, initial_delay=0.0):
            with attempt:
                raise ConnectionError

    with suppress(ConnectionError):
        fetch()
    gc.collect()
    gc.disable()
    try:
        with suppress(ConnectionError):
            fetch()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [one for one in gc.garbage if type(one) in (ConnectionError, FrameType)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_blocks_of_generators_that_take_turns_leave_no_context_behind() -> None:
    with Recovery(store=MemoryStore()) as service:

        def keys(name: str) -> Iterator[str]:
            for attempt in service.attempts(name, durability="journal"):
                with attempt:
                    yield context.key()

        one, two = keys("one"), keys("two")
        next(one)
        next(two)
        assert [*one, *two] == []
        assert not context.is_running()
        with pytest.raises(LookupError):
            context.attempt()


def test_a_suspended_block_does_not_hide_the_one_around_it() -> None:
    service = Recovery()

    def inner() -> Iterator[int]:
        for attempt in service.attempts("inner"):
            with attempt:
                yield 1

    for attempt in service.attempts("outer"):
        with attempt, ExitStack() as stack:
            suspended = inner()
            next(suspended)
            assert context.attempt() == 1
            for other in service.attempts("stacked"):
                stack.enter_context(other)
                assert context.attempt() == 1
                break


def test_a_loop_can_be_closed() -> None:
    service = Recovery()
    seen: list[Event] = []
    service.bus.subscribe(OperationCancelled, seen.append)
    loop = iter(service.attempts("block"))
    next(loop)
    with closing(loop):
        pass
    assert len(seen) == 1


@pytest.mark.parametrize("settings", [{"durability": "strict"}, {"fallback": 1}, {"retry_if": bool}])
def test_a_block_is_refused_the_settings_of_a_function_of_its_name(settings: Any) -> None:
    service = Recovery(store=MemoryStore())
    service.recoverable("block", **settings)(Script())
    with pytest.raises(ValueError, match="of block needs a function to wrap; a block of code cannot keep it"):
        service.attempts("block")


def test_attempts_that_were_made_while_switched_off_recover_once_it_is_on() -> None:
    service = Recovery(enabled=False)
    attempts = service.attempts("block", initial_delay=0.0)
    service.configure(enabled=True)
    script = Script(ConnectionError)
    for attempt in attempts:
        with attempt:
            script()
    assert script.calls == 2
