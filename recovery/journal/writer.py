"""The journal's thread: it opens the store, writes batch after batch, and goes on trying when the store fails.

The store is used from this thread and one asyncio loop of its own: nobody else ever awaits it, so a cancelled task
cannot leave a transaction open, and trio and plain threads need no bridge.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from events.codec import decode
from events.errors import CodecError
from recovery.journal.encoding import missing, rows_of
from recovery.journal.errors import ForeignJournalError, NewerJournalError
from recovery.journal.health import News
from recovery.journal.history import CallRecord, OpenCircuit, Run, fold, fold_circuits
from recovery.journal.queue import Entry, Intake
from recovery.journal.recent_calls import Recent
from recovery.journal.store import Pending, Question, Store
from recovery.redact import redact
from recovery.waiting.waiters import Flag

if TYPE_CHECKING:
    import asyncio

FLUSH_INTERVAL = 0.02
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds before a store that failed is tried again: the first time, and at the most, doubling in between."""
ORDERS_EVERY = 0.5
"""Seconds after which it is looked whether somebody has told the process something."""
LINGER = 0.5
"""Seconds after a batch in which it is looked for the next one every flush interval, without anybody's waking it."""
PART = 32
BREATH = 0.0001
"""Seconds: enough for a thread that waits for the interpreter lock to wake up and take it."""
TIDY_EVERY = 4096
"""Facts written before what need not be kept is looked for again."""

log = logging.getLogger("recovery.journal")


class Listener(Protocol):
    """Who looks for what others wait for; told on the writer's thread."""

    def settled(self) -> None:
        """A batch was written, synced, or given up: whoever waits may look again."""

    def found(self, pending: Pending) -> None:
        """This is what dead processes left."""


class Writer:
    """Takes batches from *intake* to *store*, on its own thread, from ``start`` to ``finish``.

    What was written is noted in *recent*.
    """

    def __init__(self, store: Store, intake: Intake, recent: Recent, run: Run, listener: Listener, news: News) -> None:
        self._store = store
        self._intake = intake
        self._recent = recent
        self._run = run
        self._listener = listener
        self._news = news
        self._lock = threading.RLock()
        self._questions: deque[Question] = deque()
        self._closing = False
        self._is_open = False
        self._was_opened = False
        self._pause = FIRST_PAUSE
        self._again_at = 0.0
        self._look_at = 0.0
        self._rest_at = 0.0
        self._stir = Flag()
        self._wants_sync = False
        self._wants_pending = False
        self._wants_pending_now = False
        self._has_adopted = self._is_refused = False
        self._pending = Pending()
        self._tidied_at = 0
        self._has_rubbish = True
        self._last_tries = 1
        self.reason: str | None = None
        """Why nothing can be written at the moment."""
        self.committed = 0
        self.synced = 0
        self.is_over = False
        # A daemon, for a store that hangs must not keep the interpreter from ending; the journal's watcher sees to it
        # that one that works is closed.
        self.thread = threading.Thread(target=self._work, name="recovery-journal", daemon=True)

    def ask_for_sync(self) -> None:
        """Have everything synced that is written next; ``listener.settled`` says when."""
        self._wants_sync = True
        self.hurry()

    def ask_for_pending(self, *, now: bool = False) -> None:
        """Have orphans adopted, and ``listener.found`` called: when that has worked, or *now*, or when all is over."""
        with self._lock:
            if not self.is_over:
                self._wants_pending_now = self._wants_pending_now or now
                self._wants_pending = True
                self.hurry()
                return
        self._listener.found(self._pending)

    def ask(self, question: Question) -> None:
        """Have *question* answered, after what waits has been written; at once, and in vain, when all is over."""
        with self._lock:
            if not self.is_over:
                self._questions.append(question)
                self.hurry()
                return
        question.gate.open()

    def cannot_start(self, error: Exception) -> None:
        """There is no thread for it: as long as that is so, nothing is written."""
        self._fail(error)

    def finish(self) -> None:
        """Write what waits, close the store, and end the thread."""
        self._closing = True
        self.hurry()

    def hurry(self) -> None:
        """Write what waits without waiting for more. Harmless at any time, from any thread."""
        self._stir.set()
        self._intake.hurry.set()
        self._intake.filled.set()

    def _work(self) -> None:
        import asyncio  # here, so that importing recovery stays light

        with asyncio.Runner() as runner:
            self._try_to_open(runner)
            while True:
                self._wait()
                closing = self._closing  # read before the flush: what was accepted before closing is in it
                if not self._is_open and (closing or time.monotonic() >= self._again_at):
                    self._try_to_open(runner)
                if self._wants_pending:
                    self._find(runner)
                while self._is_open and self._flush(runner) and closing:
                    pass
                self._answer(runner)
                self._take_orders(runner)
                if closing and (self._is_open or not self._may_try_again()):
                    break
            self._close(runner)
        self.end()

    def end(self) -> None:
        """Be over: nothing is written any more, and nobody need wait for it. For others, if the thread never began."""
        self._intake.give_up()
        with self._lock:
            self.is_over = True
        if self._wants_pending:
            self._listener.found(self._pending)
        for question in self._questions:
            question.gate.open()
        self._listener.settled()

    def _may_try_again(self) -> bool:
        """Whether what could not be written at the end is tried once more: a trouble may be over as soon as it came."""
        self._last_tries -= 1
        return self._last_tries >= 0 and self._intake.counts.waiting > 0

    def _wait(self) -> None:
        self._stir.clear()
        rests = time.monotonic() >= self._rest_at and self._intake.rest()
        if self._closing or (self._wants_pending and self._is_open) or self._questions:
            return  # whoever set these stirs afterwards: not a moment is missed
        if not self._is_open:
            self._stir.wait(max(self._again_at - time.monotonic(), 0.0))
        elif not self._wants_sync:
            self._wait_for_facts(rests)

    def _wait_for_facts(self, rests: bool) -> None:
        """Wait until what came is worth writing, or for as long as that can take; if this *rests*, for the first first.

        Waking a thread that sleeps costs whoever does it more than the fact that it is for. So this thread is only
        woken for the first fact after a rest; while they keep coming it looks for itself.
        """
        intake = self._intake
        # Whoever hurried before the rest began has set ``filled`` in vain.
        if rests and not intake.hurry.is_set and not intake.filled.wait(ORDERS_EVERY):
            return
        if not self._closing and not intake.has_batch:
            # Counted from when the earliest came: it may have waited for a commit already.
            now = time.monotonic()
            since = now if intake.is_empty else intake.since
            intake.hurry.wait(max(since + FLUSH_INTERVAL - now, 0.0))

    def _try_to_open(self, runner: asyncio.Runner) -> None:
        try:
            for what in runner.run(self._store.open(self._run)):
                self._news.set_aside(what)
            if not self._was_opened:
                circuits, self._pending = runner.run(self._read())
                self._was_opened = True
                self._news.opened(circuits, self._pending)
        except Exception as error:  # whatever a store raises, operations go on
            self._fail(error)
            return
        self._is_open = True
        self._pause = FIRST_PAUSE
        if self.reason is not None and self._flush(runner, is_first=True):
            self.reason = None
            self._news.restored(self._intake.counts.waiting, self._intake.dropped)

    async def _read(self) -> tuple[dict[tuple[str, str], OpenCircuit], Pending]:
        runs, rows = await self._store.unfinished()
        records: dict[str, CallRecord] = {}
        circuits: dict[tuple[str, str], OpenCircuit] = {}
        unreadable: dict[str, None] = {}
        for row in rows:
            try:
                if not row.is_readable:
                    raise CodecError("it is not as it was written")
                fact = decode(row.body)
            except CodecError as error:
                log.warning("the journal holds a row of call %s that cannot be read: %s", row.call, error)
                unreadable[row.call] = None
            else:
                fold(records, row.run, (fact,))
                fold_circuits(circuits, row.run, (fact,))
        # What this very run has written is under way.
        left = [record for record in records.values() if not record.is_over and record.run != self._run.id]
        calls = tuple(record for record in left if record.call not in unreadable)
        return circuits, Pending(calls, {run.id: run for run in runs}, tuple(filter(None, unreadable)))

    def _answer(self, runner: asyncio.Runner) -> None:
        while self._questions:
            question = self._questions.popleft()
            try:
                if self._is_open:
                    question.answer = runner.run(question.ask(self._store))
            except Exception as error:
                self._fail(error)
            question.gate.open()

    def _take_orders(self, runner: asyncio.Runner) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + ORDERS_EVERY
        try:
            for order in runner.run(self._store.orders(self._news.concerns)):
                self._news.ordered(order)
        except Exception:
            log.exception("what this process was told cannot be done")

    def _find(self, runner: asyncio.Runner) -> None:
        if self._is_open:
            try:
                # An adoption that breaks off may have brought some, too.
                must_read, self._has_adopted = self._has_adopted, True
                if runner.run(self._store.adopt()) or must_read:
                    self._recent.forget_results()
                    _, self._pending = runner.run(self._read())
                self._has_adopted = False
            except Exception as error:
                self._fail(error)
        if self._is_open or self._wants_pending_now or self._is_refused:
            self._wants_pending = False
            self._listener.found(self._pending)

    def _flush(self, runner: asyncio.Runner, *, is_first: bool = False) -> bool:
        """Write one batch: group commit, it holds whatever came during the previous one. Whether there may be more."""
        wants_sync, self._wants_sync = self._wants_sync, False
        batch = self._intake.take()
        try:
            if batch:
                rows = rows_of(self._run.id, chain.from_iterable(self._in_parts(batch)))
                runner.run(self._store.append(rows))
                for part in self._in_parts(batch):
                    self._recent.add((entry.number, entry.fact) for entry in part if entry.fact is not None)
                self._intake.done(missing(batch, rows))
                self._rest_at = time.monotonic() + LINGER
            self.committed = self._intake.first - 1
            if wants_sync:
                runner.run(self._store.sync())
                self.synced = self.committed
        except Exception as error:
            self._wants_sync = wants_sync
            self._fail(error)
            return False
        self._listener.settled()
        return (bool(batch) and self._tidy(runner)) or is_first

    def _in_parts(self, batch: list[Entry]) -> Iterator[list[Entry]]:
        """*batch* in parts of less than a tenth of a millisecond, letting whoever publishes run in between.

        A thread that wants the interpreter lock back waits 5 ms for one that computes, and their loop's timers with it.
        Who waits for this very batch is served at once.
        """
        for first in range(0, len(batch), PART):
            if first and not (self._intake.is_crowded or self._stir.is_set):
                time.sleep(BREATH)
            yield batch[first : first + PART]

    def _tidy(self, runner: asyncio.Runner) -> bool:
        """Delete a little more than a batch may have brought; whether the store is well."""
        if self._intake.stored >= self._tidied_at + TIDY_EVERY:
            self._tidied_at = self._intake.stored
            self._has_rubbish = True
        try:
            for _ in range(2):
                self._has_rubbish = self._has_rubbish and runner.run(self._store.tidy())
        except Exception as error:
            self._fail(error)
        return self._is_open

    def _fail(self, error: Exception) -> None:
        self._is_open = False
        self._is_refused = isinstance(error, ForeignJournalError | NewerJournalError)  # that will not pass
        self._again_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2.0, LONGEST_PAUSE)
        reason = redact(f"{type(error).__name__}: {error}")
        is_news, self.reason = reason != self.reason, reason
        if is_news:
            self._news.degraded(reason)
        self._listener.settled()

    def _close(self, runner: asyncio.Runner) -> None:
        try:
            runner.run(self._store.close())
        except Exception as error:
            log.warning("closing the journal failed: %s", redact(str(error)))
