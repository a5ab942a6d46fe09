"""A signal handler that publishes deadlocks and corrupts nothing; one that closes the service is safe."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from recovery.journal.accounting import Counts
from recovery.journal.core import JournalCore
from recovery.journal.errors import NotDurable
from recovery.journal.queue import WriteQueue
from recovery.service import Recovery
from recovery.waiting.waiters import ThreadWaiter
from tests.recovery.journal.interruptions import interrupted
from tests.recovery.journal.stores import core_of, gave_up

if not hasattr(signal, "setitimer"):
    pytest.skip("there are no such signals here", allow_module_level=True)

EVENT = gave_up()


def test_an_event_of_a_handler_inside_the_queue_is_refused_and_counted() -> None:
    queue, accepted = WriteQueue(), list[bool]()
    first = interrupted(lambda: accepted.append(queue.put(EVENT)))
    assert queue.put(first)
    assert accepted == [False]
    assert queue.put(EVENT)
    assert [entry.event for entry in queue.take()] == [first, EVENT]
    assert queue.counts == Counts(issued=3, stored=0, coalesced=0, dropped=1, waiting=2)
    assert [queue.has_dropped(number - 1, number) for number in (1, 2, 3)] == [True, False, False]


def test_the_refusal_is_logged_once_and_no_receipt_promises_the_event(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=MemoryStore()) as service:
        for _ in range(2):
            service.bus.publish(interrupted(lambda: service.bus.publish(EVENT)))
        with pytest.raises(NotDurable):
            service.journal.receipt().wait()
    assert service.journal.counts == Counts(issued=4, stored=2, coalesced=0, dropped=2, waiting=0)
    assert caplog.text.count("a signal handler published it") == 1


class InterruptedWaiter(ThreadWaiter):
    """Closes the journal while that notes the waiter, with its lock held."""

    core: JournalCore

    def __hash__(self) -> int:
        self.core.close()
        return 1


@pytest.mark.parametrize("inside", ["queue", "receipts"])
def test_a_close_inside_a_lock_of_the_journal_does_not_wait(inside: str) -> None:
    bus = Bus()
    core = core_of(MemoryStore(), bus)
    bus.publish(EVENT)
    began = time.monotonic()
    if inside == "queue":
        bus.publish(interrupted(core.close))
    else:
        waiter = InterruptedWaiter()
        waiter.core = core
        core.tracker.wake_when_settled(core.queue.issued + 1, waiter)
    assert time.monotonic() - began < 1.0
    core.close()
    refused = 1 if inside == "queue" else 0  # the event that the close interrupts
    assert core.queue.counts == Counts(1 + refused, stored=1, coalesced=0, dropped=refused, waiting=0)


PUBLISHING = """
import signal, time
from adapters.memory import MemoryStore
from events.operation_events import GaveUp
from recovery.service import Recovery

service = Recovery(store=MemoryStore())
event = GaveUp(at=0.0, operation="fetch", call="a")
handled = 0
def handle(*_):
    global handled
    handled += 1
    service.bus.publish(event)
    if %(closes)s and handled == 100: service.close()
signal.signal(signal.SIGALRM, handle)
published, end = 0, time.monotonic() + 20.0
with service:
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    while handled < 200 and time.monotonic() < end:
        service.bus.publish(event)
        published += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0)
counts = service.journal.counts
assert handled >= 200, handled
assert counts.issued == published + handled == counts.stored + counts.dropped, (counts, published, handled)
"""

SETTING = """
import signal
from recovery.waiting.waiters import Flag

flag, handled = Flag(), 0
def handle(*_):
    global handled
    handled += 1
    flag.set()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while handled < 200:
    flag.set()
signal.setitimer(signal.ITIMER_REAL, 0.0)
assert flag.wait(0.0)
"""


@pytest.mark.parametrize("program", [PUBLISHING % {"closes": False}, PUBLISHING % {"closes": True}, SETTING])
def test_real_signals_at_any_moment_neither_deadlock_nor_miscount(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], timeout=30.0, check=True)
