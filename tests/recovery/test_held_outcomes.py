"""Outcomes of a cluster's calls that cannot be delivered: kept in the journal, also over kill -9."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.journals.reading_why import read_why
from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.operation_events import OperationStarted, OperationSucceeded
from recovery import Recovery, leased
from tests.forked import forked

ID = "render/job"
ONE = leased.HeldOutcome(call=ID, fence=7, data=b'{"result":3}')
TWO = leased.HeldOutcome(call=ID, fence=9, data=b"\x00\xff")


def hold(service: Recovery, outcome: leased.HeldOutcome) -> None:
    leased.hold(service, outcome.call, outcome.fence, outcome.data, operation="render")


def test_an_outcome_is_held_until_it_is_settled() -> None:
    service = Recovery(store=MemoryStore(), enable_logging=False)
    assert leased.held(service) == []
    hold(service, ONE)
    hold(service, TWO)
    assert leased.held(service) == [ONE, TWO]
    assert leased.settle(service, ONE)
    assert leased.held(service) == [TWO]
    assert not leased.settle(service, ONE, "too late")
    service.close()


def test_without_a_store_an_outcome_is_held_in_memory_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery()
    hold(service, ONE)
    hold(service, TWO)
    assert leased.held(service) == [ONE, TWO]
    warnings = [one.getMessage() for one in caplog.records if "kept in memory alone" in one.getMessage()]
    assert len(warnings) == 1
    assert "render/job" in warnings[0]


def test_the_next_service_of_the_store_holds_what_is_not_settled_and_says_it_once() -> None:
    store = MemoryStore()
    first = Recovery(store=store, enable_logging=False)
    hold(first, ONE)
    hold(first, TWO)
    leased.settle(first, TWO)
    first.close()
    second = Recovery(store=store, enable_logging=False)
    assert leased.held(second) == [ONE]
    found = second.resume()
    assert found.wait(5.0)
    assert (found.calls, found.left, found.quarantined) == ([], [], [])
    leased.settle(second, ONE, "node b has claimed it")
    assert leased.held(second) == []  # its journal was read before
    second.close()
    assert leased.held(Recovery(store=store, enable_logging=False)) == []


def test_an_outcome_and_its_end_outlast_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    def hold_one(say: Callable[[str], object]) -> None:
        service = Recovery(store=SQLiteStore(path), enable_logging=False)
        hold(service, ONE)
        hold(service, TWO)
        leased.settle(service, TWO)
        assert service.journal is not None
        service.journal.receipt().wait(5.0)
        say("held")
        time.sleep(60)

    def settle_it(say: Callable[[str], object]) -> None:
        service = Recovery(store=SQLiteStore(path), enable_logging=False)
        (one,) = leased.held(service)
        say(repr(one == ONE))
        leased.settle(service, one, "node b has claimed it")
        assert service.journal is not None
        service.journal.receipt().wait(5.0)
        say("settled")
        time.sleep(60)

    with forked(hold_one) as child:
        assert child.next_line() == "held"
        child.end()
    with forked(settle_it) as child:
        assert (child.next_line(), child.next_line()) == ("True", "settled")
        child.end()
    service = Recovery(store=SQLiteStore(path), enable_logging=False)
    assert leased.held(service) == []
    service.close()


def test_what_a_process_held_in_a_file_of_its_own_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    service = Recovery(store=SQLiteStore(path), enable_logging=False)
    hold(service, TWO)
    assert service.journal is not None
    service.journal.receipt().wait(5.0)

    def hold_one(say: Callable[[str], object]) -> None:
        other = Recovery(store=SQLiteStore(path), enable_logging=False)
        hold(other, ONE)
        assert other.journal is not None
        other.journal.receipt().wait(5.0)
        say("held")
        time.sleep(60)

    with forked(hold_one) as child:
        assert child.next_line() == "held"
        child.end()
    assert sorted(leased.held(service), key=lambda one: one.fence) == [ONE, TWO]
    service.close()


def test_a_superseded_outcome_is_told_of_by_why(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    service = Recovery(store=SQLiteStore(path), enable_logging=False)
    service.operation("render", durability="journal")
    at = service.bus.clock()
    service.bus.publish(OperationStarted(at=at, operation="render", call=f"{ID}@7", leased=True))
    service.bus.publish(OperationSucceeded(at=at, operation="render", call=f"{ID}@7"))
    hold(service, ONE)
    leased.settle(service, ONE, "node b has claimed it since")
    service.close()
    told = read_why(path, f"{ID}@7")
    story = " ".join(passage.text for passage in told.story)
    assert "keeps its outcome: the servers have not taken it" in story
    assert "kept is superseded: node b has claimed it since" in story
    outcome = read_why(path, f"{ID}@7 outcome")
    assert (outcome.state, outcome.sentence) == ("superseded", "node b has claimed it since")
