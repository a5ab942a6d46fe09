"""The line before the journal: in order, as many as there is room for, and no turn is lost (D7)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.operation_events import GaveUp
from recovery.journal.admission import EVENTS_PER_CALL, MAX_ADMITTED, STALL_TIMEOUT, Admission, Slot
from recovery.journal.queue import BATCH, WriteQueue
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.recovery.journal.interruptions import interrupted

CAPACITY = 4000
HALF = CAPACITY // 2


class Bell:
    """A waiter that counts how often it is woken."""

    def __init__(self) -> None:
        self.rung = 0

    def wake(self) -> None:
        self.rung += 1


class Caller:
    """A call that asks for its turn, and says so many events when it has it."""

    def __init__(self, line: Line, most: float = 1e9, says: int = 2) -> None:
        self.line = line
        self.says = says
        self.slot = Slot(line.admission, most)
        self.bell = Bell()

    def ask(self) -> float:
        self.bell = Bell()
        return self.slot.left(self.bell)

    def leave(self) -> None:
        """Be cancelled, or have waited long enough."""
        self.slot.__exit__(None, None, None)

    def go(self) -> None:
        """Go ahead: it was let in."""
        assert self.ask() == 0.0
        self.leave()
        self.line.fill(self.says)


class Line:
    """A queue, its turnstile, and the time."""

    def __init__(self, waiting: int = 0) -> None:
        self.now = 0.0
        self.is_unwritable = False
        self.on_look: Callable[[], object] = int
        self.queue = WriteQueue(capacity=CAPACITY)
        self.admission = Admission(self.queue, self.look, clock=lambda: self.now)
        self.fill(waiting)

    def look(self) -> bool:
        self.on_look()
        return self.is_unwritable

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.queue.put(GaveUp(at=0.0, operation="fetch", call="a"))

    def write(self) -> None:
        """Have a batch written, as the journal's thread does it."""
        if self.queue.take():
            self.queue.done()
            self.admission.move(self.queue.stored)

    def callers(self, count: int, **settings: float) -> list[Caller]:
        callers = [Caller(self, **settings) for _ in range(count)]  # type: ignore[arg-type]
        for caller in callers:
            assert caller.ask() > 0.0
        return callers


def let_in(callers: list[Caller]) -> list[int]:
    return [number for number, caller in enumerate(callers) if caller.slot.is_admitted]


def test_nobody_waits_while_the_queue_is_less_than_half_full() -> None:
    assert Caller(Line(HALF - 1)).ask() == 0.0
    assert Caller(Line(HALF)).ask() > 0.0


def test_a_batch_wakes_as_many_as_there_is_room_for_and_one_who_looks_for_the_others() -> None:
    line = Line(HALF)
    callers = line.callers(1000)
    line.write()
    assert let_in(callers) == list(range(BATCH // EVENTS_PER_CALL))  # who came first
    assert [number for number, caller in enumerate(callers) if caller.bell.rung] == [
        *range(BATCH // EVENTS_PER_CALL),
        999,
    ]


def test_those_who_were_let_in_and_are_not_there_yet_are_reckoned_with() -> None:
    line = Line(HALF)
    callers = line.callers(2000)
    while line.queue.counts.waiting:
        line.write()
    line.write()
    assert len(let_in(callers)) == HALF // EVENTS_PER_CALL


@pytest.mark.parametrize("says", [0, 2, EVENTS_PER_CALL])
def test_all_in_line_go_ahead_in_turn_and_the_queue_is_never_more_than_half_full(says: int) -> None:
    line = Line(HALF)
    callers, gone = line.callers(5000, says=says), 0
    while gone < len(callers):
        line.write()
        while gone < len(callers) and callers[gone].slot.is_admitted:
            callers[gone].go()
            gone += 1
            assert line.queue.counts.waiting <= HALF + says  # who goes ahead hands the turn on before he speaks


def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    line = Line(HALF)
    line.callers(200)
    line.write()
    assert not line.queue.is_half_full
    assert Caller(line).ask() > 0.0


def test_who_was_let_in_and_is_cancelled_hands_the_turn_on() -> None:
    line = Line(HALF)
    callers = line.callers(200)
    line.write()
    number = BATCH // EVENTS_PER_CALL
    callers[5].leave()
    assert let_in(callers)[-1] == number
    assert callers[number].bell.rung == 1


def test_who_leaves_the_line_takes_nobodys_turn() -> None:
    line = Line(HALF)
    callers = line.callers(200)
    callers[0].leave()
    callers[7].leave()
    line.write()
    assert let_in(callers) == [number for number in range(BATCH // EVENTS_PER_CALL + 2) if number not in (0, 7)]


def test_nobody_waits_longer_than_he_may() -> None:
    line = Line(HALF)
    (caller,) = line.callers(1, most=2.0)
    assert caller.ask() == 2.0
    line.now = 2.0
    assert caller.ask() <= 0.0
    caller.leave()
    assert not line.admission.line


def test_who_waits_in_a_line_that_moves_goes_on_waiting() -> None:
    line = Line(CAPACITY)
    (caller,) = line.callers(1)
    for _ in range(3):
        line.now += STALL_TIMEOUT - 0.1
        line.write()
        assert caller.ask() > 0.0


def test_one_looks_for_all_whether_anything_is_written() -> None:
    line = Line(HALF)
    callers = line.callers(100)
    asked = [caller.ask() for caller in callers]
    assert asked.count(STALL_TIMEOUT) == 1
    watch = callers[asked.index(STALL_TIMEOUT)]
    watch.leave()
    woken = [caller for caller in callers if caller.bell.rung]
    assert [caller.ask() for caller in woken] == [STALL_TIMEOUT]  # another one does, from now on


def test_when_nothing_was_written_for_five_seconds_all_go_ahead_a_few_at_a_time() -> None:
    line = Line(HALF)
    callers = line.callers(1000)
    line.now = STALL_TIMEOUT
    callers[0].ask()
    gone = 0
    while gone < len(callers):
        assert let_in(callers) == list(range(min(gone + MAX_ADMITTED, len(callers))))
        callers[gone].go()
        gone += 1
    assert line.queue.counts.waiting == CAPACITY
    assert Caller(line).ask() == 0.0  # and nobody waits again


def test_a_store_that_writes_again_is_waited_for_again() -> None:
    line = Line(CAPACITY)
    (caller,) = line.callers(1)
    line.now = STALL_TIMEOUT
    caller.go()
    line.write()
    assert Caller(line).ask() > 0.0


def test_the_time_before_anybody_had_to_wait_does_not_count() -> None:
    line = Line(HALF)
    line.callers(1)[0].leave()
    while line.queue.counts.waiting:
        line.write()
    line.now = 10 * STALL_TIMEOUT
    line.fill(HALF)
    assert Caller(line).ask() == STALL_TIMEOUT


def test_when_the_journal_cannot_be_written_all_go_ahead_a_few_at_a_time() -> None:
    line = Line(HALF)
    callers = line.callers(100)
    line.is_unwritable = True
    line.admission.move(0)
    for number, caller in enumerate(callers):
        assert let_in(callers) == list(range(min(number + MAX_ADMITTED, len(callers))))
        caller.go()
    assert Caller(line).ask() == 0.0


def test_those_who_were_let_in_and_never_come_hold_nobody_up_for_ever() -> None:
    line = Line(HALF)
    callers = line.callers(HALF)
    while line.queue.counts.waiting:
        line.write()
    number = len(let_in(callers))
    assert number < len(callers)
    line.now = STALL_TIMEOUT
    callers[-1].ask()
    assert len(let_in(callers)) == number + MAX_ADMITTED


def test_a_signal_handler_that_interrupts_the_line_does_not_wait() -> None:
    line, waits = Line(HALF), list[float]()
    caller = Caller(line)
    line.on_look = lambda: waits.append(Caller(line).ask())
    assert caller.ask() > 0.0
    assert set(waits) == {0.0}


def test_a_signal_handler_that_interrupts_the_queue_does_not_wait() -> None:
    line, waits = Line(HALF), list[float]()
    line.queue.put(interrupted(lambda: waits.append(Caller(line).ask())))
    assert waits == [0.0]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 300)),
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("go"), st.integers(1, 200)),
        st.tuples(st.just("cancel"), st.integers(0, 400)),
        st.tuples(st.just("let pass"), st.integers(1, 7)),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_happens_nobody_is_forgotten(steps: list[tuple[str, int]]) -> None:
    line, waiting = Line(HALF), list[Caller]()

    def ask(caller: Caller) -> None:
        if caller.ask() == 0.0:
            caller.leave()
            line.fill(caller.says)
            waiting.remove(caller)

    def serve() -> None:
        for caller in [one for one in waiting if one.bell.rung]:
            ask(caller)

    for step, number in steps:
        match step:
            case "come":
                for _ in range(number):
                    waiting.append(Caller(line, says=number % (EVENTS_PER_CALL + 1)))
                    ask(waiting[-1])
            case "write":
                for _ in range(number):
                    line.write()
            case "go":
                for caller in [one for one in waiting if one.bell.rung][:number]:
                    ask(caller)
            case "cancel" if number < len(waiting):
                waiting.pop(number).leave()
            case _:
                line.now += number
    while line.queue.counts.waiting or any(caller.bell.rung for caller in waiting):
        serve()  # only who was woken asks: in the end nobody is left
        line.write()
    assert not waiting
    assert not line.admission.line


# In threads, asyncio and trio, before a store that hangs, and one that goes on


class Gated(MemoryStore):
    """Writes only while its gate is open, or a batch for each permit."""

    def __init__(self) -> None:
        super().__init__()
        self.latch = threading.Event()
        self.permits = threading.Semaphore(0)

    async def append(self, rows: Sequence[Row]) -> None:
        while not self.latch.is_set() and not self.permits.acquire(timeout=0.001):
            pass
        await super().append(rows)


def crowded(store: Gated, capacity: int = 400) -> Recovery:
    """A service whose store hangs, and whose journal's queue is half full."""
    service = Recovery(store=store)
    assert service.journal is not None
    service.journal._queue.capacity = capacity
    for number in range(capacity // 2):
        service.bus.publish(GaveUp(at=0.0, operation="other", call=f"call-{number}"))
    return service


def lines(service: Recovery, stall_timeout: float = 1e9) -> tuple[Admission, Admission]:
    """Where threads wait, and where tasks do."""
    assert service.journal is not None
    both = service.journal._threads, service.journal._tasks
    for line in both:
        line._stall_timeout = stall_timeout
    return both


def failing(service: Recovery) -> Callable[[], object]:
    @service.recoverable("fetch", max_retries=0, breaker=None)
    def call() -> None:
        raise ValueError

    return call


async def test_tasks_that_are_cancelled_in_line_leave_it_to_the_others(anyio_backend_name: str) -> None:
    store, ended = Gated(), list[int]()
    with crowded(store) as service:
        _, tasks = lines(service)

        @service.recoverable("fetch", max_retries=0, breaker=None)
        async def call() -> None:
            raise ValueError

        async def one(number: int, scope: anyio.CancelScope) -> None:
            with scope, suppress(ValueError):
                try:
                    await call()
                finally:
                    ended.append(number)

        scopes = [anyio.CancelScope() for _ in range(300)]
        with anyio.fail_after(10.0):
            async with anyio.create_task_group() as group:
                for number, scope in enumerate(scopes):
                    group.start_soon(one, number, scope)
                while len(tasks.line) < len(scopes):
                    await anyio.sleep(0.001)
                for scope in scopes[::2]:
                    scope.cancel()
                while len(tasks.line) > len(scopes) // 2:
                    await anyio.sleep(0.001)
                store.latch.set()
    assert sorted(ended) == list(range(len(scopes)))
    assert service.journal is not None
    assert service.journal.dropped == 0


def test_threads_in_line_go_ahead_when_the_store_writes_again() -> None:
    store, ended = Gated(), threading.Semaphore(0)
    with crowded(store) as service:
        threads, _ = lines(service)
        call = failing(service)

        def run() -> None:
            with suppress(ValueError):
                call()
            ended.release()

        for _ in range(20):
            threading.Thread(target=run, daemon=True).start()
        while len(threads.line) < 20:
            threading.Event().wait(0.001)
        assert not ended.acquire(blocking=False)
        store.latch.set()
        assert all(ended.acquire(timeout=5.0) for _ in range(20))


def test_a_store_that_hangs_costs_its_time_once_and_not_each_call() -> None:
    store = Gated()
    with crowded(store) as service:
        threads, _ = lines(service, stall_timeout=0.01)
        call = failing(service)
        for _ in range(3):
            with pytest.raises(ValueError):
                call()
        lines(service)
        for _ in range(3):  # it would be seen
            with pytest.raises(ValueError):
                call()
        assert not threads.line
        store.latch.set()


def test_each_batch_that_is_written_begins_the_five_seconds_anew() -> None:
    store = Gated()
    with crowded(store, CAPACITY) as service:
        _, tasks = lines(service)
        turns = [Slot(tasks, 1e9) for _ in range(CAPACITY)]
        for slot in turns:
            slot.left(Bell())
        before = tasks._since
        assert before is not None
        store.permits.release()
        while len(tasks.line) == len(turns):
            threading.Event().wait(0.001)
        since = tasks._since
        store.latch.set()
    assert since is not None
    assert since > before


async def test_a_plain_call_does_not_wait_for_the_tasks_of_the_loop_that_it_blocks(anyio_backend_name: str) -> None:
    store = Gated()
    with crowded(store) as service:
        _, tasks = lines(service)

        @service.recoverable("fetch", max_retries=0, breaker=None)
        async def call() -> None:
            raise ValueError

        async def one() -> None:
            with suppress(ValueError):
                await call()

        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(one)
            while len(tasks.line) < 300:
                await anyio.sleep(0.001)
            threading.Timer(0.01, store.latch.set).start()
            with pytest.raises(ValueError):
                failing(service)()
            assert tasks.line  # they have had no turn yet


def test_a_call_in_line_keeps_time_for_what_it_waits_to_do() -> None:
    store, failures = Gated(), [ValueError(), None]
    with crowded(store) as service:
        lines(service)

        @service.recoverable("fetch", initial_delay=0.0, breaker=None, retry_on=ValueError, max_elapsed=0.4)
        def call() -> str:
            if (failure := failures.pop(0)) is not None:
                raise failure
            return "done"

        assert call() == "done"
        store.latch.set()


def test_a_line_of_threads_is_a_line_though_there_is_none_of_tasks() -> None:
    store = Gated()
    with crowded(store) as service:
        threads, tasks = lines(service)
        journal, slot = service.journal, Slot(threads, 1e9)
        assert journal is not None
        slot.left(Bell())
        journal._queue.capacity = CAPACITY  # there would be room again
        tasks.move(0)
        assert not journal._queue.is_half_full
        assert journal.is_half_full  # who comes now does not overtake
        threads.leave(slot)
        assert not journal.is_half_full
        store.latch.set()
