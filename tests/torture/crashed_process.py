"""The process that the kill loop kills: four threads and an async producer, which note what they did in a file.

A note is one line in a file opened for appending, so it survives the process's ``kill -9``.

    began RUN / opened SECONDS                # the journal is open
    left CALL / quarantined CALL              # found pending, and not resumed
    accepted CALL KIND ATTEMPT SECONDS        # publishing has returned
    acknowledged CALL KIND ATTEMPT            # a receipt said that it is committed
    promised CALL KIND ATTEMPT / closing      # the same for a strict call; after the close nothing is promised
    commit SECONDS / committed SECONDS        # the store began to write a batch / has written it
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from events.errors import JoinedElsewhere
from events.event import CallEvent
from events.operation_events import (
    CheckpointSaved,
    GaveUp,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from recovery import context
from recovery.journal.receipts import Receipt
from recovery.journal.store import Row
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery

MAX_CHAIN = 12
KEEP_FEW = Retention(calls=300)
"""Deletes calls all the time, so that some kills come during a deletion."""


MAX_RETRIES = 4


class Options(msgspec.Struct, frozen=True):
    """What the process does, until it is killed.

    Args:
        path: The journal's file.
        notes: The file for notes.
        seconds: When it closes the journal and ends, unless it was killed before.
        resumes: It resumes the calls that it finds.
        deletes: It keeps few calls and deletes the others.
        acknowledges_early: Its store acknowledges a batch before it is written: the bug that the loop must notice.
        works: It makes calls.
        waits_for_interval: It waits for no receipt, so that only the flush interval starts a batch.
    """

    path: str
    notes: str
    seed: int
    seconds: float
    resumes: bool = False
    deletes: bool = False
    acknowledges_early: bool = False
    works: bool = True
    waits_for_interval: bool = False


class Notes:
    """Appends notes to a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class NotingStore(SQLiteStore):
    """A store that notes when batches are written."""

    note: Notes

    async def append(self, rows: Sequence[Row]) -> None:
        self.note("commit", time.monotonic())
        await super().append(rows)
        self.note("committed", time.monotonic())


class EarlyStore(NotingStore):
    """A store that acknowledges each batch one batch too early."""

    _kept: Sequence[Row] = ()

    async def append(self, rows: Sequence[Row]) -> None:
        kept, self._kept = self._kept, rows
        if kept:
            await super().append(kept)


def work(encoded: dict[str, Any]) -> None:
    """Run the process, until it is killed."""
    CrashedProcess(msgspec.convert(encoded, Options)).run()


class CrashedProcess:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.note = Notes(options.notes)
        self.is_over = threading.Event()

    def run(self) -> None:
        options = self.options
        store = (EarlyStore if options.acknowledges_early else NotingStore)(
            options.path, retention=KEEP_FEW if options.deletes else Retention()
        )
        store.note = self.note
        self.service = Recovery(store=store)
        self.note("began", self.service.bus.run)
        self.service.bus.subscribe((CallEvent, OperationStarted, OperationSucceeded), self._accepted)
        policy = RetryPolicy(max_retries=MAX_RETRIES, backoff=(0.0,))
        self.job = self.service.recoverable("job", policy=policy, breaker=None, resumable=True)(self._job)
        strict = self.service.recoverable("pay", policy=policy, breaker=None, resumable=True, durability="strict")
        self.pay = strict(self._pay)
        self.fetch = self.service.recoverable("fetch", policy=policy, breaker=None, resumable=True)(self._fetch)
        anyio.run(self._run)

    async def _run(self) -> None:
        async with self.service:
            if self.options.resumes:
                resumption = self.service.resume()
                await resumption.loaded.opened()
                for record in resumption.left:
                    self.note("left", record.call)
                for record in resumption.quarantined:
                    self.note("quarantined", record.call)
            await anyio.to_thread.run_sync(self.service.journal.pending)
            self.note("opened", time.monotonic())
            if self.options.works:
                busy: list[Callable[[random.Random], None]] = [self._chain, self._chain, self._jobs, self._flood]
                works = [self._flood] * 4 if self.options.waits_for_interval else busy
                for number, work in enumerate(works):
                    rng = random.Random(f"{self.options.seed} {number}")
                    threading.Thread(target=self._repeat, args=(work, rng), daemon=True).start()
            end = time.monotonic() + self.options.seconds
            rng = random.Random(f"{self.options.seed} async")
            while time.monotonic() < end:
                if self.options.works:
                    await self._produce(rng)
                else:
                    await anyio.sleep(0.001)
            if self.options.resumes and not self.options.works:
                await resumption
            self.is_over.set()
            self.note("closing")
        self.note("closed", time.monotonic())

    def _repeat(self, work: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self.is_over.is_set():
            work(rng)

    # What it notes

    def _accepted(self, event: CallEvent) -> None:
        is_repeated = isinstance(event, OperationSucceeded) and event.recovered  # it follows an OperationRecovered
        if not is_repeated and not isinstance(event, OperationFailed | CheckpointSaved):  # progress coalesces
            self.note("accepted", event.call, type(event).__name__, event.attempt, time.monotonic())

    def _acknowledge(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            self.note("acknowledged", event.call, type(event).__name__, event.attempt)

    def _receipt(self) -> Receipt:
        return self.service.journal.receipt()

    # What it does

    def _events(self, rng: random.Random) -> list[CallEvent]:
        """The events of a call from its first failure on; some calls do not end."""
        call, length = self.service.bus.new_call_id(), rng.randint(1, MAX_CHAIN)
        events: list[CallEvent] = [
            RetryScheduled(at=0.0, operation="chain", call=call, attempt=number, after=0.0, retry=number)
            for number in range(1, length + 1)
        ]
        end = rng.choice([OperationRecovered, OperationRecovered, OperationRecovered, GaveUp, None])
        return events if end is None else [*events, end(at=0.0, operation="chain", call=call, attempt=length)]

    def _chain(self, rng: random.Random) -> None:
        """Publish, and wait for a receipt after every second event on average."""
        unsure: list[CallEvent] = []
        for event in self._events(rng):
            self.service.bus.publish(event)
            unsure.append(event)
            if rng.random() < 0.5:
                self._receipt().wait()
                self._acknowledge(unsure)
                unsure = []

    def _flood(self, rng: random.Random) -> None:
        """Publish without waiting: these events are written when the flush interval is over."""
        unsure: deque[tuple[Receipt, CallEvent]] = deque()
        for event in self._events(rng):
            self.service.bus.publish(event)
            unsure.append((self._receipt(), event))
            time.sleep(0.002)
            while unsure and unsure[0][0].why_not() is None:
                self._acknowledge([unsure.popleft()[1]])

    async def _produce(self, rng: random.Random) -> None:
        """Like ``_chain``, in a coroutine, and with resumable calls."""
        events = self._events(rng)
        for event in events:
            self.service.bus.publish(event)
            await anyio.sleep(0)
        if self.options.waits_for_interval:
            await anyio.sleep(0.01)
            return
        await self._receipt().committed()
        self._acknowledge(events)
        with suppress(JoinedElsewhere):
            await self.fetch(rng.randint(0, 2))

    def _jobs(self, rng: random.Random) -> None:
        try:
            self.job(rng.randint(0, 3))
            call, attempt = self.pay(rng.randint(0, 2))
        except JoinedElsewhere:  # another process ran an equal call meanwhile
            return
        is_new = attempt == 1 and call.startswith(self.service.bus.run)  # a call that was left ends as recovered
        self.note("promised", call, "OperationSucceeded" if is_new else "OperationRecovered", attempt)

    def _job(self, fails: int) -> None:
        for step in range(3):
            context.checkpoint(step)
        if context.attempt() <= fails:
            raise ConnectionError("reset")

    def _pay(self, fails: int) -> tuple[str, int]:
        self.note("promised", context.key(), "OperationStarted", context.attempt())
        if context.attempt() <= fails:
            raise ConnectionError("reset")
        return context.key(), context.attempt()

    async def _fetch(self, fails: int) -> None:
        await anyio.sleep(0)
        if context.attempt() <= fails:
            raise ConnectionError("reset")
