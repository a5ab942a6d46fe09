"""A service that lives resumes what other processes leave that die later."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from adapters.journals.status import read_status
from adapters.sqlite import files
from adapters.sqlite.lock import Lock
from adapters.sqlite.store import SQLiteStore
from events.operation_events import OperationResumed
from recovery import context
from recovery.journal.config import JournalConfig
from recovery.journal.history import Run
from recovery.journal.store import Row, Wants
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import SETTINGS

SOON = JournalConfig(adopt_every=0.005, command_interval=0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def leave(path: Path, *calls: str, process: str = "dead", operation: str = "work", to: Path | None = None) -> None:
    """Leave *calls*, each with its id as its argument, in the side file of a process that was killed, or in *to*."""
    started = [
        msgspec.structs.replace(
            journals.started(call, operation), arguments=msgspec.Raw(b'[["%s"],{}]' % call.encode())
        )
        for call in calls
    ]
    run = Run(id=process, boot="boot", monotonic=1.0, wall=2.0, pid=6)
    journals.write_and_die(
        to or files.folder_of(path) / f"{process}.db", journals.rows_of(started, run=process), run=run
    )


def test_d20_a_living_service_resumes_in_threads_what_is_left_later(path: Path) -> None:
    with Recovery(store=SQLiteStore(path), journal_config=SOON) as service:
        service.recoverable("work", **SETTINGS)(str.upper)
        resumption = service.resume()
        assert resumption.wait(5.0)
        assert resumption.calls == []
        for call in "abc":
            leave(path, call, process=f"of {call}")
            eventually(lambda one=call: [handle.record.call for handle in resumption.calls][-1:] == [one])
        assert resumption.wait(5.0)
        assert [handle.result for handle in resumption.calls] == ["A", "B", "C"]
    assert not files.side_files(path)


@pytest.mark.anyio
async def test_d20_a_living_service_resumes_in_tasks_what_is_left_later(path: Path) -> None:
    seen: list[str] = []

    async def work(call: str) -> str:
        seen.append(call)
        return call.upper()

    with anyio.fail_after(10.0):
        async with Recovery(store=SQLiteStore(path), journal_config=SOON, rng=lambda: 0.5) as service:
            events = events_of(service, OperationResumed)
            service.recoverable("work", **SETTINGS)(work)
            resumption = await service.resume()
            await anyio.to_thread.run_sync(leave, path, "a", "b", "c")
            while len(seen) < 3:
                await anyio.sleep(0.005)
            await resumption
            assert {handle.record.call: handle.result for handle in resumption.calls} == dict(
                zip("abc", "ABC", strict=True)
            )
    # They do not start all at once.
    assert sorted(event.after for event in events if isinstance(event, OperationResumed)) == [0.0, 0.02, 0.02]


class Looking(SQLiteStore):
    """Counts its looks for dead processes."""

    looks = 0

    async def adopt(self, wants: Wants | None = None) -> bool:
        self.looks += 1
        return await super().adopt(wants)


def test_calls_that_a_living_service_cannot_resume_are_left_to_another(path: Path) -> None:
    async def later(_: str) -> None: ...

    seen: list[str] = []
    store = Looking(path)
    with Recovery(store=store, journal_config=SOON) as service:
        resumption = service.resume()
        assert resumption.wait(5.0)
        service.recoverable("async", **SETTINGS)(later)
        service.recoverable("other version", **SETTINGS, version="2")(seen.append)
        service.recoverable("work", **SETTINGS)(seen.append)
        for name in ("async", "other version", "undefined"):
            leave(path, f"of {name}", process=name, operation=name)
        leave(path, "a", process="plain")
        eventually(lambda: "a" in seen)
        looks = store.looks
        eventually(lambda: store.looks > looks + 3)
        assert {one.name for one in files.side_files(path)} >= {"async.db", "other version.db", "undefined.db"}
        assert resumption.left == []
        service.recoverable("undefined", **SETTINGS)(seen.append)
        eventually(lambda: "of undefined" in seen)


def test_the_file_of_the_journal_is_released_where_its_calls_cannot_be_resumed(path: Path) -> None:
    leave(path, "a", to=path)
    store, first, seen = Looking(path), Lock(path), list[str]()
    assert first.take()  # as the process that writes the journal's own file
    with Recovery(store=store, journal_config=SOON) as service:
        assert service.resume().wait(5.0)
        first.release()
        looks = store.looks
        eventually(lambda: store.looks > looks + 3)
        eventually(first.take)
        first.release()
        service.recoverable("work", **SETTINGS)(seen.append)
        eventually(lambda: seen == ["a"])
        assert not first.take()


def counted(path: Path) -> tuple[list[str], dict[str, int]]:
    """The states of the calls that the status shows, and how many others it counts."""
    status = anyio.run(read_status, path)
    return [call.state for call in status.calls], status.more


def test_a_call_that_is_taken_over_is_counted_once(path: Path) -> None:
    leave(path, "a", to=path)
    first, begun, go_on = Lock(path), threading.Event(), threading.Event()
    assert first.take()  # as the process that writes the journal's own file

    def work(_: str) -> None:
        begun.set()
        go_on.wait(5.0)

    with Recovery(store=SQLiteStore(path), journal_config=SOON) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert resumption.wait(5.0)
        first.release()
        assert begun.wait(5.0)
        eventually(lambda: counted(path) == (["running"], {}))
        go_on.set()
        assert resumption.wait(5.0)
    assert counted(path) == (["succeeded"], {})


def test_calls_that_are_left_one_after_another_have_four_threads(path: Path) -> None:
    go_on, inside = threading.Event(), threading.Semaphore(0)
    most = running = 0

    def work(_: str) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        inside.release()
        assert go_on.wait(10.0)
        running -= 1

    with Recovery(store=SQLiteStore(path), journal_config=SOON) as service:
        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert resumption.wait(5.0)
        for number in range(3):
            leave(path, f"{number}-a", f"{number}-b", process=f"dead {number}")
            eventually(lambda many=2 * number + 2: len(resumption.calls) == many)
        for _ in range(4):
            assert inside.acquire(timeout=5.0)
        assert not inside.acquire(timeout=0.005)
        go_on.set()
        assert resumption.wait(5.0)
    assert most == 4


class Late(SQLiteStore):
    """Adopts a file only when a caller goes on with a call of it, and counts how often pending calls are read."""

    may_adopt = False
    reads = 0

    async def adopt(self, wants: Wants | None = None) -> bool:
        return await super().adopt(wants) if self.may_adopt else False

    async def take_over(self, calls: Collection[str]) -> None:
        await super().take_over(calls)
        self.may_adopt = True

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        self.reads += 1
        return await super().unfinished()


def test_d16_a_call_that_a_caller_goes_on_with_is_not_resumed_beside_it(path: Path) -> None:
    store, seen, main = Late(path), list[str](), threading.current_thread()
    has_waited = False

    def clock() -> float:
        nonlocal has_waited
        if store.may_adopt and not has_waited and threading.current_thread() is main:
            has_waited = True
            eventually(lambda: store.reads == 2)  # before it is written that the caller goes on with the call
            service.resume()  # at the latest now it knows what was adopted
        return time.monotonic()

    with Recovery(store=store, clock=clock, journal_config=SOON) as service:
        work = service.recoverable("work", **SETTINGS)(lambda _: seen.append(context.key()))
        resumption = service.resume()
        assert resumption.wait(5.0)
        assert store.reads == 1
        leave(path, "a")
        work("a")
        assert (seen, has_waited, resumption.calls, resumption.left) == (["a"], True, [], [])
        work("a")
    assert len(set(seen)) == 2


@pytest.mark.anyio
async def test_d16_a_call_that_caller_and_resumption_find_is_run_once_for_both(path: Path) -> None:
    store, seen = Late(path), list[str]()

    async def body(_: str) -> str:
        seen.append(context.key())
        return "done"

    async with Recovery(store=store, journal_config=SOON) as service, anyio.create_task_group() as group:
        work = service.recoverable("work", **SETTINGS)(body)
        resumption = await service.resume()
        await anyio.to_thread.run_sync(leave, path, "a")

        async def find_it_first() -> None:
            while not store.may_adopt:
                await anyio.sleep(0)
            eventually(lambda: store.reads == 2)  # the caller has its answer, and the loop is busy
            service.resume()

        group.start_soon(find_it_first)
        assert await work("a") == "done"
        with anyio.fail_after(5.0):
            await resumption
        assert [handle.result for handle in resumption.calls] in (["done"], [])
        assert await work("a") == "done"
    assert (len(seen), seen[0], seen[1] != "a") == (2, "a", True)
