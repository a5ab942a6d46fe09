"""The write queue: bounded, by class of event, and counted (D7)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from events.recorded import Recorded
from recovery.journal.accounting import Counts, DroppedRanges
from recovery.journal.queue import BATCH_BYTES, CANCELLATIONS, LARGEST_BATCH, WriteQueue
from recovery.journal.size_estimate import BASE_SIZE


def end(call: str = "a") -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call=call)


def progress(call: str = "a", data: object = 0) -> CheckpointSaved:
    return CheckpointSaved(at=0.0, operation="fetch", call=call, data=msgspec.Raw(msgspec.json.encode(data)))


def taken(queue: WriteQueue) -> list[Event]:
    """All waiting events, batch by batch."""
    events: list[Event] = []
    while batch := queue.take():
        events += [entry.event for entry in batch if entry.event is not None]
        queue.done()
    return events


def test_events_come_out_in_the_order_they_went_in() -> None:
    queue = WriteQueue()
    events = [end(str(number)) for number in range(LARGEST_BATCH + 5)]
    for event in events:
        queue.put(event)
    assert taken(queue) == events


def test_only_the_first_event_after_a_rest_wakes_the_writer() -> None:
    queue = WriteQueue()
    queue.put(end())
    assert not queue.rest()  # an event waits
    queue.take()
    assert not queue.rest()  # it is being written
    assert queue.filled.is_set
    queue.done()
    assert not queue.rest()  # a caller may be about to append to the lane, which was open until now
    assert queue.rest()
    assert not queue.filled.is_set
    queue.put(end())
    assert queue.filled.is_set


def test_a_batch_that_is_not_done_is_taken_again() -> None:
    queue = WriteQueue()
    queue.put(end())
    first = list(queue.take())
    queue.put(end("b"))
    assert queue.take() == first


def test_a_batch_holds_1024_events_or_a_mebibyte() -> None:
    queue = WriteQueue()
    for number in range(LARGEST_BATCH + 100):
        queue.put(end(str(number)))
    assert len(queue.take()) == LARGEST_BATCH
    queue = WriteQueue()
    for number in range(100):
        queue.put(progress(str(number), "x" * 100_000))
    assert len(queue.take()) == -(-BATCH_BYTES // size_of(progress("0", "x" * 100_000)))


def test_d7_progress_coalesces_to_the_latest_of_each_call() -> None:
    queue = WriteQueue()
    for number in range(100):
        queue.put(progress("a", number))
        queue.put(progress("b", -number))
    assert taken(queue) == [progress("a", 99), progress("b", -99)]
    assert queue.counts == Counts(issued=200, stored=2, coalesced=198, dropped=0, waiting=0)


def test_d2_a_replaced_checkpoint_counts_as_waiting_until_the_newer_one_is_written() -> None:
    queue = WriteQueue()
    queue.put(end("b"))
    queue.take()
    for _ in range(3):
        queue.put(progress())
    queue.done()
    assert queue.first == 2
    queue.put(end("c"))
    queue.take()
    queue.done()
    assert queue.first == 6


def test_d7_progress_that_is_being_written_is_not_replaced() -> None:
    queue = WriteQueue()
    queue.put(progress("a", 1))
    [entry] = queue.take()
    queue.put(progress("a", 2))
    assert entry.event == progress("a", 1)
    assert taken(queue) == [progress("a", 1), progress("a", 2)]


@pytest.mark.parametrize(
    ("limits", "events", "written"),
    [
        # Progress is dropped first.
        ({"capacity": 3}, [progress("a"), progress("b"), *map(end, "cdef")], [*map(end, "cde")]),
        # The place of older progress is room for the newer.
        ({"capacity": 2}, [progress("a", 1), end("b"), progress("a", 2)], [end("b"), progress("a", 2)]),
        # One gigantic event is dropped, and its neighbours are not.
        ({"max_bytes": 10 * BASE_SIZE}, [end("a"), progress("a", "x" * 10_000), end("b")], [end("a"), end("b")]),
    ],
)
def test_d7_what_a_full_queue_keeps(limits: dict[str, int], events: list[Event], written: list[Event]) -> None:
    queue = WriteQueue(**limits)
    for event in events:
        queue.put(event)
    assert taken(queue) == written
    assert queue.counts.dropped + queue.counts.coalesced == len(events) - len(written)


def test_d7_refused_progress_leaves_the_progress_that_waits() -> None:
    queue = WriteQueue(max_bytes=5 * BASE_SIZE)
    accepted = [queue.put(event) for event in (progress("a", 1), progress("b"), progress("a", "x" * 10_000))]
    queue.close()
    accepted.append(queue.put(progress("a", 2)))
    assert accepted == [True, True, False, False]
    assert queue.counts == Counts(issued=4, stored=0, coalesced=0, dropped=2, waiting=2)
    assert taken(queue) == [progress("a", 1), progress("b")]
    assert queue.backlog.bytes == 0


def test_no_event_is_accepted_after_the_close() -> None:
    queue = WriteQueue()
    queue.put(end())
    queue.close()
    assert not queue.put(end("b"))
    assert taken(queue) == [end()]
    assert [queue.has_dropped(0, 1), queue.has_dropped(0, 2), queue.has_dropped(2, 9)] == [False, True, False]


def test_d2_dropped_events_are_known_by_their_numbers() -> None:
    queue = WriteQueue(capacity=4)
    for call in "abcdef":
        queue.put(progress(call))  # the first two make room for the last
    assert [number for number in range(1, 7) if queue.has_dropped(number - 1, number)] == [1, 2]
    queue.take()
    queue.give_up()
    queue.put(end())
    assert all(queue.has_dropped(number - 1, number) for number in range(1, 8))
    assert queue.counts == Counts(issued=7, stored=0, coalesced=0, dropped=7, waiting=0)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_d2_no_drop_is_forgotten_however_many_there_are(gaps: list[int]) -> None:
    ranges, dropped, number = DroppedRanges(max_ranges=3), set[int](), 0
    for gap in gaps:
        number += gap + 1
        ranges.add(number, number)
        dropped.add(number)
    assert all(ranges.between(one - 1, one) for one in dropped)
    if gaps:
        assert not ranges.between(number, number + 10)


def result(key: str, value: bytes) -> OperationSucceeded:
    recorded = Recorded(key=key, result=msgspec.Raw(value), until=0.0)
    return OperationSucceeded(at=0.0, operation="fetch", call="a", recorded=recorded)


def test_the_latest_result_that_waits_is_known_by_its_key() -> None:
    queue, first, second = WriteQueue(), result("k", b"1"), result("k", b"2")
    queue.put(first)
    assert queue.results.find("fetch\0k") is first.recorded
    queue.take()
    queue.put(second)
    queue.put(result("other", b"3"))
    assert queue.results.find("fetch\0k") is second.recorded
    queue.done()
    assert queue.results.find("fetch\0k") is second.recorded
    queue.take()
    assert queue.results.find("fetch\0k") is second.recorded
    queue.done()
    assert queue.results.find("fetch\0k") is queue.results.find("copy\0other") is None


def size_of(event: Event) -> int:
    queue = WriteQueue()
    queue.put(event)
    return queue.backlog.bytes


def test_the_size_of_an_event_grows_with_its_texts() -> None:
    cause = Evidence(type="B", stderr="x" * 30)
    evidence = Evidence(type="A", message="x" * 20, cause=cause)
    failure = FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence)
    assert size_of(failure) == 3 * BASE_SIZE + 50
    assert size_of(OperationStarted(at=0.0, call="a", arguments=msgspec.Raw(b"x" * 70))) == BASE_SIZE + 70
    assert size_of(RetryScheduled(at=0.0, call="a", failure=failure, after=1.0, retry=1)) == BASE_SIZE  # not written


def a_failure(number: int) -> Event:
    evidence = Evidence(type="E", message=f"{number:01000}")
    return FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence)


@pytest.mark.parametrize(
    ("event", "capacity", "accepted", "megabytes"),
    [(a_failure, 10_000, 10_000, 32), (lambda number: cancelled(f"0123456789abcdef-{number}"), 1_000, 10_000, 3)],
    ids=["failures", "cancellations"],
)
def test_d7_the_memory_of_a_flood_is_bounded(
    event: Callable[[int], Event], capacity: int, accepted: int, megabytes: int
) -> None:
    queue = WriteQueue(capacity=capacity)
    tracemalloc.start()
    try:
        for number in range(2 * accepted):
            queue.put(event(number))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < megabytes * 1024 * 1024
    assert queue.counts.dropped == 2 * accepted - queue.counts.waiting > 0


def cancelled(call: str = "a") -> OperationCancelled:
    return OperationCancelled(at=0.0, operation="fetch", call=call)


def test_d7_cancellations_have_room_of_their_own_and_take_none_from_others() -> None:
    queue = WriteQueue(capacity=2, max_bytes=2 * BASE_SIZE)
    for _ in range(2):
        accepted = [queue.put(cancelled()) for _ in range(2 * CANCELLATIONS + 1)]
        assert accepted == [*[True] * 2 * CANCELLATIONS, False]
        assert not queue.room.is_half_full
        assert [queue.put(end()) for _ in range(3)] == [True, True, False]
        taken(queue)
    assert queue.counts == Counts(issued=48, stored=44, coalesced=0, dropped=4, waiting=0)


STEPS = st.one_of(
    st.tuples(st.just("end"), st.sampled_from("abc")),
    st.tuples(st.just("cancel"), st.sampled_from("abc")),
    st.tuples(st.just("progress"), st.sampled_from("abc")),
    st.sampled_from([("take", ""), ("done", "")]),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 6))
@pytest.mark.slow
def test_d7_every_event_is_waiting_stored_coalesced_or_dropped(steps: list[tuple[str, str]], capacity: int) -> None:
    queue, stored, is_taken = WriteQueue(capacity=capacity), [], False
    for step, call in steps:
        match step:
            case "end":
                queue.put(end(call))
            case "cancel":
                queue.put(cancelled(call))
            case "progress":
                queue.put(progress(call))
            case "take":
                is_taken = bool(queue.take())
            case "done" if is_taken:
                stored += [entry.number for entry in queue.take()]
                queue.done()
                is_taken = False
        counts = queue.counts
        assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting
        assert counts.stored == len(stored)
        assert 0 <= counts.waiting <= capacity + CANCELLATIONS * capacity
    assert stored == sorted(set(stored))
    taken(queue)
    assert queue.counts.waiting == 0
