"""The lane: one comparison and one append keep every promise of the write queue (D2, D7)."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.bus import Bus
from events.event import CallEvent, Event
from events.operation_events import CheckpointSaved, FailureClassified, GaveUp, OperationStarted, RetryScheduled
from recovery.journal.accounting import Counts
from recovery.journal.config import JournalConfig
from recovery.journal.lane import IS_ORDINARY, LANE_RECORDS, LONGEST_TEXT, expanded
from recovery.journal.queue import WriteQueue
from recovery.service import Recovery
from recovery.testing import FaultyStore
from tests.failures import a_failure
from tests.recovery.journal.stores import Gated, core_of, gave_up

CAPACITY = 40


class Pair:
    """The form of a record that stands for two events."""

    weight = 2

    def events(self, record: tuple[Any, str]) -> Sequence[Event]:
        return [GaveUp(at=float(part), operation="fetch", call=record[1]) for part in (1, 2)]


PAIR = Pair()


def progress(number: int) -> CheckpointSaved:
    return CheckpointSaved(at=float(number), operation="fetch", call="saved", data=msgspec.Raw(b"0"))


class Journalling:
    """A queue between callers and a writer, and what each event must become."""

    def __init__(self) -> None:
        self.queue = WriteQueue(capacity=CAPACITY)
        self.events: list[Event] = []  # by number, less one
        self.refused = set[int]()
        self.written: list[tuple[int, Event | None]] = []
        self.receipts: list[int] = []

    def put(self, event: Event) -> None:
        self.events.append(event)
        if not self.queue.put(event):
            self.refused.add(len(self.events))

    def enter(self, record: Any, *, late: bool = False) -> None:
        """As a caller does; a *late* one has seen the limit before it fell to 0."""
        events = PAIR.events(record) if type(record) is tuple else [record]
        if late or len(self.queue.lane.records) < self.queue.lane.limit:
            self.queue.lane.records.append(record)
            self.events += events
        else:
            for event in events:
                self.put(event)

    def write(self) -> None:
        batch = self.queue.take()
        if batch:
            self.written += [(entry.number, entry.event) for one in batch for entry in expanded(one)]
            self.queue.done()

    def step(self, step: str, number: int) -> None:
        match step:
            case "one":
                self.enter(gave_up(number))
            case "two":
                self.enter((PAIR, f"call-{number}"))
            case "late":
                self.enter((PAIR, f"call-{number}"), late=True)
            case "locked":
                self.put(gave_up(number))
            case "checkpoint":
                self.put(progress(number))
            case "take":
                self.queue.take()
            case "write":
                self.write()
            case "rest":
                self.queue.rest()
            case "look":
                self.check()
            case "receipt":
                self.receipts.append(self.queue.issued)
                assert self.receipts[-1] == len(self.events)
            case "close":
                self.queue.close()

    def check(self) -> None:
        counts = self.queue.counts
        assert counts.issued == len(self.events)
        assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting
        assert counts.stored == len(self.written)
        numbers = [number for number, _ in self.written]
        assert numbers == sorted(set(numbers))
        assert all(self.events[number - 1] == event for number, event in self.written)
        committed = self.queue.first - 1
        for position in self.receipts:
            if committed >= position and not self.queue.has_dropped(0, position):
                lost = set(range(1, position + 1)).difference(numbers)
                assert all(self.is_replaced(number, committed) for number in lost)

    def is_replaced(self, number: int, committed: int) -> bool:
        later = [n for n in range(number + 1, committed + 1) if isinstance(self.events[n - 1], CheckpointSaved)]
        return isinstance(self.events[number - 1], CheckpointSaved) and bool(later)


STEPS = [
    "one",
    "one",
    "two",
    "two",
    "late",
    "locked",
    "checkpoint",
    "take",
    "write",
    "write",
    "rest",
    "receipt",
    "look",
]


@given(st.lists(st.sampled_from(STEPS), max_size=120), st.lists(st.sampled_from([*STEPS, "close"]), max_size=20))
def test_d7_what_takes_the_lane_is_numbered_in_order_and_counted_once(steps: list[str], more: list[str]) -> None:
    journalling = Journalling()
    journalling.step("locked", 0)
    journalling.step("write", 0)
    for number, step in enumerate([*steps, *more], 1):
        journalling.step(step, number)
    journalling.check()
    journalling.queue.close()
    while journalling.queue.counts.waiting:
        journalling.write()
        journalling.check()
    journalling.enter((PAIR, "too late"), late=True)
    journalling.queue.give_up()
    journalling.enter((PAIR, "much too late"), late=True)
    journalling.check()
    last = len(journalling.events)
    assert all(journalling.queue.has_dropped(number - 1, number) for number in range(last - 3, last + 1))
    assert journalling.queue.counts.waiting == 0


def opened(capacity: int = 10_000) -> WriteQueue:
    """A queue whose lane is open: a batch was written."""
    queue = WriteQueue(capacity=capacity)
    queue.put(gave_up())
    queue.take()
    queue.done()
    return queue


def test_d7_the_lane_lets_the_queue_be_half_full_at_most() -> None:
    queue = opened(capacity=CAPACITY)
    entered = 0
    while queue.lane.limit:
        while len(queue.lane.records) < queue.lane.limit:
            queue.lane.records.append((PAIR, "call"))
            entered += 2
        queue.absorb()
    assert entered == CAPACITY // 2
    assert queue.room.is_half_full
    assert opened().lane.limit == LANE_RECORDS


def test_a_lane_that_is_full_hurries_the_writer() -> None:
    queue = opened()
    queue.lane.records.extend(gave_up(number) for number in range(queue.lane.limit))
    assert not queue.hurry.is_set
    queue.put(gave_up())
    assert queue.hurry.is_set


def test_the_event_that_wakes_a_resting_writer_opens_the_lane_for_the_next_ones() -> None:
    queue = opened()
    assert not queue.rest()  # the writer looks at the lane once more
    assert queue.rest()
    assert queue.lane.limit == 0
    queue.put(gave_up(2))
    assert queue.filled.is_set
    assert queue.lane.limit > 0


@pytest.mark.parametrize("end", [WriteQueue.shut_lane, WriteQueue.close, WriteQueue.give_up])
def test_no_event_opens_the_lane_of_a_writer_that_failed_or_closed_while_it_rested(
    end: Callable[[WriteQueue], None],
) -> None:
    queue = opened()
    queue.rest()
    queue.rest()
    end(queue)
    queue.put(gave_up(2))
    queue.rest()
    queue.put(gave_up(3))
    assert queue.lane.limit == 0


class Interrupted(Pair):
    """A form that is interrupted once, while its record is counted, as by a signal handler."""

    def __init__(self, handler: Callable[[], object]) -> None:
        self._handlers = [handler]

    @property
    def weight(self) -> int:  # type: ignore[override]  # read-only, as each form's is
        if self._handlers:
            self._handlers.pop()()
        return 2


def test_a_handler_that_publishes_while_the_lane_is_counted_takes_a_number_of_its_own() -> None:
    queue, accepted, issued = opened(), list[bool](), list[int]()

    def handle() -> None:
        accepted.append(queue.put(gave_up(9)))
        issued.append(queue.issued)

    queue.lane.records.extend([gave_up(2), (Interrupted(handle), "call-3")])
    assert queue.put(gave_up(4))
    assert accepted == [False]
    assert [entry.number for one in queue.take() for entry in expanded(one)] == [3, 4, 5, 6]
    assert queue.counts == Counts(issued=6, stored=1, coalesced=0, dropped=1, waiting=4)
    assert queue.has_dropped(1, 2)
    assert issued[0] >= 5  # a receipt that the handler takes covers what is in the lane


def test_a_handler_that_raises_while_the_lane_is_counted_loses_no_event() -> None:
    queue = opened()

    def handle() -> None:
        raise KeyboardInterrupt

    queue.lane.records.extend([gave_up(2), (Interrupted(handle), "call-3")])
    with pytest.raises(KeyboardInterrupt):
        queue.absorb()
    queue.lane.records.append(gave_up(5))
    assert [entry.number for entry in queue.take()] == [2, 3, 5]
    assert queue.counts == Counts(issued=5, stored=1, coalesced=0, dropped=0, waiting=4)


@pytest.mark.parametrize("nth", range(1, 40))
def test_a_handler_that_raises_wherever_signals_are_looked_for_loses_and_doubles_no_record(nth: int) -> None:
    """A signal handler runs where a function is entered, and after a call of one written in C: as a profiler does."""
    queue = opened()
    queue.lane.records.extend([gave_up(2), (PAIR, "call-3")])
    left = nth

    def handle(_: FrameType, what: str, __: object) -> None:
        nonlocal left
        left -= what in {"call", "c_return"}
        if left == 0:
            sys.setprofile(None)
            raise KeyboardInterrupt

    gc.disable()  # a callback of the collector would take the interruption
    try:
        sys.setprofile(handle)
        queue.absorb()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    assert queue.counts == Counts(issued=4, stored=1, coalesced=0, dropped=0, waiting=3)
    assert [entry.number for one in queue.take() for entry in expanded(one)] == [2, 3, 4]
    assert len(queue.waiting("call-3")) == 2


def test_the_events_of_a_call_that_wait_in_the_lane_are_found() -> None:
    queue = opened()
    queue.lane.records.extend([gave_up(7), (PAIR, "call-8"), gave_up(8)])
    assert [entry.number for entry in queue.waiting("call-8")] == [3, 4, 5]
    assert queue.backlog.events == 4


def test_the_lane_is_shut_while_calls_wait_for_admission_and_while_the_queue_rests() -> None:
    queue = opened()
    queue.lane.calls_wait = lambda: True
    queue.put(gave_up())
    assert queue.lane.limit == 0
    queue.lane.calls_wait = lambda: False
    queue.take()
    queue.done()
    assert queue.lane.limit > 0
    queue.rest()
    assert queue.lane.limit == 0


@pytest.mark.parametrize(
    ("event", "is_ordinary"),
    [
        (a_failure("reset"), True),
        (a_failure("x" * (LONGEST_TEXT + 1)), False),
        (OperationStarted(at=0.0, call="a"), True),
        (OperationStarted(at=0.0, call="a", arguments=msgspec.Raw(b"[[], {}]")), False),
        (RetryScheduled(at=0.0, call="a", after=1.0, retry=1), True),
        (progress(1), False),
    ],
)
def test_an_event_without_long_texts_or_data_is_ordinary(event: CallEvent, is_ordinary: bool) -> None:
    test = IS_ORDINARY.get(type(event), lambda _: False)
    assert (test is None or test(event)) is is_ordinary


def until(condition: Any) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_journal_opens_its_lane_after_a_batch_and_shuts_it_when_it_rests_or_closes() -> None:
    bus, store = Bus(), MemoryStore()
    with closing(core_of(store, bus, poll_after_batch=0.05)) as core:
        assert core.lane.limit == 0
        bus.publish(gave_up(1))
        until(lambda: core.lane.limit > 0)
        for number in (2, 3):
            bus.publish(gave_up(number))
        core.tracker.receipt().wait()
        until(lambda: core.lane.limit == 0)  # it rests
        bus.publish(gave_up(4))
        until(lambda: core.lane.limit > 0)
        core.lane.records.append((PAIR, "call-5"))
        bus.publish(gave_up(6))
    assert core.lane.limit == 0
    assert [(row.number, row.call) for row in store.rows] == [
        *((number, f"call-{number}") for number in range(1, 5)),
        (5, "call-5"),
        (6, "call-5"),
        (7, "call-6"),
    ]


def test_a_record_that_comes_after_the_lane_is_shut_wakes_the_writer() -> None:
    """A subscriber that takes its time lies between the comparison and the append of an observed failure."""
    store, asked = MemoryStore(), list[float]()
    limits = JournalConfig(poll_after_batch=0.02, command_interval=60.0)
    service = Recovery(store=store, journal_config=limits)
    tries = iter([ConnectionError(), 1, ConnectionError(), 2])

    def rest(_: FailureClassified) -> None:
        if asked:
            time.sleep(0.3)  # several flush intervals: the writer rests meanwhile

    service.bus.subscribe([FailureClassified], rest)

    @service.recoverable("fetch", initial_delay=0.0)
    def fetch() -> int:
        if isinstance(one := next(tries), Exception):
            raise one
        if asked:
            until(lambda: len(store.rows) > asked[0])  # while nothing else is published
        return one

    with service:
        assert fetch() == 1
        service.journal.receipt().wait()
        asked.append(len(store.rows))
        assert fetch() == 2


def test_a_journal_that_cannot_write_shuts_its_lane() -> None:
    bus, store = Bus(), FaultyStore(MemoryStore(), fail_at=5, sticky=True)  # after open, unfinished, append, prune
    with closing(core_of(store, bus)) as core:
        bus.publish(gave_up(1))
        until(lambda: core.lane.limit > 0)
        bus.publish(gave_up(2))
        until(lambda: core.writer.reason is not None)
        assert core.lane.limit == 0
        store.heal()
        until(lambda: core.lane.limit > 0)


def test_a_record_whose_form_fails_is_dropped_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Pair):
        def events(self, record: tuple[Any, str]) -> Sequence[Event]:
            raise RuntimeError("broken form")

    bus, store = Bus(), MemoryStore()
    with closing(core_of(store, bus)) as core:
        bus.publish(gave_up(1))
        until(lambda: core.lane.limit > 0)
        core.lane.records.extend([(Broken(), "a"), (PAIR, "b")])
    assert [row.call for row in store.rows] == ["call-1", "b", "b"]
    assert core.queue.counts.dropped == 2
    assert "broken form" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_d13_a_forked_child_begins_with_an_empty_lane_that_is_shut() -> None:
    bus, store = Bus(), Gated()
    store.gate.set()
    with closing(core_of(store, bus)) as core:
        bus.publish(gave_up(1))
        until(lambda: core.lane.limit > 0)
        core.lane.records.append(gave_up(2))
        child = os.fork()
        if not child:
            os._exit(not (core.lane.limit == 0 and not core.lane.records and core.queue.lane is core.lane))
        _, status = os.waitpid(child, 0)
    assert status == 0
    assert len(store.rows) == 2


def test_a_failure_reaches_the_store_from_the_lane_as_it_does_from_the_queue() -> None:
    rows = []
    for is_open in (False, True):
        bus, store = Bus(), MemoryStore()
        with closing(core_of(store, bus)) as core:
            bus.publish(gave_up(1))
            until(lambda core=core: core.lane.limit > 0)
            if not is_open:
                core.queue.shut_lane()
            failure = a_failure("reset")
            assert isinstance(failure, FailureClassified)
            bus.publish(failure)
        rows.append([(row.number, row.kind, row.body) for row in store.rows])
    assert rows[0] == rows[1]
