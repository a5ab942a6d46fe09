"""The queue before the store: bounded, by class, and counted (D7)."""

from __future__ import annotations

import tracemalloc

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.event import Fact
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
from recovery.journal.accounting import Losses
from recovery.journal.queue import BATCH, BATCH_BYTES, CANCELLATIONS, CAPACITY, Counts, Intake
from recovery.journal.size_estimate import BASE_WEIGHT, weigh


def end(call: str = "a") -> GaveUp:
    return GaveUp(at=0.0, operation="fetch", call=call)


def progress(call: str = "a", data: object = 0) -> CheckpointSaved:
    return CheckpointSaved(at=0.0, operation="fetch", call=call, data=msgspec.Raw(msgspec.json.encode(data)))


def taken(intake: Intake) -> list[Fact]:
    """All that waits, batch by batch."""
    facts: list[Fact] = []
    while batch := intake.take():
        facts += [entry.fact for entry in batch if entry.fact is not None]
        intake.done()
    return facts


def test_facts_come_out_in_the_order_they_went_in() -> None:
    intake = Intake()
    facts = [end(str(number)) for number in range(BATCH + 5)]
    for fact in facts:
        intake.put(fact)
    assert taken(intake) == facts


def test_who_takes_the_facts_is_only_told_of_the_first_after_a_rest() -> None:
    intake = Intake()
    intake.put(end())
    taken(intake)
    assert intake.filled.is_set
    assert intake.rest()
    assert not intake.filled.is_set
    intake.put(end())
    assert intake.filled.is_set


def test_there_is_no_rest_while_a_fact_waits_or_is_being_written() -> None:
    intake = Intake()
    intake.put(end())
    assert not intake.rest()
    intake.take()
    assert not intake.rest()
    assert intake.filled.is_set


def test_a_batch_that_is_not_done_is_taken_again() -> None:
    intake = Intake()
    intake.put(end())
    first = list(intake.take())
    intake.put(end("b"))
    assert intake.take() == first


def test_a_batch_holds_512_facts_or_a_mebibyte() -> None:
    intake = Intake()
    for number in range(600):
        intake.put(end(str(number)))
    assert len(intake.take()) == BATCH
    intake = Intake()
    for number in range(100):
        intake.put(progress(str(number), "x" * 100_000))
    assert len(intake.take()) == -(-BATCH_BYTES // weigh(progress("0", "x" * 100_000)))


def test_d7_progress_coalesces_to_the_latest_of_each_call() -> None:
    intake = Intake()
    for number in range(100):
        intake.put(progress("a", number))
        intake.put(progress("b", -number))
    assert taken(intake) == [progress("a", 99), progress("b", -99)]
    assert intake.counts == Counts(issued=200, stored=2, coalesced=198, dropped=0, waiting=0)


def test_d7_progress_that_is_being_written_is_not_taken_back() -> None:
    intake = Intake()
    intake.put(progress("a", 1))
    [entry] = intake.take()
    intake.put(progress("a", 2))
    assert entry.fact == progress("a", 1)
    assert taken(intake) == [progress("a", 1), progress("a", 2)]


def test_d7_progress_goes_first_where_there_is_no_room() -> None:
    intake = Intake(capacity=3)
    for fact in (progress("a"), progress("b"), end("c"), end("d"), end("e"), end("f")):
        intake.put(fact)
    assert taken(intake) == [end("c"), end("d"), end("e")]
    assert intake.counts == Counts(issued=6, stored=3, coalesced=0, dropped=3, waiting=0)


def test_d7_progress_that_is_refused_leaves_the_progress_that_waits() -> None:
    intake = Intake(max_bytes=5 * BASE_WEIGHT)
    accepted = [intake.put(fact) for fact in (progress("a", 1), progress("b"), progress("a", "x" * 10_000))]
    intake.close()
    accepted.append(intake.put(progress("a", 2)))
    assert accepted == [True, True, False, False]
    assert intake.counts == Counts(issued=4, stored=0, coalesced=0, dropped=2, waiting=2)
    assert taken(intake) == [progress("a", 1), progress("b")]
    assert intake.backlog.bytes == 0


def test_d7_the_place_of_older_progress_is_room_for_the_newer() -> None:
    intake = Intake(capacity=2)
    for fact in (progress("a", 1), end("b"), progress("a", 2)):
        assert intake.put(fact)
    assert taken(intake) == [end("b"), progress("a", 2)]


def test_d7_one_gigantic_fact_is_dropped_and_its_neighbours_are_not() -> None:
    intake = Intake(max_bytes=10 * BASE_WEIGHT)
    assert [intake.put(fact) for fact in (end("a"), progress("a", "x" * 10_000), end("b"))] == [True, False, True]
    assert taken(intake) == [end("a"), end("b")]


def test_nothing_is_taken_in_after_the_close() -> None:
    intake = Intake()
    intake.put(end())
    intake.close()
    assert not intake.put(end("b"))
    assert taken(intake) == [end()]
    assert [intake.lost_any(0, 1), intake.lost_any(0, 2), intake.lost_any(2, 9)] == [False, True, False]


def test_d2_what_was_dropped_is_known_by_its_number() -> None:
    intake = Intake(capacity=4)
    for call in "abcdef":
        intake.put(progress(call))  # the first two make room for the last
    intake.give_up()
    intake.put(end())
    lost = [number for number in range(1, 8) if intake.lost_any(number - 1, number)]
    assert lost == [1, 2, 3, 4, 5, 6, 7]
    intake = Intake(capacity=4)
    for call in "abcdef":
        intake.put(progress(call))
    assert [number for number in range(1, 7) if intake.lost_any(number - 1, number)] == [1, 2]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_d2_no_loss_is_forgotten_however_many_there_are(gaps: list[int]) -> None:
    losses, lost, number = Losses(most=3), set[int](), 0
    for gap in gaps:
        number += gap + 1
        losses.add(number, number)
        lost.add(number)
    assert all(losses.between(one - 1, one) for one in lost)
    if gaps:
        assert not losses.between(number, number + 10)


def result(key: str, value: bytes) -> OperationSucceeded:
    recorded = Recorded(key=key, result=msgspec.Raw(value), until=0.0)
    return OperationSucceeded(at=0.0, operation="fetch", call="a", recorded=recorded)


def test_the_latest_result_that_waits_is_known_by_its_key() -> None:
    intake, first, second = Intake(), result("k", b"1"), result("k", b"2")
    intake.put(first)
    assert intake.recorded("fetch", "k") is first.recorded
    intake.take()
    intake.put(second)
    intake.put(result("other", b"3"))
    assert intake.recorded("fetch", "k") is second.recorded
    intake.done()
    assert intake.recorded("fetch", "k") is second.recorded
    intake.take()
    assert intake.recorded("fetch", "k") is second.recorded
    intake.done()
    assert intake.recorded("fetch", "k") is intake.recorded("copy", "other") is None
    assert not intake._recording


def test_what_is_given_up_is_dropped() -> None:
    intake = Intake()
    for number in range(3):
        intake.put(end(str(number)))
    intake.take()
    intake.give_up()
    assert intake.counts == Counts(issued=3, stored=0, coalesced=0, dropped=3, waiting=0)


def test_texts_weigh_what_they_are_long() -> None:
    cause = Evidence(type="B", stderr="x" * 30)
    evidence = Evidence(type="A", message="x" * 20, cause=cause)
    failure = FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence)
    assert weigh(failure) == 3 * BASE_WEIGHT + 50
    assert weigh(OperationStarted(at=0.0, call="a", arguments=msgspec.Raw(b"x" * 70))) == BASE_WEIGHT + 70
    assert weigh(RetryScheduled(at=0.0, call="a", error="x" * 9, after=1.0, retry=1)) == BASE_WEIGHT + 9


def test_d7_the_memory_of_a_flood_is_bounded() -> None:
    intake = Intake()
    tracemalloc.start()
    try:
        for number in range(3 * CAPACITY):
            evidence = Evidence(type="E", message=f"{number:01000}")
            intake.put(FailureClassified(at=0.0, call="a", category=Category.TRANSIENT, evidence=evidence))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 32 * 1024 * 1024
    assert intake.counts.dropped == 3 * CAPACITY - intake.counts.waiting


def cancelled(call: str = "a") -> OperationCancelled:
    return OperationCancelled(at=0.0, operation="fetch", call=call)


def test_d7_cancellations_have_room_of_their_own() -> None:
    intake = Intake(capacity=2)
    intake.put(end())
    intake.put(end())
    took = [intake.put(cancelled()) for _ in range(2 * CANCELLATIONS + 1)]
    assert took == [*[True] * 2 * CANCELLATIONS, False]
    assert not intake.put(end())
    assert intake.counts == Counts(issued=24, stored=0, coalesced=0, dropped=2, waiting=22)


def test_d7_cancellations_take_no_room_from_others() -> None:
    intake = Intake(capacity=4, max_bytes=4 * BASE_WEIGHT)
    for _ in range(3 * CANCELLATIONS):
        intake.put(cancelled())
    assert not intake.is_crowded
    assert [intake.put(end()) for _ in range(5)] == [True, True, True, True, False]
    taken(intake)
    assert [intake.put(end()) for _ in range(5)] == [True, True, True, True, False]


def test_d7_ten_thousand_cancellations_take_less_than_three_megabytes() -> None:
    intake = Intake(capacity=1_000)
    tracemalloc.start()
    try:
        for number in range(CANCELLATIONS * intake.capacity):
            intake.put(cancelled(f"0123456789abcdef-{number}"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert intake.counts.dropped == 0
    assert most < 3e6


STEPS = st.one_of(
    st.tuples(st.just("end"), st.sampled_from("abc")),
    st.tuples(st.just("cancel"), st.sampled_from("abc")),
    st.tuples(st.just("progress"), st.sampled_from("abc")),
    st.sampled_from([("take", ""), ("done", "")]),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 6))
def test_d7_every_fact_is_waiting_stored_coalesced_or_dropped(steps: list[tuple[str, str]], capacity: int) -> None:
    intake, stored, is_taken = Intake(capacity=capacity), [], False
    for step, call in steps:
        match step:
            case "end":
                intake.put(end(call))
            case "cancel":
                intake.put(cancelled(call))
            case "progress":
                intake.put(progress(call))
            case "take":
                is_taken = bool(intake.take())
            case "done" if is_taken:
                stored += [entry.number for entry in intake.take()]
                intake.done()
                is_taken = False
        counts = intake.counts
        assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting
        assert counts.stored == len(stored)
        assert 0 <= counts.waiting <= capacity + CANCELLATIONS * capacity
    assert stored == sorted(set(stored))
    taken(intake)
    assert intake.counts.waiting == 0
