"""A state machine of hypothesis on a real file: calls, crashes, restarts, locks, a full disk, clocks that jump.

The model is a dict: the events of each call, and how many of them are known to be committed. A crash is a copy of the
files at that moment, made between two writes; the kill loop tests crashes in the middle of a write.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
import tempfile
import time
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from events.attempt import Attempt
from events.codec import decode
from events.event import CallEvent
from events.operation_events import OperationFailed, OperationStarted, OperationSucceeded
from events.verdicts import GiveUp
from recovery.journal.config import JournalConfig
from recovery.journal.errors import NotDurable
from recovery.journal.history import CallRecord, replay
from recovery.journal.pending import Pending
from recovery.journal.remaining import remaining
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.torture.disk import PROGRESS, DiskStore, is_prefix, kept_of, name_of
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import ForkServer
from tests.torture.recovered_files import DONE

NAME = "work"
POLICY = RetryPolicy(max_retries=3, backoff=(5.0,), jitter="none")
MAX_CALLS = 4
EXAMPLES = 300
STEPS = 40
WHICH = st.integers(0, MAX_CALLS - 1)
SOON = 10.0
"""Seconds within which a journal must notice that its store works again."""


class JournalMachine(RuleBasedStateMachine):
    """A journal's file and the processes that write it, one after the other."""

    lag: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        """The first process begins."""
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY_FOLDER)
        self.clock = VirtualClock()
        self.wall = 1.8e9
        self.files = itertools.count(1)
        self.events: dict[str, list[tuple[str, CallEvent]]] = {}
        self.committed: dict[str, int] = {}
        self.blocker: sqlite3.Connection | None = None
        self.path = Path(self.folder.name) / f"{next(self.files)}" / "calls.db"
        self._open()

    def teardown(self) -> None:
        """The last process ends."""
        if hasattr(self, "folder"):
            self._unblock()
            self.service.close()
            self.folder.cleanup()

    def _open(self) -> None:
        self.store = DiskStore(self.path, lambda: self.wall, self.lag)
        config = JournalConfig(first_pause=0.001, longest_pause=0.002)
        self.service = Recovery(store=self.store, clock=self.clock, journal_config=config)
        self.service.bus.subscribe((CallEvent, OperationStarted, OperationSucceeded), self._record)
        self.operation = self.service.operation(NAME, policy=POLICY, breaker=None, durability="journal")
        self.running: list[Attempt] = []
        self.waiting: list[Attempt] = []
        self.journal = self.service.journal
        self._check_pending(self.journal.pending(SOON))

    def _record(self, event: CallEvent) -> None:
        is_repeated = isinstance(event, OperationSucceeded) and event.recovered  # it follows an OperationRecovered
        if not is_repeated and not isinstance(event, OperationFailed):
            self.events.setdefault(event.call, []).append((self.service.bus.run, event))

    # What calls do

    @precondition(lambda self: len(self.running) + len(self.waiting) < MAX_CALLS)
    @rule()
    def start(self) -> None:
        """A call begins."""
        self.running.append(self.operation.start())

    @precondition(lambda self: self.running)
    @rule(which=WHICH, is_permanent=st.booleans())
    def fail(self, which: int, is_permanent: bool) -> None:
        """An attempt fails."""
        attempt = self.running.pop(which % len(self.running))
        verdict = attempt.fail(ValueError("wrong") if is_permanent else ConnectionError("reset"))
        if not isinstance(verdict, GiveUp):
            self.waiting.append(attempt)

    @precondition(lambda self: self.waiting)
    @rule(which=WHICH)
    def next_attempt(self, which: int) -> None:
        """The next attempt of a call begins."""
        self.running.append(self.waiting.pop(which % len(self.waiting)).next())

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        """An attempt returns."""
        self.running.pop(which % len(self.running)).succeed()

    @precondition(lambda self: self.running or self.waiting)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """A call is cancelled."""
        calls = self.running or self.waiting
        calls.pop(which % len(calls)).cancel()

    @precondition(lambda self: self.running)
    @rule(which=WHICH, done=st.integers(0, 9))
    def checkpoint(self, which: int, done: int) -> None:
        """An attempt saves a checkpoint."""
        self.running[which % len(self.running)].checkpoint(b"%d" % done)

    # What happens to the journal

    @rule(synced=st.booleans())
    def flush(self, synced: bool) -> None:
        """A receipt is waited for: it holds, or it says why not."""
        counts = {call: len(events) for call, events in self.events.items()}
        receipt = self.journal.receipt()
        with suppress(NotDurable) if self.store.is_full or self.blocker is not None else nullcontext():
            receipt.wait(SOON, synced=synced)
            self.committed |= counts

    @rule()
    def crash(self) -> None:
        """The process crashes; the next one finds the files as they are."""
        self._unblock()
        before, self.path = self.path.parent, Path(self.folder.name) / f"{next(self.files)}" / "calls.db"
        with self.store.between:
            shutil.copytree(before, self.path.parent)
        self.service.close()
        survived = self._rows(self.path)
        for call, events in self.events.items():
            kept, expected = survived.get(call, []), [name_of(event) for _, event in events]
            assert is_prefix(kept, expected), f"{call}: {expected} became {kept}"
            if not kept and type(events[-1][1]).__name__ in DONE:
                continue  # it had ended, and may have been deleted since
            # Progress coalesces: only its latest state, or a later one, is there.
            promised = [name for name in expected[: self.committed.get(call, 0)] if not name.startswith(PROGRESS)]
            there = [name for name in kept if not name.startswith(PROGRESS)]
            assert there[: len(promised)] == promised, f"{call}: {promised} were committed, {kept} are found"
        self._begin_from(survived)

    def _begin_from(self, survived: dict[str, list[str]]) -> None:
        """The next process begins with the calls in the file."""
        events = {call: kept_of(events, survived[call]) for call, events in self.events.items() if call in survived}
        self.events = events
        self.committed = {call: len(events) for call, events in events.items()}
        self._open()

    @precondition(lambda self: self.blocker is None and not self.store.is_full)
    @rule()
    def restart(self) -> None:
        """The process ends in good order; nothing is lost."""
        self.service.close()
        counts = self.journal.counts
        assert counts.dropped == counts.waiting == 0, counts
        survived = self._rows(self.path)
        for call, events in self.events.items():
            if call in survived or type(events[-1][1]).__name__ not in DONE:
                expected = [name_of(event) for _, event in events]
                assert is_prefix(survived.get(call, []), expected, whole=True), f"{call}: {expected} became {survived}"
        self._begin_from(survived)

    @rule(seconds=st.sampled_from([0.0, 1.0, 60.0]), jump=st.sampled_from([0.0, -86400.0, 8 * 86400.0]))
    def let_time_pass(self, seconds: float, jump: float) -> None:
        """Time passes, and the wall clock is set."""
        self.clock.advance(seconds)
        self.wall += seconds + jump

    @precondition(lambda self: self.blocker is None)
    @rule()
    def lock(self) -> None:
        """Another connection holds a transaction on the file."""
        blocker = sqlite3.connect(self.path, isolation_level=None, timeout=SOON, check_same_thread=False)
        with self.store.between:
            blocker.execute("BEGIN IMMEDIATE")
        self.blocker = blocker

    @precondition(lambda self: self.blocker is not None)
    @rule()
    def unlock(self) -> None:
        """The other connection ends its transaction."""
        self._unblock()
        self._wait_until_healthy()

    def _unblock(self) -> None:
        if self.blocker is not None:
            self.blocker.execute("ROLLBACK")
            self.blocker.close()
            self.blocker = None

    @rule()
    def fill(self) -> None:
        """The disk is full."""
        self.store.is_full = True

    @precondition(lambda self: self.store.is_full)
    @rule()
    def empty(self) -> None:
        """The disk has space again."""
        self.store.is_full = False
        self._wait_until_healthy()

    def _wait_until_healthy(self) -> None:
        end = time.monotonic() + SOON
        while self.blocker is None and not self.store.is_full and self.journal.reason is not None:
            assert time.monotonic() < end, f"the journal did not recover: {self.journal.reason}"
            time.sleep(0.001)

    @invariant()
    def every_event_is_accounted_for(self) -> None:
        """Every event issued is stored, coalesced or waiting; none is dropped."""
        counts = self.journal.counts
        assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting
        assert counts.dropped == 0

    # What the next process finds

    def _rows(self, path: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        copy = Path(self.folder.name) / f"{next(self.files)}"
        shutil.copytree(path.parent, copy)
        connection = sqlite3.connect(copy / path.name)
        for call, body in connection.execute("SELECT call, body FROM events WHERE call <> '' ORDER BY id"):
            found.setdefault(call, []).append(name_of(decode(body)))
        connection.close()
        shutil.rmtree(copy)
        return found

    def _check_pending(self, pending: Pending) -> None:
        """The pending calls are those of the model, with the rest of each delay."""
        model: dict[str, CallRecord] = {}
        for events in self.events.values():
            for run, event in events:
                replay(model, run, [event])
        expected = {call: record for call, record in model.items() if not record.is_over}
        assert {record.call: record for record in pending.calls} == expected
        for record in pending.calls:
            if record.due is not None:
                left = min(max(record.due - self.clock(), 0.0), record.delay)
                assert abs(remaining(record, pending.runs, self.journal.run) - left) <= 0.1 * record.delay


class EarlyMachine(JournalMachine):
    """With a store that acknowledges one batch too early: the bug that the machine must notice."""

    lag = 1


def run_machine(examples: int, steps: int, machine: type[JournalMachine] = JournalMachine) -> None:
    """Run *machine*; raises what broke, with the shortest steps that break ``JournalMachine``."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if machine is JournalMachine else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


def state_machine(_: ForkServer, share: float) -> list[Figure]:
    """The figures of the state machine."""
    logging.getLogger("recovery").addHandler(logging.NullHandler())
    examples, problem, seen = scaled(EXAMPLES, share), "", "not seen"
    try:
        run_machine(examples, STEPS)
    except Exception as error:
        traceback.print_exc()
        problem = type(error).__name__
    try:
        run_machine(EXAMPLES, STEPS, EarlyMachine)
    except AssertionError:
        seen = "seen"
    how_often, at_most = f"{examples} examples of {STEPS} steps", f"at most {EXAMPLES} examples"
    return [
        Figure("crashes, locks, a full disk against a model", how_often, problem or "0 broken", "0", not problem),
        Figure("the same, acknowledged before the commit", at_most, seen, "seen", seen == "seen"),
    ]
