"""The journal lives as long as a thread that the interpreter waits for, and keeps no process from ending (D12)."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.adapters.sqlite import journals
from tests.slow import few

BEGIN = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from adapters.sqlite.store import SQLiteStore
from recovery.service import Recovery

service = Recovery(store=SQLiteStore(sys.argv[1]))

def work(number=10):
    for number in range(number):
        call(number)
        time.sleep(0.03)

def fail(number):
    raise ConnectionError

def main_has_ended():
    threading.main_thread().join()
    time.sleep(0.1)
"""
STRICT = 'call = service.recoverable("work", durability="strict")(lambda number: number)\n'
OUTLIVING = {
    "a thread": "threading.Thread(target=work).start()",
    "a thread of a service of its own": """
def whole():
    with service:
        work()
threading.Thread(target=whole).start()""",
    "a thread that starts another": "threading.Thread(target=lambda: threading.Thread(target=work).start()).start()",
    "a thread whose first call comes late": """
threading.Thread(target=lambda: (main_has_ended(), work())).start()""",
    "a thread beside a main thread that raises": "threading.Thread(target=work).start(); raise ValueError",
    "a thread beside a main thread that exits": """
call(-1)
threading.Thread(target=work, args=(9,)).start()
sys.exit(3)""",
    "a worker of a pool": "ThreadPoolExecutor(1).submit(work)",
}


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(path)], capture_output=True, text=True, timeout=20.0, check=False
    )


FEW = ("a thread whose first call comes late", "a worker of a pool")


@pytest.mark.parametrize("what", few(OUTLIVING, *FEW))
def test_d12_the_journal_outlives_the_main_thread_as_long_as(what: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    done = run(STRICT + OUTLIVING[what], path)
    with journals.plain(path) as connection:
        query = "SELECT kind, count(*) FROM events WHERE call <> '' GROUP BY kind ORDER BY kind"
        found = connection.execute(query).fetchall()
    assert found == [("OperationStarted", 10), ("OperationSucceeded", 10)], done.stderr
    assert "journal is closed" not in done.stderr
    assert not path.with_name("calls.db-wal").exists(), "it was not closed"


LATE = """
class Late:
    def __del__(self, fail=fail, service=service, print=print, Error=ConnectionError, err=sys.stderr):
        BEGIN
        try:
            service.recoverable("late", max_retries=1, initial_delay=0.01, durability=DURABILITY)(fail)(1)
        except Error:
            err.write("given up\\n")
            err.flush()
"""
LATE_WHEN = {
    "while the interpreter ends": "late = Late()",
    "in an exit handler": "atexit.register(Late().__del__)",
    "in an exit handler's thread": """
def in_a_thread():
    thread = threading.Thread(target=Late().__del__, daemon=True)
    thread.start()
    thread.join()
atexit.register(in_a_thread)""",
}


LATE_CASES = [*itertools.product(LATE_WHEN, ["lazy", "strict"], ["call", "resume"])]


@pytest.mark.parametrize(("when", "durability", "begin"), few(LATE_CASES, every=9))
def test_d12_a_first_call_that_comes_too_late_runs_unjournalled(
    when: str, durability: str, begin: str, tmp_path: Path
) -> None:
    first = "service.resume().wait(1.0), service.journal.pending()" if begin == "resume" else "None"
    late = LATE.replace("DURABILITY", repr(durability)).replace("BEGIN", first)
    done = run(late + LATE_WHEN[when], tmp_path / "calls.db")
    assert done.returncode == 0, done.stderr
    assert "given up" in done.stderr
    assert done.stderr.count("the journal is closed: later events are not written") == 1
    assert not list(tmp_path.iterdir())


BROKEN_LOOP = """
import anyio, anyio.to_thread, asyncio

async def main():
    async with service:
        await anyio.to_thread.run_sync(work, 3)
        await anyio.sleep(60)

def interrupt():
    raise KeyboardInterrupt

loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.call_later(0.5, interrupt)
try:
    loop.run_until_complete(task)
except KeyboardInterrupt:
    loop.close()  # the task never ends, and nothing stops its worker threads
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_d12_worker_threads_of_a_loop_that_was_broken_off_keep_no_process(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    began = time.monotonic()
    done = run(STRICT + BROKEN_LOOP, path)
    assert time.monotonic() - began < 5.0, done.stderr
    with journals.plain(path) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE call <> ''").fetchall() == [(6,)]


LATE_IN_WORKER = """
import anyio, anyio.to_thread

def late():
    main_has_ended()
    time.sleep(0.6)
    call(2)

async def main():
    call(1)
    with anyio.move_on_after(0.1):
        await anyio.to_thread.run_sync(late, abandon_on_cancel=True)

anyio.run(main)
"""


@pytest.mark.slow
def test_d12_the_journal_outlives_an_abandoned_worker_thread(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    done = run(STRICT + LATE_IN_WORKER, path)
    assert done.stderr == ""
    with journals.plain(path) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE call <> ''").fetchall() == [(4,)]
    assert not path.with_name("calls.db-wal").exists(), "it was not closed"


ABANDONED = """
import anyio, anyio.to_thread, os

async def main():
    async with service:
        with anyio.move_on_after(0.3):
            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(lambda: anyio.to_thread.run_sync(time.sleep, 14, abandon_on_cancel=True))
                call(1)
                print("ready", flush=True)
                await anyio.sleep(60)
        began = time.monotonic()
    print(time.monotonic() - began, flush=True)

try:
    anyio.run(main, backend=BACKEND)
finally:
    os._exit(0)  # the threads are the program's own: Python waits for them
"""


@pytest.mark.parametrize("backend", few(["asyncio", "trio"], "asyncio"))
def test_d12_abandoned_worker_threads_do_not_delay_the_close(backend: str, tmp_path: Path) -> None:
    done = run(STRICT + ABANDONED.replace("BACKEND", repr(backend)), tmp_path / "calls.db")
    assert float(done.stdout.split()[1]) < 5.0, done.stderr


INTERRUPTED = """
import anyio, anyio.to_thread

async def main():
    async with service:
        @service.recoverable("fetch", resumable=True, max_retries=None, initial_delay=0.02, breaker=None)
        async def fetch(number):
            await anyio.to_thread.run_sync(time.sleep, 0.05, abandon_on_cancel=True)
            raise ConnectionError
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(fetch, number)
            await anyio.sleep(0.2)
            print("ready", flush=True)
            await anyio.sleep(60)

anyio.run(main, backend=BACKEND)
"""


@pytest.mark.parametrize("backend", few(["asyncio", "trio"], "asyncio"))
@pytest.mark.parametrize("pause", few([0.0005, 0.002, 0.01], 0.002))
def test_d12_three_interrupts_in_a_row_end_a_process(pause: float, backend: str, tmp_path: Path) -> None:
    script = BEGIN + INTERRUPTED.replace("BACKEND", repr(backend))
    command = [sys.executable, "-c", script, str(tmp_path / "calls.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        try:
            process.wait(5.0)
        finally:
            process.kill()
