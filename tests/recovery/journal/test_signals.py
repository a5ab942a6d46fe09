"""A signal handler may publish and close, whatever it has interrupted on its own thread."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from adapters.memory import MemoryStore
from events.operation_events import GaveUp
from recovery.journal.queue import Counts, Intake
from recovery.service import Recovery
from recovery.waiting.waiters import Flag

if not hasattr(signal, "setitimer"):
    pytest.skip("there are no such signals here", allow_module_level=True)

PUBLISHING = """
import signal, time
from adapters.memory import MemoryStore
from events.operation_events import GaveUp
from recovery.service import Recovery

class Counting(MemoryStore):
    stored = 0
    async def append(self, rows): self.stored += len(rows)

store = Counting()
service = Recovery(store=store)
fact = GaveUp(at=0.0, operation="fetch", call="a")
heard = 0
def handle(*_):
    global heard
    heard += 1
    service.bus.publish(fact)
    if %(closes)s and heard == 200: service.close()
signal.signal(signal.SIGALRM, handle)
published, end = 0, time.monotonic() + 20.0
with service:
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    while heard < 400 and time.monotonic() < end:
        service.bus.publish(fact)
        published += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0)
counts = service.journal.counts
assert heard >= 400, heard
assert counts.issued == published + heard == counts.stored + counts.dropped, (counts, published, heard)
assert store.stored == counts.stored
"""


@pytest.mark.parametrize("closes", [False, True])
def test_a_handler_that_interrupts_its_own_publishing_is_heard_and_holds_nothing(closes: bool) -> None:
    child = subprocess.run([sys.executable, "-c", PUBLISHING % {"closes": closes}], timeout=20.0, check=False)
    assert child.returncode == 0


def test_what_a_handler_publishes_comes_after_what_it_has_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake()
    first, second = (GaveUp(at=0.0, operation="fetch", call=call) for call in "ab")
    take_in = intake._take_in

    def interrupted(fact: GaveUp) -> int:
        if fact is first:
            assert intake.is_interrupted
            assert intake.put(second)
        return take_in(fact)

    monkeypatch.setattr(intake, "_take_in", interrupted)
    assert intake.put(first)
    assert [entry.fact for entry in intake.take()] == [first, second]
    assert intake.counts == Counts(issued=2, stored=0, coalesced=0, dropped=0, waiting=2)
    assert not intake.is_interrupted


def test_a_close_that_interrupts_publishing_does_not_wait_for_what_it_holds_up() -> None:
    store = MemoryStore()
    service = Recovery(store=store)
    with service:
        assert service.journal is not None
        service.bus.publish(GaveUp(at=0.0, operation="fetch", call="a"))
        service.journal.receipt().wait()
        intake = service.journal._intake
        with intake._lock:
            intake._is_busy = True
            began = time.monotonic()
            service.close()
            intake._is_busy = False
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("which", ["journal", "queue", "line of threads", "line of tasks"])
def test_a_close_that_interrupts_its_thread_inside_a_lock_does_not_wait_for_the_writer(which: str) -> None:
    service = Recovery(store=MemoryStore())
    journal = service.journal
    assert journal is not None
    service.bus.publish(GaveUp(at=0.0, operation="fetch", call="a"))
    holders = {
        "journal": journal,
        "queue": journal._intake,
        "line of threads": journal._threads,
        "line of tasks": journal._tasks,
    }
    with holders[which]._lock:  # type: ignore[attr-defined]
        began = time.monotonic()
        service.close()
        assert time.monotonic() - began < 1.0
    journal._writer.thread.join(5.0)
    assert journal.counts == Counts(1, 1, 0, 0, 0)


def test_a_flag_lets_go_who_waits_even_where_its_setting_is_interrupted() -> None:
    flag = Flag()
    assert not flag.wait(0.0)
    with flag._condition:
        flag.set()
    waiter = threading.Thread(target=flag.wait, args=(10.0,))
    waiter.start()
    waiter.join(5.0)
    assert not waiter.is_alive()
    flag.clear()
    assert not flag.is_set()
