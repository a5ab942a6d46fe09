"""A journal adopts the calls of processes that die while it lives, and takes over single ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite import files
from adapters.sqlite.store import SQLiteStore
from events.bus import Bus
from events.operation_events import OperationResumed, OperationSucceeded
from events.recorded import Recorded
from recovery.journal.core import JournalCore
from recovery.journal.history import Run
from recovery.journal.results import result_key
from recovery.journal.store import Query, Row, Store, Wants
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recovery.journal.stores import core_of


def leave(path: Path, name: str, *calls: str) -> None:
    """Leave *calls* in the side file of a process that was killed."""
    rows = journals.rows_of([journals.started(call) for call in calls], run=name)
    run = Run(id=name, boot="boot", monotonic=1.0, wall=2.0, pid=6)
    journals.write_and_die(files.folder_of(path) / f"{name}.db", rows, run=run)


SOON = {"adopt_every": 0.001, "command_interval": 0.001}


def adopting(core: JournalCore) -> threading.Event:
    """Have *core* adopt as processes die; the event is set when it has found something."""
    has_found = threading.Event()
    core.keep_adopting(has_found.set)
    return has_found


def pending(core: JournalCore) -> list[str]:
    return [record.call for record in core.pending(5.0).calls]


def test_a_journal_finds_what_is_left_while_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    leave(path, "one", "a")
    with closing(core_of(SQLiteStore(path), **SOON)) as core:
        assert pending(core) == ["a"]
        has_found = adopting(core)
        leave(path, "two", "b")
        assert has_found.wait(5.0)
        assert pending(core) == ["a", "b"]
        assert core.pending().runs.keys() >= {"one", "two"}
        assert not files.side_files(path)


@pytest.mark.parametrize("config", [SOON, {**SOON, "adopt_every": None}])
def test_a_journal_does_not_look_unasked(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = Counting(path)
    with closing(core_of(store, **config)) as core:
        core.pending(5.0)
        if config["adopt_every"] is None:
            adopting(core)
        looks, checks = store.looks, store.checks
        eventually(lambda: store.checks > checks + 5)
        assert store.looks == looks


class Counting(SQLiteStore):
    """Counts the looks for dead processes, and the checks of the files."""

    looks = checks = 0

    async def adopt(self, wants: Wants | None = None) -> bool:
        self.looks += 1
        return await super().adopt(wants)

    async def check(self) -> None:
        self.checks += 1
        await super().check()


def test_d20_a_look_that_finds_nothing_reads_nothing(tmp_path: Path) -> None:
    class Reading(Counting):
        reads = 0

        async def unfinished(self) -> Any:
            self.reads += 1
            return await super().unfinished()

    store = Reading(tmp_path / "calls.db")
    with closing(core_of(store, **SOON)) as core:
        core.pending(5.0)
        reads, has_found = store.reads, adopting(core)
        eventually(lambda: store.looks > 5)
        assert (store.reads, has_found.is_set()) == (reads, False)


def test_a_call_that_began_here_is_not_pending_in_a_later_look(tmp_path: Path) -> None:
    path, bus = tmp_path / "calls.db", Bus()
    leave(path, "one", "a")
    with closing(core_of(SQLiteStore(path), bus, **SOON)) as core:
        core.pending(5.0)
        bus.publish(OperationResumed(at=1.0, operation="render", call="a"))
        core.tracker.receipt().wait(5.0)
        has_found = adopting(core)
        leave(path, "two", "b")
        assert has_found.wait(5.0)
        assert pending(core) == ["b"]


class Failing(SQLiteStore):
    """Adopts, and then fails while *fails*."""

    fails = False

    async def adopt(self, wants: Wants | None = None) -> bool:
        found = await super().adopt(wants)
        if self.fails:
            raise OSError("input/output error")
        return found


def test_after_a_look_that_fails_the_next_finds_all(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = Failing(path)
    with closing(core_of(store, first_pause=0.001, **SOON)) as core:
        core.pending(5.0)
        leave(path, "one", "a")
        store.fails = True
        has_found = adopting(core)
        eventually(lambda: core.writer.reason is not None)
        assert pending(core) == []
        store.fails = False
        assert has_found.wait(5.0)
        assert pending(core) == ["a"]


class Adopting(MemoryStore):
    """Adopts for a while: an event is published during each of five looks."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus
        self.calls_at: list[list[str]] = []

    async def adopt(self, wants: Wants | None = None) -> bool:
        self.calls_at.append([row.call for row in self.rows])
        self.bus.publish(journals.gave_up(f"call-{len(self.calls_at)}"))
        return len(self.calls_at) % 5 > 0


def test_d18_events_are_committed_while_an_adoption_goes_on() -> None:
    bus = Bus()
    store = Adopting(bus)
    with closing(core_of(store, bus, **SOON)) as core:
        core.ask_for_pending().wait()
        assert len(store.calls_at) == 5
        assert adopting(core).wait(5.0)
        core.keep_adopting(None)
    del store.calls_at[10:]
    assert [calls[-1:] for calls in store.calls_at] == [[], *([f"call-{number}"] for number in range(1, 10))]


class Elsewhere(MemoryStore):
    """Another process has the rows of a call that succeeded there."""

    async def take_over(self, calls: Collection[str]) -> None:
        recorded = Recorded(key="k", result=msgspec.Raw(b"7"), until=2e9)
        event = OperationSucceeded(at=1.0, operation="render", call="a", recorded=recorded)
        started, ended = journals.rows_of([journals.started("a"), event], run="other")
        await self.append([started, msgspec.structs.replace(ended, result_key=result_key("render", "k"))])


def test_a_call_that_is_taken_over_is_known_with_its_result() -> None:
    with closing(core_of(Elsewhere())) as core:
        before = core.lookup.result("render", "k")
        assert isinstance(before, Query)
        assert before.wait() is None
        assert core.lookup.result("render", "k") is None  # it is known now that there is none
        record = core.ask(Query(lambda store: core.lookup.taken_over(store, "a"))).wait()
        assert record is not None
        assert (record.state, record.run) == ("succeeded", "other")
        found = core.lookup.result("render", "k")
        assert isinstance(found, Query)
        recorded = found.wait()
        assert recorded is not None
        assert bytes(recorded.result) == b"7"


def test_commits_do_not_wait_for_all_queries() -> None:
    order: list[str] = []

    class Noting(MemoryStore):
        async def append(self, rows: Sequence[Row]) -> None:
            await super().append(rows)
            order.append("batch")

    has_begun = threading.Event()

    async def slow(_: Store) -> None:
        has_begun.set()
        await asyncio.sleep(0.011)  # two of them take the time of one turn
        order.append("answer")

    bus = Bus()
    with closing(core_of(Noting(), bus)) as core:
        core.pending(5.0)
        queries = [core.ask(Query(slow)) for _ in range(20)]
        assert has_begun.wait(5.0)
        bus.publish(OperationResumed(at=1.0, operation="render", call="a"))
        core.tracker.receipt().wait(5.0)
        assert order.count("answer") < len(queries) / 2
        for query in queries:
            query.wait()
    assert order.count("answer") == len(queries)


def test_queries_are_answered_before_the_journal_is_closed() -> None:
    async def slow(_: Store) -> str:
        await asyncio.sleep(0.011)
        return "known"

    core = core_of(MemoryStore())
    core.pending(5.0)
    queries = [core.ask(Query(slow)) for _ in range(8)]
    core.close()
    assert [query.wait() for query in queries] == ["known"] * 8
