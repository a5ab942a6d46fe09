"""A journal looks again for calls that other processes left, and takes over single ones."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import msgspec

from adapters.memory import MemoryStore
from adapters.sqlite import files
from adapters.sqlite.store import SQLiteStore
from events.bus import Bus
from events.operation_events import OperationResumed, OperationSucceeded, Recorded
from recovery.journal.history import Run, result_key
from recovery.journal.store import Query
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recovery.journal.stores import core_of


def leave(path: Path, name: str, *calls: str) -> None:
    """Leave *calls* in the side file of a process that was killed."""
    rows = journals.rows_of([journals.started(call) for call in calls], run=name)
    run = Run(id=name, boot="boot", monotonic=1.0, wall=2.0, pid=6)
    journals.write_and_die(files.folder_of(path) / f"{name}.db", rows, run=run)


def test_a_later_look_finds_what_was_left_since(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    leave(path, "one", "a")
    with closing(core_of(SQLiteStore(path))) as core:
        assert [record.call for record in core.pending(5.0).calls] == ["a"]
        leave(path, "two", "b")
        assert [record.call for record in core.pending(5.0).calls] == ["a"]
        found = core.look_again().wait()
        assert found is not None
        assert [record.call for record in found.calls] == ["a", "b"]
        assert core.pending(5.0) == found
        assert found.runs.keys() >= {"one", "two"}


def test_a_call_that_began_here_is_not_pending_in_a_later_look(tmp_path: Path) -> None:
    path, bus = tmp_path / "calls.db", Bus()
    leave(path, "one", "a", "b")
    with closing(core_of(SQLiteStore(path), bus)) as core:
        core.pending(5.0)
        bus.publish(OperationResumed(at=1.0, operation="render", call="a"))
        found = core.look_again().wait()
        assert found is not None
        assert [record.call for record in found.calls] == ["b"]


class Failing(SQLiteStore):
    """Adopts, and then fails while *fails*."""

    fails = False

    async def adopt(self) -> bool:
        found = await super().adopt()
        if self.fails:
            raise OSError("input/output error")
        return found


def test_a_look_that_fails_has_no_answer_and_the_next_finds_all(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = Failing(path)
    with closing(core_of(store, first_pause=0.001)) as core:
        core.pending(5.0)
        leave(path, "one", "a")
        store.fails = True
        assert core.look_again().wait() is None
        assert core.pending(5.0).calls == ()
        store.fails = False
        eventually(lambda: core.writer.reason is None)
        found = core.look_again().wait()
        assert found is not None
        assert [record.call for record in found.calls] == ["a"]


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
        record = core.lookup.take_over("a").wait()
        assert record is not None
        assert (record.state, record.run) == ("succeeded", "other")
        found = core.lookup.result("render", "k")
        assert isinstance(found, Query)
        recorded = found.wait()
        assert recorded is not None
        assert bytes(recorded.result) == b"7"
