"""The journal lives as long as a thread that the interpreter waits for, and keeps no process from ending (D12)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.sqlite import journals

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


@pytest.mark.parametrize("what", OUTLIVING)
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


@pytest.mark.parametrize("begin", ["call", "resume"])
@pytest.mark.parametrize("durability", ["lazy", "strict"])
@pytest.mark.parametrize("when", LATE_WHEN)
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
