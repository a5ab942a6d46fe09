"""Back-pressure: calls are admitted in order, as many as there is room for, and no slot is lost (D7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.journal.back_pressure import EVENTS_PER_CALL, MAX_ADMITTED, Admission, Slot
from recovery.journal.config import JOURNAL_DEFAULTS
from recovery.journal.queue import LARGEST_BATCH, WriteQueue
from tests.recovery.journal.interruptions import interrupted
from tests.recovery.journal.stores import gave_up

CAPACITY = 4000
HALF = CAPACITY // 2
ADMITTED = LARGEST_BATCH // EVENTS_PER_CALL
"""Calls that one written batch makes room for."""
STALL_TIMEOUT = JOURNAL_DEFAULTS.stall_timeout


class Bell:
    """A waiter that counts how often it is woken."""

    def __init__(self, is_locked: Callable[[], bool] = lambda: False) -> None:
        self.rung = 0
        self.is_locked = is_locked

    def wake(self) -> None:
        assert not self.is_locked()  # or a signal handler that interrupts the waiter and asks too would wait for ever
        self.rung += 1


class Caller:
    """A call that asks to be admitted, and publishes *events* events then."""

    def __init__(self, entrance: Entrance, timeout: float = 1e9, events: int = 2) -> None:
        self.entrance = entrance
        self.events = events
        self.slot = Slot(entrance.admission, entrance.now + timeout)
        self.bell = Bell()

    def ask(self) -> float:
        self.bell = Bell(self.entrance.admission.is_interrupted)
        return self.slot.wait_time(self.bell)

    def leave(self) -> None:
        """Be cancelled, or have waited long enough."""
        self.slot.close()

    def go(self) -> None:
        """Go ahead, when admitted."""
        assert self.ask() == 0.0
        self.leave()
        self.entrance.fill(self.events)


class Entrance:
    """A queue, its admission, and the time."""

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
            self.queue.put(gave_up())

    def write(self) -> None:
        """Write a batch, as the journal's thread does."""
        if self.queue.take():
            self.queue.done()
            self.admission.move(self.queue.stored)

    def callers(self, count: int, **settings: float) -> list[Caller]:
        callers = [Caller(self, **settings) for _ in range(count)]
        for caller in callers:
            assert caller.ask() > 0.0
        return callers


def admitted(callers: list[Caller]) -> list[int]:
    return [number for number, caller in enumerate(callers) if caller.slot.is_admitted]


def test_no_call_waits_while_the_queue_is_less_than_half_full() -> None:
    assert Caller(Entrance(HALF - 1)).ask() == 0.0
    assert Caller(Entrance(HALF)).ask() > 0.0


def test_a_batch_admits_calls_in_order_and_wakes_them() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(1000)
    entrance.write()
    assert admitted(callers) == list(range(ADMITTED))
    assert [number for number, caller in enumerate(callers) if caller.bell.rung] == list(range(ADMITTED))


def test_admitted_calls_that_did_not_go_ahead_yet_take_room() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(2000)
    while entrance.queue.counts.waiting:
        entrance.write()
    entrance.write()
    assert len(admitted(callers)) == HALF // EVENTS_PER_CALL


@pytest.mark.parametrize("events", [0, 2, EVENTS_PER_CALL])
def test_all_calls_go_ahead_in_order_and_the_queue_stays_half_full(events: int) -> None:
    entrance = Entrance(HALF)
    callers, gone = entrance.callers(5000, events=events), 0
    while gone < len(callers):
        entrance.write()
        while gone < len(callers) and callers[gone].slot.is_admitted:
            callers[gone].go()
            gone += 1
            assert entrance.queue.counts.waiting <= HALF + events  # a call passes its slot on before it publishes


def test_a_new_call_does_not_overtake_waiting_calls() -> None:
    entrance = Entrance(HALF)
    entrance.callers(400)
    entrance.write()
    assert not entrance.queue.room.is_half_full
    assert Caller(entrance).ask() > 0.0


def test_an_admitted_call_that_is_cancelled_passes_its_slot_on() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(400)
    entrance.write()
    callers[5].leave()
    assert admitted(callers)[-1] == ADMITTED
    assert callers[ADMITTED].bell.rung == 1


def test_a_call_that_stops_waiting_takes_no_slot() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(400)
    callers[0].leave()
    callers[7].leave()
    entrance.write()
    assert admitted(callers) == [number for number in range(ADMITTED + 2) if number not in (0, 7)]


def test_no_call_waits_longer_than_its_timeout() -> None:
    entrance = Entrance(HALF)
    (caller,) = entrance.callers(1, timeout=2.0)
    assert caller.ask() == 2.0
    entrance.now = 2.0
    assert caller.ask() <= 0.0
    caller.leave()
    assert not entrance.admission.waiting


def test_a_written_batch_starts_the_stall_timeout_again() -> None:
    entrance = Entrance(CAPACITY)
    (caller,) = entrance.callers(1)
    for _ in range(3):
        entrance.now += STALL_TIMEOUT - 0.1
        entrance.write()
        entrance.fill(LARGEST_BATCH)
        assert caller.ask() > 0.0


def test_after_a_stall_of_five_seconds_calls_go_ahead_a_few_at_a_time() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(1000)
    entrance.now = STALL_TIMEOUT
    callers[0].ask()
    gone = 0
    while gone < len(callers):
        assert admitted(callers) == list(range(min(gone + MAX_ADMITTED, len(callers))))
        callers[gone].go()
        gone += 1
    assert entrance.queue.counts.waiting == CAPACITY
    assert Caller(entrance).ask() == 0.0  # and no call waits again


def test_calls_wait_again_for_a_store_that_writes_again() -> None:
    entrance = Entrance(CAPACITY)
    (caller,) = entrance.callers(1)
    entrance.now = STALL_TIMEOUT
    caller.go()
    entrance.write()
    assert Caller(entrance).ask() > 0.0


def test_the_time_before_any_call_waits_counts_as_no_stall() -> None:
    entrance = Entrance(HALF)
    entrance.callers(1)[0].leave()
    while entrance.queue.counts.waiting:
        entrance.write()
    entrance.now = 10 * STALL_TIMEOUT
    entrance.fill(HALF)
    assert Caller(entrance).ask() == STALL_TIMEOUT


def test_before_an_unwritable_journal_calls_go_ahead_a_few_at_a_time() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(100)
    entrance.is_unwritable = True
    entrance.admission.move(0)
    for number, caller in enumerate(callers):
        assert admitted(callers) == list(range(min(number + MAX_ADMITTED, len(callers))))
        caller.go()
    assert Caller(entrance).ask() == 0.0


def test_admitted_calls_that_never_go_ahead_do_not_hold_up_the_others() -> None:
    entrance = Entrance(HALF)
    callers = entrance.callers(HALF)
    while entrance.queue.counts.waiting:
        entrance.write()
    number = len(admitted(callers))
    assert number < len(callers)
    entrance.now = STALL_TIMEOUT
    callers[-1].ask()
    assert len(admitted(callers)) == number + MAX_ADMITTED


def test_a_signal_handler_that_interrupts_the_admission_or_the_queue_does_not_wait() -> None:
    entrance, waits = Entrance(HALF), list[float]()
    caller = Caller(entrance)
    entrance.queue.put(interrupted(lambda: waits.append(Caller(entrance).ask())))
    entrance.on_look = lambda: waits.append(Caller(entrance).ask())
    assert caller.ask() > 0.0
    assert len(waits) > 1
    assert set(waits) == {0.0}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 300)),
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("go"), st.integers(1, 200)),
        st.tuples(st.just("cancel"), st.integers(0, 400)),
        st.tuples(st.just("time passes"), st.integers(1, 7)),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_call_is_forgotten(steps: list[tuple[str, int]]) -> None:
    entrance, waiting = Entrance(HALF), list[Caller]()

    def ask(caller: Caller) -> None:
        if caller.ask() == 0.0:
            caller.leave()
            entrance.fill(caller.events)
            waiting.remove(caller)

    def serve() -> None:
        for caller in [one for one in waiting if one.bell.rung]:
            ask(caller)

    for step, number in steps:
        match step:
            case "come":
                for _ in range(number):
                    waiting.append(Caller(entrance, events=number % (EVENTS_PER_CALL + 1)))
                    ask(waiting[-1])
            case "write":
                for _ in range(number):
                    entrance.write()
            case "go":
                for caller in [one for one in waiting if one.bell.rung][:number]:
                    ask(caller)
            case "cancel" if number < len(waiting):
                waiting.pop(number).leave()
            case _:
                entrance.now += number
    while entrance.queue.counts.waiting or any(caller.bell.rung for caller in waiting):
        serve()  # only woken calls ask
        entrance.write()
    assert not waiting
    assert not entrance.admission.waiting
