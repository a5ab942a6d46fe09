"""A wall clock that jumps costs next to nothing: within a boot the monotonic clock counts (D17)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from adapters.sqlite.files import folder_of
from adapters.sqlite.reading import reading
from adapters.sqlite.retention import SLICE, Retention
from adapters.sqlite.store import SQLiteStore
from recovery.journal.history import Run
from tests.adapters.sqlite import journals
from tests.slow import few

DAY = 86400.0
JUMPS = {"ten years ahead": 3650 * DAY, "ten years back": -3650 * DAY, "eight days ahead": 8 * DAY, "a day ahead": DAY}
FEW_JUMPS = ("ten years back", "eight days ahead")
WALL = 1_700_000_000.0


class Machine:
    """A machine whose clocks are set by hand, and the processes that write the journal on it, one after another."""

    def __init__(self, path: Path, keep: Retention = Retention()) -> None:  # noqa: B008  # it is frozen
        self.path = path
        self.keep = keep
        self.wall = WALL
        self.monotonic = 1000.0
        self.boot = "first"
        self.starts = 0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def reboots(self, jump: float = 0.0) -> None:
        self.boot += "+"
        self.monotonic = 10.0
        self.wall += 60.0 + jump

    def run(self) -> Run:
        self.starts += 1
        return Run(id=f"r{self.starts}", boot=self.boot, monotonic=self.monotonic, wall=self.wall, pid=self.starts)

    def store(self) -> SQLiteStore:
        wall, monotonic = (lambda: self.wall), (lambda: self.monotonic)
        return SQLiteStore(self.path, retention=self.keep, wall=wall, monotonic=monotonic)

    def starts_process(self, work: Callable[[SQLiteStore, str], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            store, run = self.store(), self.run()
            await store.open(run)
            await work(store, run.id)
            await store.close()

        asyncio.run(main())

    def ends(self, calls: int) -> None:
        """A process in which that many calls succeed."""

        async def work(store: SQLiteStore, run: str) -> None:
            names = [f"{run}-{number}" for number in range(calls)]
            events = [event for call in names for event in (journals.started(call), journals.succeeded(call))]
            await store.append(journals.rows_of(events, run=run))

        self.starts_process(work)

    def prunes(self) -> None:
        """A process that deletes all that it may."""

        async def work(store: SQLiteStore, _: str) -> None:
            for _ in range(100):
                await store.prune()
                self.passes(60.0)

        self.starts_process(work)

    @property
    def rows(self) -> int:
        async def main() -> int:
            async with reading(self.path) as reader:
                return len(await reader.rows())

        return asyncio.run(main())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "calls.db")


@pytest.mark.parametrize("jump", few(JUMPS, *FEW_JUMPS))
@pytest.mark.slow
def test_d17_a_jump_within_a_boot_deletes_nothing(machine: Machine, jump: str) -> None:
    machine.ends(1500)
    machine.wall += JUMPS[jump]
    for _ in range(3):
        machine.prunes()
    machine.ends(1)
    assert machine.rows == 3002


@pytest.mark.parametrize("jump", few(JUMPS, *FEW_JUMPS))
@pytest.mark.slow
def test_d17_a_jump_between_boots_deletes_at_most_one_slice(machine: Machine, jump: str) -> None:
    machine.ends(1500)
    machine.reboots(JUMPS[jump])
    machine.prunes()
    assert 3000 - SLICE <= machine.rows <= 3000
    machine.prunes()
    machine.wall -= JUMPS[jump]
    machine.prunes()
    machine.reboots()
    machine.prunes()
    assert machine.rows >= 3000 - SLICE


def test_d17_a_jump_while_a_process_runs_deletes_nothing(machine: Machine) -> None:
    async def work(store: SQLiteStore, run: str) -> None:
        await store.append(journals.rows_of([journals.started("a"), journals.succeeded("a")], run=run))
        machine.wall += 3650 * DAY
        for _ in range(5):
            assert not await store.prune()

    machine.starts_process(work)
    assert machine.rows == 2


def test_d17_a_jump_between_two_processes_of_a_boot_is_no_age_when_one_adopts_the_other(machine: Machine) -> None:
    async def work(store: SQLiteStore, run: str) -> None:
        machine.wall -= 30 * DAY
        other, side = machine.store(), machine.run()
        await other.open(side)
        assert other.own.parent == folder_of(machine.path)
        await other.append(journals.rows_of([journals.started("a"), journals.succeeded("a")], run=side.id))
        await other.close()
        assert await journals.adopted(store)
        for _ in range(5):
            await store.prune()

    machine.starts_process(work)
    assert machine.rows == 2


def test_d17_calls_become_too_old_as_time_really_passes(machine: Machine) -> None:
    machine.ends(1000)

    async def work(store: SQLiteStore, _: str) -> None:
        machine.passes(6.9 * DAY)
        assert not await store.prune()
        machine.passes(0.2 * DAY)
        while await store.prune():
            pass

    machine.starts_process(work)
    assert machine.rows == 0


def test_d17_what_became_too_old_while_no_process_ran_goes_slice_by_slice(machine: Machine) -> None:
    machine.ends(500)
    for left in (500, 0, 0):
        machine.reboots(30 * DAY)
        machine.prunes()
        assert machine.rows == left


def test_d17_too_many_calls_are_deleted_by_any_clock(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "calls.db", Retention(calls=100))
    machine.ends(1500)
    machine.reboots(-3650 * DAY)
    machine.prunes()
    assert machine.rows == 200
