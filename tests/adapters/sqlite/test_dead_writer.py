"""The process that wrote the journal's own file died: a process with a side file goes on with its calls."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from adapters.journals.status import read_status
from adapters.sqlite import files
from adapters.sqlite.adoption import Adoption, Slice
from adapters.sqlite.connection import write
from adapters.sqlite.lock import Lock
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from recovery.journal.history import Run
from recovery.journal.store import Row
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few

pytestmark = pytest.mark.anyio

HEIR = Run(id="heir", boot="boot", monotonic=3.0, wall=4.0, pid=5)
NEXT = Run(id="next", boot="boot", monotonic=6.0, wall=7.0, pid=8)
LEFT = [journals.started("a"), journals.started("b"), journals.started("over"), journals.succeeded("over")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


Write: TypeAlias = Callable[[Path, Sequence[Row]], None]


async def leave(path: Path, events: Sequence[Event] = LEFT, write: Write = journals.write_and_die) -> None:
    """Leave *events* in the journal's own file, as a process that was killed."""
    await anyio.to_thread.run_sync(write, path, journals.rows_of(events))


def contents(path: Path) -> dict[str, str]:
    return {name: found for name, found in journals.contents(path.parent).items() if name.startswith(path.name)}


@contextmanager
def written_by_another(path: Path) -> Iterator[None]:
    lock = Lock(path)
    assert lock.take()
    yield
    lock.release()


async def heir_of(path: Path) -> SQLiteStore:
    """A store that writes a side file, since another process had the journal's own, and died then."""
    store = SQLiteStore(path)
    with written_by_another(path):
        await store.open(HEIR)
    assert store.own != path
    return store


def ended(*calls: str, run: str = HEIR.id) -> list[Row]:
    return journals.rows_of([journals.succeeded(call) for call in calls], run=run)


async def unfinished(store: SQLiteStore) -> list[str]:
    return [row.call for row in (await store.unfinished())[1]]


async def pending_in(path: Path) -> list[str]:
    """What a process finds that opens the journal now."""
    store = SQLiteStore(path)
    try:
        await store.open(NEXT)
        await journals.adopted(store)
        return await unfinished(store)
    finally:
        await store.close()


@pytest.mark.parametrize("write", [journals.write, journals.write_and_die])
async def test_what_a_dead_writer_left_is_copied_and_its_file_not_touched(write: Write, path: Path) -> None:
    await leave(path, write=write)
    heir = await heir_of(path)
    before = contents(path)
    assert await journals.adopted(heir)
    assert await unfinished(heir) == ["a", "b"]
    assert [run.id for run in (await heir.unfinished())[0]] == [HEIR.id, journals.DEAD.id]
    assert await heir.history("over") == []
    assert not await journals.adopted(heir)
    await heir.close()
    assert contents(path) == before


async def test_no_third_process_writes_the_file_of_a_dead_writer_while_its_heir_lives(path: Path) -> None:
    await leave(path)
    heir = await heir_of(path)
    await journals.adopted(heir)
    third = SQLiteStore(path)
    await third.open(NEXT)
    assert third.own != path
    assert not await journals.adopted(third)
    assert await unfinished(third) == []
    await heir.append(ended("a"))
    await heir.close()
    assert await journals.adopted(third)
    assert await unfinished(third) == ["b"]
    await third.close()
    assert await pending_in(path) == ["b"]


async def test_the_next_process_finds_ended_what_the_heir_has_ended(path: Path) -> None:
    await leave(path)
    heir = await heir_of(path)
    await journals.adopted(heir)
    await heir.append(ended("a"))
    await heir.close()
    assert await pending_in(path) == ["b"]
    assert not files.side_files(path)


async def test_a_call_that_goes_on_in_the_file_of_a_living_process_is_not_pending(path: Path) -> None:
    """Its heir died, and was adopted by a process that lives, while another one opened the journal's own file."""
    await leave(path)
    side = files.folder_of(path) / "living.db"
    await anyio.to_thread.run_sync(journals.write, side, journals.rows_of(LEFT[:1]), ended("a", run="earlier"))
    with written_by_another(side):
        assert await pending_in(path) == ["b"]
        heir = await heir_of(path)
        await journals.adopted(heir)
        assert await heir.history("a") == []
        assert await unfinished(heir) == ["b"]
        await heir.close()
    assert await pending_in(path) == ["b"]


async def test_a_forked_child_leaves_the_journal_to_its_parent(path: Path) -> None:
    await leave(path)
    child = SQLiteStore(path).forked()  # as in a child: the parent is the process that started this one
    await child.open(HEIR)
    assert not await journals.adopted(child)
    await child.close()


async def test_a_damaged_file_of_a_dead_writer_is_left_to_the_next_process(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"garbage" * 1000)
    heir = await heir_of(path)
    for _ in range(3):
        assert not await journals.adopted(heir)
    assert caplog.text.count("the file of a dead process is not adopted") == 1
    assert await pending_in(path) == []
    assert [one.name for one in path.parent.glob("calls.db.damaged-*")]
    await heir.close()


STEPS = 6


@pytest.mark.parametrize("at", range(1, STEPS + 1))
async def test_d3_a_copy_that_breaks_off_loses_and_divides_no_call(at: int, path: Path) -> None:
    calls = [f"c-{number}" for number in range(400)]
    events = [journals.started(call) for call in calls]
    await leave(path, events * 3)
    own = files.folder_of(path) / "heir.db"
    own.parent.mkdir()
    steps = itertools.count(1)

    def step() -> None:
        if next(steps) == at:
            raise KeyboardInterrupt  # as good as a kill: nothing is written afterwards

    async with journals.opened(own) as connection:

        async def copy(one: Slice) -> None:
            await write(connection, one)
            step()

        async def sync() -> None:
            step()

        adoption = Adoption(path, copy, sync)
        try:
            await adoption.run(own, seconds=60.0)
            assert at == STEPS
        except KeyboardInterrupt:
            assert at < STEPS
        adoption.release()
        with journals.plain(own) as plain:
            copied = Counter(call for (call,) in plain.execute("SELECT call FROM events"))
    assert set(copied.values()) <= {3}
    assert len(copied) == min((at - 1) * 167, 400)
    assert Counter(await pending_in(path)) == dict.fromkeys(calls, 3)


# Real processes

JOBS = 6

SCRIPT = (
    f"""JOBS = {JOBS}"""
    + """
import os, signal, sys, threading
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitHalfOpened
from recovery.service import Recovery

path, log, role, die_at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
steps = -1000  # they count from "up" on

def step():
    global steps
    steps += 1
    if steps == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

def note(*words):
    with open(log, "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

class Dying(SQLiteStore):
    async def append(self, rows):
        step()
        await super().append(rows)
        step()

    async def sync(self):
        step()
        await super().sync()
        step()

    async def adopt(self, wants=None):
        found = await super().adopt(wants)
        step()
        return found

service = Recovery(store=Dying(path))

@service.recoverable("job", resumable=True, durability="strict")
def job(number):
    note("begin", number)
    if role == "first":
        threading.Event().wait()

with service:
    service.bus.publish(CircuitHalfOpened(at=0.0, operation="none"))
    service.journal.receipt().wait(10)  # the file is open
    steps = 0
    if role == "first":
        for number in range(JOBS):
            threading.Thread(target=job, args=(number,), daemon=True).start()
    print("up", flush=True)
    sys.stdin.readline()
    resumption = service.resume()
    resumption.loaded.wait(10)
    for call in resumption.calls:
        call.wait(10)
        note("end", call.record.arguments.decode()[2])
"""
)


class Process:
    """Opens the journal; ``go`` has it resume what it finds. It kills itself at the step *die_at* of its store."""

    def __init__(self, path: Path, role: str, die_at: int = 0) -> None:
        command = [sys.executable, "-c", SCRIPT, str(path), str(path.with_name("log")), role, str(die_at)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def go(self) -> int:
        self._process.communicate("\n", timeout=20)
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def notes(path: Path) -> list[str]:
    log = path.with_name("log")
    return log.read_text().splitlines() if log.exists() else []


KILLS = [*itertools.product([1, 3, 5, 8, 11], ["living", "new"])]


@pytest.mark.parametrize(("die_at", "successor"), few(KILLS, (3, "new")))
@pytest.mark.slow
def test_d3_after_a_kill_of_the_heir_nothing_is_lost_or_done_twice(die_at: int, successor: str, path: Path) -> None:
    first = Process(path, "first")
    eventually(lambda: len(notes(path)) == JOBS)
    heir, living = Process(path, "heir", die_at), Process(path, "living")
    first.kill()
    assert heir.go() == -signal.SIGKILL
    if successor == "living":
        assert living.go() == 0
        done = len(notes(path))
    else:
        living.kill()
    assert Process(path, "new").go() == 0
    said = notes(path)
    if successor == "living":
        assert len(said) == done  # nothing was left
    for number in range(JOBS):
        ours = [word for word, whose in map(str.split, said) if whose == str(number)]
        assert "begin" not in ours[ours.index("end") :] if "end" in ours else True
        assert ours.count("begin") <= 3  # by the first, the heir, and its successor
    status = asyncio.run(read_status(path))
    assert [call.state for call in status.calls] == ["succeeded"] * JOBS
    assert not files.side_files(path)
