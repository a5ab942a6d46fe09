"""What is looked up without touching the file, and what with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from adapters.memory import MemoryStore
from events.event import Event
from events.operation_events import (
    CheckpointSaved,
    GaveUp,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Recorded,
    RetryScheduled,
)
from recovery.journal.recent_calls import REPLAYED_AT, RecentCallCache
from recovery.journal.store import Row
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script

pytestmark = pytest.mark.anyio
FAST: dict[str, Any] = {"initial_delay": 0.0}


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


def numbered(*events: Event, first: int = 1) -> list[tuple[int, Event]]:
    return list(enumerate(events, first))


# What is remembered


def test_a_live_call_is_known_with_what_waits_to_be_written() -> None:
    recent = RecentCallCache("run")
    recent.add(numbered(started()))
    known = recent.call("a", [(1, started()), (2, CheckpointSaved(at=1.0, call="a", data=msgspec.Raw(b"7")))])
    assert known is not None
    assert (known.state, known.saved) == ("running", b"7")


def test_a_call_of_which_all_waits_is_known() -> None:
    known = RecentCallCache("run").call("a", numbered(started(), succeeded()))
    assert known is not None
    assert known.state == "succeeded"


def test_many_events_of_one_call_are_folded_and_not_piled_up() -> None:
    recent = RecentCallCache("run")
    saves = [CheckpointSaved(at=1.0, call="a", data=msgspec.Raw(b"%d" % number)) for number in range(10 * REPLAYED_AT)]
    recent.add(numbered(started(), *saves))
    known = recent.call("a")
    assert known is not None
    assert known.saved == b"%d" % (10 * REPLAYED_AT - 1)
    assert recent._calls_size < 2000


def test_the_calls_used_least_recently_go_first() -> None:
    recent = RecentCallCache("run", most_bytes=4000)
    for number in range(9):
        recent.add(numbered(started(str(number)), first=number + 1))
        recent.call("0")
    assert recent.call("0") is not None
    assert recent.call("8") is not None
    assert recent.call("1") is None


@pytest.mark.parametrize(
    "second",
    [
        RetryScheduled(at=1.0, operation="fetch", call="0", after=1.0, retry=1),
        GaveUp(at=1.0, operation="fetch", call="0"),
        started("0", again=True),
    ],
)
def test_a_call_that_was_let_go_is_not_known_by_halves(second: Event) -> None:
    recent = RecentCallCache("run", most_bytes=1000)
    for number in range(9):
        recent.add(numbered(started(str(number)), first=number + 1))
    recent.add([(10, second)])
    assert recent.call("0") is None


def test_a_call_that_another_run_began_is_not_known_by_halves() -> None:
    recent = RecentCallCache("run")
    recent.add(numbered(OperationRecovered(at=1.0, operation="fetch", call="a", attempt=2)))
    assert recent.call("a") is None


def test_results_are_the_operations_own_and_the_latest_counts() -> None:
    recent = RecentCallCache("run")
    recent.add(numbered(started(), succeeded("a", result("k", 1)), started("b"), succeeded("b", result("k", 2))))
    assert recent.result("fetch", "k") == result("k", 2)
    assert recent.result("other", "k") is None


def test_what_earlier_runs_recorded_does_not_replace_what_is_newer() -> None:
    recent = RecentCallCache("run")
    recent.add(numbered(started(), succeeded("a", result("k", "new"))))
    recent.know_results([succeeded("x", result("k", "old")), succeeded("y", result("other", "old"))], are_all=True)
    assert recent.result("fetch", "k") == result("k", "new")
    assert recent.result("fetch", "other") == result("other", "old")
    assert recent.knows_every_result


def test_results_that_do_not_fit_are_looked_for_in_the_file_again() -> None:
    recent = RecentCallCache("run", most_bytes=2000)
    recent.know_results([], are_all=True)
    for number in range(20):
        recent.add(numbered(succeeded(str(number), result(str(number))), first=number + 1))
    assert recent.result("fetch", "0") is None
    assert not recent.knows_every_result
    assert recent._results_size <= 2000


# Through the service


def test_looking_up_a_recent_call_touches_no_file() -> None:
    store = CountingStore()
    with Recovery(store=store) as service:
        call = service.recoverable("fetch", durability="journal", **FAST)(Script(ConnectionError()))
        call()
        journal = service.journal
        assert journal is not None
        for _ in range(2):  # while it waits to be written, and when it is written
            record = service.calls.find(f"{service.bus.run}-1")
            assert record is not None
            assert (record.state, record.attempt) == ("succeeded", 2)
            journal.receipt().wait()
    assert store.reads == 0


async def test_an_old_call_is_read_from_the_file() -> None:
    store = CountingStore()
    with Recovery(store=store, run="old") as service:
        service.recoverable("fetch", durability="journal", max_retries=0)(Script())()
    async with Recovery(store=store) as service:
        record = await service.calls.afind("old-1")
        assert record is not None
        assert (record.operation, record.state, record.run) == ("fetch", "succeeded", "old")
        assert service.calls.find("old-1") == record
        assert await service.calls.afind("unknown") is None
    assert store.reads == 3


def test_what_cannot_be_read_is_not_known_and_nobody_waits_for_it() -> None:
    with Recovery(store=FaultyStore(MemoryStore(), fail_at=1, sticky=True)) as service:
        assert service.calls.find("x") is None
    assert service.calls.find("x", timeout=20.0) is None


def test_a_journal_that_was_never_begun_answers_after_its_close() -> None:
    service = Recovery(store=MemoryStore())
    service.close()
    assert service.calls.find("x", timeout=20.0) is None
