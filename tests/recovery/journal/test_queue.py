"""The write queue: bounded, by class of event, and counted (D7)."""

from __future__ import annotations

import tracemalloc

import msgspec
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
    Recorded,
    RetryScheduled,
)
from recovery.journal.accounting import Counts, DroppedRanges
from recovery.journal.queue import BATCH_BYTES, BATCH_EVENTS, CANCELLATIONS, WriteQueue
from recovery.journal.size_estimate import BASE_SIZE, estimate_size


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
    events = [end(str(number)) for number in range(BATCH_EVENTS + 5)]
    for event in events:
        queue.put(event)
    assert taken(queue) == events


def test_only_the_first_event_after_a_rest_wakes_the_writer() -> None:
    queue = WriteQueue()
    queue.put(end())
    taken(queue)
    assert queue.filled.is_set
    assert queue.rest()
    assert not queue.filled.is_set
    queue.put(end())
    assert queue.filled.is_set


def test_there_is_no_rest_while_an_event_waits_or_is_written() -> None:
    queue = WriteQueue()
    queue.put(end())
    assert not queue.rest()
    queue.take()
    assert not queue.rest()
    assert queue.filled.is_set


def test_a_batch_that_is_not_done_is_taken_again() -> None:
    queue = WriteQueue()
    queue.put(end())
    first = list(queue.take())
    queue.put(end("b"))
    assert queue.take() == first


def test_a_batch_holds_512_events_or_a_mebibyte() -> None:
    queue = WriteQueue()
    for number in range(600):
        queue.put(end(str(number)))
    assert len(queue.take()) == BATCH_EVENTS
    queue = WriteQueue()
    for number in range(100):
        queue.put(progress(str(number), "x" * 100_000))
    assert len(queue.take()) == -(-BATCH_BYTES // estimate_size(progress("0", "x" * 100_000)))


def test_d7_progress_coalesces_to_the_latest_of_each_call() -> None:
    queue = WriteQueue()
    for number in range(100):
        queue.put(progress("a", number))
        queue.put(progress("b", -number))
    assert taken(queue) == [progress("a", 99), progress("b", -99)]
    assert queue.counts == Counts(issued=200, stored=2, coalesced=198, dropped=0, waiting=0)


def test_d7_progress_that_is_being_written_is_not_replaced() -> None:
    queue = WriteQueue()
    queue.put(progress("a", 1))
    [entry] = queue.take()
    queue.put(progress("a", 2))
    assert entry.event == progress("a", 1)
    assert taken(queue) == [progress("a", 1), progress("a", 2)]


def test_d7_progress_is_dropped_first_when_the_queue_is_full() -> None:
    queue = WriteQueue(capacity=3)
    for event in (progress("a"), progress("b"), end("c"), end("d"), end("e"), end("f")):
        queue.put(event)
    assert taken(queue) == [end("c"), end("d"), end("e")]
    assert queue.counts == Counts(issued=6, stored=3, coalesced=0, dropped=3, waiting=0)


def test_d7_refused_progress_leaves_the_progress_that_waits() -> None:
    queue = WriteQueue(max_bytes=5 * BASE_SIZE)
    accepted = [queue.put(event) for event in (progress("a", 1), progress("b"), progress("a", "x" * 10_000))]
    queue.close()
    accepted.append(queue.put(progress("a", 2)))
    assert accepted == [True, True, False, False]
    assert queue.counts == Counts(issued=4, stored=0, coalesced=0, dropped=2, waiting=2)
    assert taken(queue) == [progress("a", 1), progress("b")]
    assert queue.backlog.bytes == 0


def test_d7_the_place_of_older_progress_is_room_for_the_newer() -> None:
    queue = WriteQueue(capacity=2)
    for event in (progress("a", 1), end("b"), progress("a", 2)):
        assert queue.put(event)
    assert taken(queue) == [end("b"), progress("a", 2)]


def test_d7_one_gigantic_event_is_dropped_and_its_neighbours_are_not() -> None:
    queue = WriteQueue(max_bytes=10 * BASE_SIZE)
    assert [queue.put(event) for event in (end("a"), progress("a", "x" * 10_000), end("b"))] == [True, False, True]
    assert taken(queue) == [end("a"), end("b")]


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
    queue.give_up()
    queue.put(end())
    assert all(queue.has_dropped(number - 1, number) for number in range(1, 8))
    queue = WriteQueue(capacity=4)
    for call in "abcdef":
        queue.put(progress(call))
    assert [number for number in range(1, 7) if queue.has_dropped(number - 1, number)] == [1, 2]


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
    assert queue.results.find("fetch", "k") is first.recorded
    queue.take()
    queue.put(second)
    queue.put(result("other", b"3"))
    assert queue.results.find("fetch", "k") is second.recorded
    queue.done()
    assert queue.results.find("fetch", "k") is second.recorded
    queue.take()
    assert queue.results.find("fetch", "k") is second.recorded
    queue.done()
    assert queue.results.find("fetch", "k") is queue.results.find("copy", "other") is None
    assert len(queue.results) == 0


def test_events_that_are_given_up_are_dropped() -> None:
    queue = WriteQueue()
    for number in range(3):
        queue.put(end(str(number)))
    queue.take()
    queue.give_up()
    assert queue.counts == Counts(issued=3, stored=0, coalesced=0, dropped=3, waiting=0)


def test_the_size_of_an_event_grows_with_its_texts() -> None:
    cause = Evidence(type="B", stderr="x" * 30)
    evidence = Evidence(type="A", message="x" * 20, cause=cause)
    failure = FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence)
    assert estimate_size(failure) == 3 * BASE_SIZE + 50
    assert estimate_size(OperationStarted(at=0.0, call="a", arguments=msgspec.Raw(b"x" * 70))) == BASE_SIZE + 70
    assert estimate_size(RetryScheduled(at=0.0, call="a", error="x" * 9, after=1.0, retry=1)) == BASE_SIZE + 9


def test_d7_the_memory_of_a_flood_is_bounded() -> None:
    queue = WriteQueue()
    tracemalloc.start()
    try:
        for number in range(3 * queue.capacity):
            evidence = Evidence(type="E", message=f"{number:01000}")
            queue.put(FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 32 * 1024 * 1024
    assert queue.counts.dropped == 3 * queue.capacity - queue.counts.waiting


def cancelled(call: str = "a") -> OperationCancelled:
    return OperationCancelled(at=0.0, operation="fetch", call=call)


def test_d7_cancellations_have_room_of_their_own() -> None:
    queue = WriteQueue(capacity=2)
    queue.put(end())
    queue.put(end())
    accepted = [queue.put(cancelled()) for _ in range(2 * CANCELLATIONS + 1)]
    assert accepted == [*[True] * 2 * CANCELLATIONS, False]
    assert not queue.put(end())
    assert queue.counts == Counts(issued=24, stored=0, coalesced=0, dropped=2, waiting=22)


def test_d7_cancellations_take_no_room_from_others() -> None:
    queue = WriteQueue(capacity=4, max_bytes=4 * BASE_SIZE)
    for _ in range(3 * CANCELLATIONS):
        queue.put(cancelled())
    assert not queue.is_half_full
    assert [queue.put(end()) for _ in range(5)] == [True, True, True, True, False]
    taken(queue)
    assert [queue.put(end()) for _ in range(5)] == [True, True, True, True, False]


def test_d7_ten_thousand_cancellations_take_less_than_three_megabytes() -> None:
    queue = WriteQueue(capacity=1_000)
    tracemalloc.start()
    try:
        for number in range(CANCELLATIONS * queue.capacity):
            queue.put(cancelled(f"0123456789abcdef-{number}"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert queue.counts.dropped == 0
    assert most < 3e6


STEPS = st.one_of(
    st.tuples(st.just("end"), st.sampled_from("abc")),
    st.tuples(st.just("cancel"), st.sampled_from("abc")),
    st.tuples(st.just("progress"), st.sampled_from("abc")),
    st.sampled_from([("take", ""), ("done", "")]),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 6))
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
