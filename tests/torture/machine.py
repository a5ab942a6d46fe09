"""A state machine of hypothesis's on a real file: calls, crashes, restarts, locks, a full disk, clocks that jump.

The model is a dict: what each call's facts were, and how many of them are known to be committed. A crash is the files
as they are at that moment, copied while nothing is being written; what is torn in the middle is the kill loop's.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import ClassVar, Self

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

from adapters import opening
from adapters.retention import Retention
from adapters.sqlite import SQLiteStore
from events.attempt import Attempt
from events.codec import decode
from events.errors import JournalError, NotDurable
from events.facts import CallFact, CheckpointSaved, Fact, OperationFailed, OperationStarted, OperationSucceeded
from events.verdicts import GiveUp
from recovery import writer
from recovery.ledger import CallRecord, Run, fold, remaining
from recovery.policy import RetryPolicy
from recovery.service import Recovery
from recovery.store import Pending, Row
from recovery.testing import VirtualClock
from tests.torture.figures import QUICK, Figure, times
from tests.torture.remains import DONE
from tests.torture.zygote import Zygote

EXAMPLES = 300
STEPS = 40
NAME = "work"
PROGRESS = "CheckpointSaved"
POLICY = RetryPolicy(max_retries=3, backoff=(5.0,), jitter="none")
MAX_CALLS = 4
WHICH = st.integers(0, MAX_CALLS - 1)
SOON = 10.0
"""Seconds in which a journal must have noticed that its store is well again."""


class DiskStore(SQLiteStore):
    """Can be full, and can be copied between two batches. *lag* is how many batches it says are written too early."""

    def __init__(self, path: Path, wall: Callable[[], float], lag: int) -> None:
        super().__init__(path, wall=wall, retention=Retention(calls=3))
        self.between = threading.Lock()
        self.is_full = False
        self._late: list[Sequence[Row]] = []
        self._lag = lag

    def forked(self) -> Self:
        raise JournalError("no process of this machine's forks")

    async def append(self, rows: Sequence[Row]) -> None:
        with self.between:
            if self.is_full:
                raise JournalError("database or disk is full")
            self._late.append(rows)
            if len(self._late) > self._lag:
                await super().append(self._late.pop(0))

    async def open(self, run: Run) -> Sequence[str]:
        with self.between:
            return await super().open(run)

    async def close(self) -> None:
        with self.between:
            await super().close()

    async def tidy(self) -> bool:
        with self.between:
            return await super().tidy()


class JournalMachine(RuleBasedStateMachine):
    """One journal's file and the processes that write it, one after the other."""

    lag: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        """The first process."""
        self.folder = tempfile.TemporaryDirectory(dir=QUICK)
        self.clock = VirtualClock()
        self.wall = 1.8e9
        self.files = itertools.count(1)
        self.facts: dict[str, list[tuple[str, CallFact]]] = {}
        self.committed: dict[str, int] = {}
        self.blocker: sqlite3.Connection | None = None
        self.patience = opening.BUSY_TIMEOUT, writer.FIRST_PAUSE, writer.LONGEST_PAUSE
        opening.BUSY_TIMEOUT, writer.FIRST_PAUSE, writer.LONGEST_PAUSE = 0.0, 0.001, 0.002
        self.path = Path(self.folder.name) / f"{next(self.files)}" / "calls.db"
        self._open()

    def teardown(self) -> None:
        """The last process ends."""
        if hasattr(self, "folder"):
            self._unblock()
            self.service.close()
            opening.BUSY_TIMEOUT, writer.FIRST_PAUSE, writer.LONGEST_PAUSE = self.patience
            self.folder.cleanup()

    def _open(self) -> None:
        self.store = DiskStore(self.path, lambda: self.wall, self.lag)
        self.service = Recovery(store=self.store, clock=self.clock)
        self.service.bus.subscribe((CallFact, OperationStarted, OperationSucceeded), self._hear)
        self.operation = self.service.operation(NAME, policy=POLICY, breaker=None, durability="journal")
        self.running: list[Attempt] = []
        self.waiting: list[Attempt] = []
        assert self.service.journal is not None
        self.journal = self.service.journal
        self._judge(self.journal.pending(SOON))

    def _hear(self, fact: CallFact) -> None:
        is_told = isinstance(fact, OperationSucceeded) and fact.recovered
        if not is_told and not isinstance(fact, OperationFailed):
            self.facts.setdefault(fact.call, []).append((self.service.bus.run, fact))

    # what calls do

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
    def go_on(self, which: int) -> None:
        """A next attempt begins."""
        self.running.append(self.waiting.pop(which % len(self.waiting)).next())

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        """An attempt returns."""
        self.running.pop(which % len(self.running)).succeed()

    @precondition(lambda self: self.running or self.waiting)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Somebody changes their mind."""
        calls = self.running or self.waiting
        calls.pop(which % len(calls)).cancel()

    @precondition(lambda self: self.running)
    @rule(which=WHICH, done=st.integers(0, 9))
    def checkpoint(self, which: int, done: int) -> None:
        """An attempt notes how far it has come."""
        self.running[which % len(self.running)].checkpoint(b"%d" % done)

    # what happens to the journal

    @rule(synced=st.booleans())
    def flush(self, synced: bool) -> None:
        """Somebody waits for a receipt, which is true, or says why there is none."""
        counts = {call: len(facts) for call, facts in self.facts.items()}
        receipt = self.journal.receipt()
        with suppress(NotDurable) if self.store.is_full or self.blocker is not None else nullcontext():
            receipt.wait(SOON, synced=synced)
            self.committed |= counts

    @rule()
    def crash(self) -> None:
        """The process dies; the next one finds its files as they are."""
        self._unblock()
        before, self.path = self.path.parent, Path(self.folder.name) / f"{next(self.files)}" / "calls.db"
        with self.store.between:
            shutil.copytree(before, self.path.parent)
        self.service.close()
        survived = self._rows(self.path)
        for call, facts in self.facts.items():
            kept, expected = survived.get(call, []), [_name(fact) for _, fact in facts]
            assert _is_part(kept, expected), f"{call}: {expected} became {kept}"
            if not kept and type(facts[-1][1]).__name__ in DONE:
                continue  # it was over, and may have been deleted since
            # Progress coalesces: of it the latest is there, or a later one.
            promised = [name for name in expected[: self.committed.get(call, 0)] if not name.startswith(PROGRESS)]
            there = [name for name in kept if not name.startswith(PROGRESS)]
            assert there[: len(promised)] == promised, f"{call}: {promised} were committed, {kept} are found"
        self._begin_from(survived)

    def _begin_from(self, survived: dict[str, list[str]]) -> None:
        """The next process begins with what is in the file."""
        facts = {call: _kept(facts, survived[call]) for call, facts in self.facts.items() if call in survived}
        self.facts = facts
        self.committed = {call: len(facts) for call, facts in facts.items()}
        self._open()

    @precondition(lambda self: self.blocker is None and not self.store.is_full)
    @rule()
    def restart(self) -> None:
        """The process ends in peace: nothing is lost."""
        self.service.close()
        counts = self.journal.counts
        assert counts.dropped == counts.waiting == 0, counts
        survived = self._rows(self.path)
        for call, facts in self.facts.items():
            if call in survived or type(facts[-1][1]).__name__ not in DONE:
                expected = [_name(fact) for _, fact in facts]
                assert _is_part(survived.get(call, []), expected, whole=True), f"{call}: {expected} became {survived}"
        self._begin_from(survived)

    @rule(seconds=st.sampled_from([0.0, 1.0, 60.0]), jump=st.sampled_from([0.0, -86400.0, 8 * 86400.0]))
    def let_time_pass(self, seconds: float, jump: float) -> None:
        """Time passes, and somebody sets the wall clock."""
        self.clock.advance(seconds)
        self.wall += seconds + jump

    @precondition(lambda self: self.blocker is None)
    @rule()
    def lock(self) -> None:
        """Somebody holds a transaction on the file."""
        blocker = sqlite3.connect(self.path, isolation_level=None, timeout=SOON, check_same_thread=False)
        with self.store.between:
            blocker.execute("BEGIN IMMEDIATE")
        self.blocker = blocker

    @precondition(lambda self: self.blocker is not None)
    @rule()
    def unlock(self) -> None:
        """They let go of it."""
        self._unblock()
        self._wait_until_well()

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
        """There is room again."""
        self.store.is_full = False
        self._wait_until_well()

    def _wait_until_well(self) -> None:
        end = time.monotonic() + SOON
        while self.blocker is None and not self.store.is_full and self.journal.reason is not None:
            assert time.monotonic() < end, f"the journal did not recover: {self.journal.reason}"
            time.sleep(0.001)

    @invariant()
    def every_fact_is_accounted_for(self) -> None:
        """Issued is the sum of what became of it."""
        if hasattr(self, "journal"):
            counts = self.journal.counts
            assert counts.issued == counts.stored + counts.coalesced + counts.dropped + counts.waiting
            assert counts.dropped == 0

    # what the next process finds

    def _rows(self, path: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        copy = Path(self.folder.name) / f"{next(self.files)}"
        shutil.copytree(path.parent, copy)
        connection = sqlite3.connect(copy / path.name)
        for call, body in connection.execute("SELECT call, body FROM facts WHERE call <> '' ORDER BY id"):
            found.setdefault(call, []).append(_name(decode(body)))
        connection.close()
        shutil.rmtree(copy)
        return found

    def _judge(self, pending: Pending) -> None:
        """What is pending is what the model says, with the rest of each delay."""
        model: dict[str, CallRecord] = {}
        for facts in self.facts.values():
            for run, fact in facts:
                fold(model, run, [fact])
        expected = {call: record for call, record in model.items() if not record.is_over}
        assert {record.call: record for record in pending.calls} == expected
        for record in pending.calls:
            if record.due is not None:
                left = min(max(record.due - self.clock(), 0.0), record.delay)
                assert abs(remaining(record, pending.runs, self.journal.run) - left) <= 0.1 * record.delay


def _name(fact: Fact) -> str:
    about = f" {bytes(fact.data).decode()}" if isinstance(fact, CheckpointSaved) else ""
    return f"{type(fact).__name__} {getattr(fact, 'attempt', 0)}{about}"


def _is_part(kept: list[str], expected: list[str], *, whole: bool = False) -> bool:
    """Whether *kept* are the first of *expected*, or all; of progress any but the latest may be missing."""
    left = list(kept)
    for name in expected:
        if left and left[0] == name:
            left.pop(0)
        elif not name.startswith(PROGRESS):
            return not left and not whole
    return not left


def _kept(facts: list[tuple[str, CallFact]], names: list[str]) -> list[tuple[str, CallFact]]:
    left, kept = list(names), []
    for run, fact in facts:
        if left and left[0] == _name(fact):
            left.pop(0)
            kept.append((run, fact))
    return kept


def try_machine(examples: int, steps: int, machine: type[JournalMachine] = JournalMachine) -> None:
    """Run it; raises AssertionError, or whatever broke. A story that breaks something is made short for the journal."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if machine is JournalMachine else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


class HastyMachine(JournalMachine):
    """With a store that says too early that a batch is written: the bug that the machine must see."""

    lag = 1


def machine(zygote: Zygote, share: float) -> list[Figure]:
    """The figure of the state machine."""
    del zygote
    logging.getLogger("recovery").addHandler(logging.NullHandler())
    examples, problem = times(EXAMPLES, share), ""
    try:
        try_machine(examples, STEPS)
    except Exception as error:
        traceback.print_exc()
        problem = type(error).__name__
    how_often = f"{examples} stories of {STEPS} steps"
    try:
        try_machine(EXAMPLES, STEPS, HastyMachine)
        is_seen = False
    except AssertionError:
        is_seen = True
    return [
        Figure("crashes, locks, a full disk against a model", how_often, problem or "0 broken", "0", not problem),
        Figure(
            "the same, acknowledged before the commit",
            f"at most {EXAMPLES} stories",
            "seen" if is_seen else "not seen",
            "seen",
            is_seen,
        ),
    ]
