"""Looking up calls and results, with and without reading the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from events.event import Event
from events.operation_events import (
    CheckpointSaved,
    GaveUp,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from events.recorded import Recorded
from recovery.journal.lane import QueuedEvent
from recovery.journal.lookup import REPLAY_EVENTS, RecentCallCache
from recovery.journal.results import result_key
from recovery.journal.size_estimate import BASE_SIZE
from recovery.journal.store import Row
from recovery.testing import FaultyStore
from tests.recovery.journal.stores import core_of

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Counts how often it is read for one call or one result."""

    reads = 0

    async def history(self, call: str) -> Sequence[Row]:
        self.reads += 1
        return await super().history(call)

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        self.reads += 1
        return await super().recorded(key, limit=limit)


def started(call: str = "a", **fields: Any) -> OperationStarted:
    return OperationStarted(at=0.0, operation="fetch", call=call, **fields)


def succeeded(call: str = "a", recorded: Recorded | None = None) -> OperationSucceeded:
    return OperationSucceeded(at=1.0, operation="fetch", call=call, recorded=recorded)


def result(key: str, value: object = 1, until: float = 1e12) -> Recorded:
    return Recorded(key=key, result=msgspec.Raw(msgspec.json.encode(value)), until=until)


def queued(*events: Event, first: int = 1) -> list[QueuedEvent]:
    """*events* as the write queue gives them to the writer, numbered from *first*."""
    return [QueuedEvent(number, event, BASE_SIZE) for number, event in enumerate(events, first)]


def cached(*events: Event, max_bytes: int = 1_000_000) -> RecentCallCache:
    recent = RecentCallCache("run", max_bytes)
    recent.add(queued(*events))
    return recent


# What is remembered


def test_a_running_call_is_known_with_its_waiting_events() -> None:
    waiting = queued(started(), CheckpointSaved(at=1.0, call="a", data=msgspec.Raw(b"7")))
    known = cached(started()).call("a", waiting)
    assert (known.state, known.saved) == ("running", b"7")


def test_an_event_that_is_written_and_still_queued_counts_once() -> None:
    resumed = OperationResumed(at=1.0, operation="fetch", call="a", after=0.0)
    assert cached(started(), resumed).call("a", queued(resumed, first=2)).resumes == 1


def test_a_call_whose_events_all_wait_is_known() -> None:
    assert cached().call("a", queued(started(), succeeded())).state == "succeeded"


def test_many_events_of_one_call_are_replayed_into_its_record() -> None:
    data = [b"%d" % number for number in range(10 * REPLAY_EVENTS)]
    recent = cached(started(), *(CheckpointSaved(at=1.0, call="a", data=msgspec.Raw(one)) for one in data))
    assert recent.call("a").saved == data[-1]
    assert recent.size < 8000


def test_the_calls_used_least_recently_go_first() -> None:
    recent = cached(max_bytes=4000)
    for number in range(20):
        recent.add(queued(started(str(number)), first=number + 1))
        recent.call("0")
    assert [recent.call(call) is not None for call in ("0", "19", "1")] == [True, True, False]


@pytest.mark.parametrize(
    "second",
    [
        RetryScheduled(at=1.0, operation="fetch", call="0", after=1.0, retry=1),
        GaveUp(at=1.0, operation="fetch", call="0"),
        started("0", again=True),
    ],
)
def test_a_removed_call_is_not_known_in_part(second: Event) -> None:
    recent = cached(*(started(str(number)) for number in range(9)), max_bytes=1000)
    recent.add(queued(second, first=10))
    assert recent.call("0") is None


def test_a_call_that_another_run_began_is_not_known_in_part() -> None:
    assert cached(OperationRecovered(at=1.0, operation="fetch", call="a", attempt=2)).call("a") is None


def test_a_key_belongs_to_its_operation_and_its_latest_result_counts() -> None:
    recent = cached(started(), succeeded("a", result("k", 1)), started("b"), succeeded("b", result("k", 2)))
    assert recent.result(result_key("fetch", "k")) == result("k", 2)
    assert recent.result(result_key("other", "k")) is None


def test_results_of_earlier_runs_do_not_replace_newer_ones() -> None:
    recent = cached(started(), succeeded("a", result("k", "new")))
    recent.know_results([succeeded("x", result("k", "old")), succeeded("y", result("other", "old"))], are_all=True)
    assert recent.result(result_key("fetch", "k")) == result("k", "new")
    assert recent.result(result_key("fetch", "other")) == result("other", "old")
    assert recent.knows_every_result


def test_results_that_do_not_fit_are_looked_for_in_the_file_again() -> None:
    recent = cached(max_bytes=2000)
    recent.know_results([], are_all=True)
    recent.add(queued(*(succeeded(str(number), result(str(number))) for number in range(20))))
    assert recent.result(result_key("fetch", "0")) is None
    assert not recent.knows_every_result
    assert recent.size <= 2000


# Through a journal


def test_looking_up_a_recent_call_touches_no_file() -> None:
    store, bus = CountingStore(), Bus(run="r")
    with closing(core_of(store, bus)) as core:
        for event in (started(), succeeded()):
            core.record(event)
        for _ in range(2):  # while it waits to be written, and when it is written
            assert core.lookup.call("a").state == "succeeded"
            core.tracker.receipt().wait()
    assert store.reads == 0


async def test_an_old_call_is_read_from_the_file() -> None:
    store = CountingStore()
    with closing(core_of(store, Bus(run="old"))) as core:
        for event in (started(), succeeded()):
            core.record(event)
    with closing(core_of(store)) as core:
        record = await core.lookup.call("a").await_answer()
        assert (record.operation, record.state, record.run) == ("fetch", "succeeded", "old")
        assert core.lookup.call("a").wait() == record
        assert await core.lookup.call("unknown").await_answer() is None
    assert store.reads == 3


def test_a_lookup_does_not_wait_for_a_journal_that_cannot_be_read() -> None:
    with closing(core_of(FaultyStore(MemoryStore(), fail_at=1, sticky=True))) as core:
        assert core.lookup.call("x").wait() is None
    assert core.lookup.call("x").wait(20.0) is None


def test_a_lookup_after_the_close_of_an_unused_journal_does_not_wait() -> None:
    core = core_of(MemoryStore())
    core.close()
    assert core.lookup.call("x").wait(20.0) is None
