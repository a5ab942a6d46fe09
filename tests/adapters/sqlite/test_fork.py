"""A forked child never touches what its parent has open, and gets a file of its own (D13)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from adapters.journals.status import read_status
from adapters.memory import MemoryStore
from adapters.sqlite.lock import Lock
from adapters.sqlite.reading import reading
from adapters.sqlite.store import SQLiteStore
from events.operation_events import OperationQuarantined, OperationStarted, RetryScheduled
from recovery.journal.store import CommandSink
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite.test_kill import eventually

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

BEGIN = """
import json, multiprocessing, os, subprocess, sys, threading, time, traceback, warnings
warnings.simplefilter("ignore")  # forking with threads is the point
from adapters.sqlite.store import SQLiteStore
from events.operation_events import GaveUp
from recovery.service import Recovery

path = sys.argv[1]
store = SQLiteStore(path)
service = Recovery(store=store)
journal = service.journal

def publish(name, count):
    for number in range(count):
        service.bus.publish(GaveUp(at=0.0, operation="fetch", call=f"{name}-{number}"))

def wait_for(child):
    for _ in range(2000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    return "it hung"
"""

FORK = """
def child(name):
    code = 1
    try:
        publish(name, 100)
        journal.receipt().wait(5.0)
        service.close()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

is_over = threading.Event()
counts = [0, 0]
def busy(index):  # commits are in flight all the time
    while not is_over.is_set():
        publish(f"parent-{index}-{counts[index]}", 1)
        counts[index] += 1
        if counts[index] % 16 == 0:
            journal.receipt().wait(5.0)

with service:
    threads = [threading.Thread(target=busy, args=(index,)) for index in range(2)]
    for thread in threads: thread.start()
    codes = []
    for number in range(6):
        time.sleep(0.01)
        pid = os.fork()
        if not pid:
            child(f"child-{number}")
        codes.append(wait_for(pid))
    is_over.set()
    for thread in threads: thread.join()
    journal.receipt().wait(5.0)
    dropped = journal.counts.dropped
    print(json.dumps({"codes": codes, "parent": sum(counts), "run": service.bus.run, "dropped": dropped}))
"""

# Forked before the parent's journal has opened its file.
MULTIPROCESSING = """
class Late(SQLiteStore):
    async def open(self, run):
        time.sleep(0.1 if os.getpid() == parent else 0.0)
        return await super().open(run)

parent = os.getpid()
service = Recovery(store=Late(path))
journal = service.journal

def work():
    publish("child", 50)  # closed by the journal's own watcher when the process ends

with service:
    publish("before", 50)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    publish("after", 50)
    process.join(10)
    journal.receipt().wait(5.0)
    dropped = journal.counts.dropped
    print(json.dumps({"codes": [process.exitcode], "parent": 100, "run": service.bus.run, "dropped": dropped}))
"""

# A pool of processes forks a worker's successor from a daemon thread, which is then the child's main thread.
FROM_DAEMON = """
def fork():
    process = multiprocessing.get_context("fork").Process(target=lambda: publish("child", 50))
    process.start()
    process.join(10)
    codes.append(process.exitcode)

codes = []
thread = threading.Thread(target=fork, daemon=True)
with service:
    publish("before", 50)
    thread.start()
    thread.join()
    publish("after", 50)
    journal.receipt().wait(5.0)
    dropped = journal.counts.dropped
    print(json.dumps({"codes": codes, "parent": 100, "run": service.bus.run, "dropped": dropped}))
"""

# Each lock that a service makes is held by a thread while the process forks.
HELD = """
locks, makers = [], (threading.Lock, threading.RLock)

def recorded(make):
    def lock():
        locks.append(make())
        return locks[-1]
    return lock

threading.Lock, threading.RLock = map(recorded, makers)
service = Recovery(store=store)
threading.Lock, threading.RLock = makers
journal = service.journal
call = service.recoverable("fetch", resumable=True, initial_delay=0.0, max_retries=1)(lambda: 1 / 0)
with service:
    publish("before", 10)
    journal.receipt().wait(5.0)
    codes = []
    for lock in list(locks):
        taken, free = threading.Event(), threading.Event()
        def hold(lock=lock):
            with lock:
                taken.set()
                free.wait(20)
        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait()
        pid = os.fork()
        if not pid:
            publish("child", 5)
            service.bus.subscribe(GaveUp, print).close()
            try:
                call()
            except ZeroDivisionError:
                pass
            journal.receipt().wait(5.0)
            os._exit(0)
        codes.append(wait_for(pid))
        free.set()
        holder.join()
    print(json.dumps({"codes": codes}))
"""

EXEC = """
with service:
    publish("before", 1)
    journal.receipt().wait(5.0)
    child = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        close_fds=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
os.close(os.dup(1))
with Recovery(store=store) as second:
    second.journal.pending(5.0)
    is_first = str(store.own) == path
child.communicate(b"")
print(json.dumps({"codes": [0 if is_first else 1]}))
"""

# SQLite at work on another thread: a function of ours that it calls says when.
AT_WORK = """
import asyncio
from adapters.sqlite.connection import connecting

async def work(begun, may_end, ended):
    async with connecting(":memory:") as connection:
        def slow():
            begun.set()
            may_end.wait(20.0)
            ended.append(True)
        await connection.create_function("slow", 0, slow)
        await connection.execute("SELECT slow()")

codes = []
for is_waited_for in (True, False):
    begun, may_end, ended = threading.Event(), threading.Event(), []
    thread = threading.Thread(target=lambda: asyncio.run(work(begun, may_end, ended)))
    thread.start()
    begun.wait()
    if is_waited_for:
        threading.Timer(0.1, may_end.set).start()
    pid = os.fork()
    if not pid:
        os._exit(0 if bool(ended) == is_waited_for else 1)
    codes.append(wait_for(pid))
    may_end.set()
    thread.join()
print(json.dumps({"codes": codes}))
"""


class Report(msgspec.Struct):
    codes: list[int | str]
    parent: int = 0
    run: str = ""
    dropped: int = 0


def run(script: str, path: Path) -> Report:
    command = [sys.executable, "-c", BEGIN + script, str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    sys.stderr.buffer.write(done.stderr)  # shown when a test fails
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)


def calls_in(path: Path) -> list[tuple[str, str]]:
    async def main() -> list[tuple[str, str]]:
        async with reading(path) as reader:
            return [(row.run, row.call) for row in await reader.rows() if row.kind == "GaveUp" and row.is_readable]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "children"),
    [(FORK, [100] * 6), (MULTIPROCESSING, [50]), (FROM_DAEMON, [50])],
    ids=["fork", "processes", "a daemon thread"],
)
def test_d13_a_forked_child_writes_its_own_file_and_its_parent_goes_on(
    script: str, children: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "calls.db"
    report = run(script, path)
    assert report.codes == [0] * len(children)
    assert report.dropped == 0
    ours = calls_in(path)
    assert {one for one, _ in ours} == {report.run}
    assert len(ours) == len(set(ours)) == report.parent
    parts = sorted((tmp_path / "calls.db.d").glob("*.db"))
    assert sorted(len(calls_in(part)) for part in parts) == sorted(children)
    assert all({run for run, _ in calls_in(part)} == {part.stem} for part in parts)

    before = asyncio.run(read_status(path, show_all=True))
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        service.resume().wait(10.0)
    assert not list((tmp_path / "calls.db.d").glob("*.db*"))
    assert len(calls_in(path)) == report.parent + sum(children)
    assert (
        len(before.calls) == len(asyncio.run(read_status(path, show_all=True)).calls) == report.parent + sum(children)
    )


@pytest.mark.slow
def test_d13_a_forked_child_waits_for_no_lock_of_another_thread(tmp_path: Path) -> None:
    codes = run(HELD, tmp_path / "calls.db").codes
    assert len(codes) >= 5
    assert codes == [0] * len(codes)


@pytest.mark.slow
def test_d13_a_fork_waits_for_sqlite_but_not_for_long(tmp_path: Path) -> None:
    """In a child that is forked meanwhile, each call of SQLite may hang: its locks stay taken."""
    assert run(AT_WORK, tmp_path / "calls.db").codes == [0, 0]


def test_d13_a_program_that_was_started_does_not_hold_the_lock(tmp_path: Path) -> None:
    assert run(EXEC, tmp_path / "calls.db").codes == [0]


def forked(in_child: Callable[[], bool]) -> bool:
    """Whether *in_child* is true in a forked child."""
    pid = os.fork()
    if not pid:
        os._exit(0 if in_child() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_d13_a_forked_child_holds_no_lock_of_its_parent(tmp_path: Path) -> None:
    lock, again = Lock(tmp_path / "adopting"), Lock(tmp_path / "adopting")
    assert lock.take()
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.write(ready[1], b".")
        os.close(done[1])
        os.read(done[0], 1)  # until the parent is done
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert not again.take()  # but the parent does
        lock.release()
        assert again.take()
    finally:
        os.close(done[1])
        os.waitpid(pid, 0)
        again.release()


def test_d13_the_child_of_a_closed_service_stays_closed(tmp_path: Path) -> None:
    with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
        call = service.recoverable("job", durability="strict")(lambda: 1)
        call()
    assert service.journal is not None
    assert service.journal.counts.stored > 0
    assert forked(lambda: call() == 1 and service.journal is not None and service.journal.counts.stored == 0)


class Inbox(MemoryStore):
    """Remembers how the journal says which commands are for this process."""

    def is_ours(self, call: str) -> bool:
        return False

    async def commands(self, sink: CommandSink) -> bool:
        self.is_ours = sink.concerns  # type: ignore[method-assign]
        return False


def test_d13_a_forked_child_takes_no_commands_of_its_parent() -> None:
    store, begun = Inbox(), threading.Event()
    with Recovery(store=store, run="old") as service:
        assert service.journal is not None
        service.operation("job", durability="journal")
        for number, kind in ((1, OperationStarted), (1, OperationQuarantined)):
            arguments = {"arguments": msgspec.Raw(b"[[],{}]")} if kind is OperationStarted else {}
            service.bus.publish(kind(at=0.0, operation="job", call=f"old-{number}", **arguments))
    with Recovery(store=store) as service:
        service.bus.subscribe(RetryScheduled, lambda _: begun.set())
        service.recoverable("job", resumable=True)(lambda: None)
        resumption = service.resume()
        assert resumption.wait(10.0)
        call = service.recoverable("waits", initial_delay=20.0)(Script(ConnectionError()))
        threading.Thread(target=call, daemon=True).start()
        assert begun.wait(10.0)
        eventually(service.calls.waiting)
        calls = [service.calls.waiting()[0].call, resumption.quarantined[0].call]
        eventually(lambda: all(map(store.is_ours, calls)))
        assert forked(lambda: not any(map(store.is_ours, calls)))
        assert forked(lambda: service.resume() is not resumption)
        service.calls.retry_now(calls[0])
