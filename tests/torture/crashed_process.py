"""What the kill loop kills: a process with four threads and an async producer, which notes outside what it did.

A note is one line in a file that is opened for appending: what a process has written there survives its ``kill -9``.

    began RUN / opened SECONDS                # the journal is open
    left CALL                                 # found pending, and not resumed
    accepted CALL KIND ATTEMPT SECONDS        # publishing returned
    acknowledged CALL KIND ATTEMPT            # a receipt said that it is committed
    promised CALL KIND ATTEMPT / closing      # the same of a strict call, which is promised nothing after the close
    commit SECONDS / committed SECONDS        # the store began to write a batch, and had written it
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
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

LONGEST_CHAIN = 12
FEW = Retention(calls=300)
"""So that calls are deleted all the time, and a kill finds it under way."""


class CommandHandler(msgspec.Struct, frozen=True):
    """What a victim is to do. With *carries_on* it resumes what it finds; after *seconds* it closes, and ends.

    Who *is_quiet* asks for no receipt to be fulfilled at once: the flush interval alone says when something is written.
    """

    path: str
    notes: str
    seed: int
    seconds: float
    carries_on: bool = False
    deletes: bool = False
    is_hasty: bool = False
    works: bool = True
    is_quiet: bool = False


class Notes:
    """The file outside."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class NotingStore(SQLiteStore):
    """Notes when batches are written."""

    note: Notes

    async def append(self, rows: Sequence[Row]) -> None:
        self.note("commit", time.monotonic())
        await super().append(rows)
        self.note("committed", time.monotonic())


class HastyStore(NotingStore):
    """Says that a batch is written before it is: the bug that the loop must see."""

    _late: Sequence[Row] = ()

    async def append(self, rows: Sequence[Row]) -> None:
        kept, self._late = self._late, rows
        if kept:
            await super().append(kept)


def work(encoded: dict[str, Any]) -> None:
    """Do as the orders say, until killed."""
    commands = msgspec.convert(encoded, CommandHandler)
    CrashedProcess(commands).run()


class CrashedProcess:
    def __init__(self, commands: CommandHandler) -> None:
        self.commands = commands
        self.note = Notes(commands.notes)
        self.is_over = threading.Event()

    def run(self) -> None:
        commands = self.commands
        store = (HastyStore if commands.is_hasty else NotingStore)(
            commands.path, retention=FEW if commands.deletes else Retention()
        )
        store.note = self.note
        self.service = Recovery(store=store)
        self.note("began", self.service.bus.run)
        self.service.bus.subscribe((CallEvent, OperationStarted, OperationSucceeded), self._accepted)
        policy = RetryPolicy(max_retries=4, backoff=(0.0,))
        self.job = self.service.recoverable("job", policy=policy, breaker=None, resumable=True)(self._job)
        self.pay = self.service.recoverable("pay", policy=policy, breaker=None, resumable=True, durability="strict")(
            self._pay
        )
        self.fetch = self.service.recoverable("fetch", policy=policy, breaker=None, resumable=True)(self._fetch)
        anyio.run(self._run)

    async def _run(self) -> None:
        async with self.service:
            if self.commands.carries_on:
                resumption = self.service.resume()
                await resumption.loaded.opened()
                for record in resumption.left:
                    self.note("left", record.call)
            assert self.service.journal is not None
            await anyio.to_thread.run_sync(self.service.journal.pending)
            self.note("opened", time.monotonic())
            if self.commands.works:
                busy: list[Callable[[random.Random], None]] = [self._chain, self._chain, self._jobs, self._flood]
                works = [self._flood] * 4 if self.commands.is_quiet else busy
                for number, work in enumerate(works):
                    rng = random.Random(f"{self.commands.seed} {number}")
                    threading.Thread(target=self._again_and_again, args=(work, rng), daemon=True).start()
            end = time.monotonic() + self.commands.seconds
            rng = random.Random(f"{self.commands.seed} async")
            while time.monotonic() < end:
                if self.commands.works:
                    await self._produce(rng)
                else:
                    await anyio.sleep(0.001)
            if self.commands.carries_on and not self.commands.works:
                await resumption
            self.is_over.set()
            self.note("closing")
        self.note("closed", time.monotonic())

    def _again_and_again(self, work: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self.is_over.is_set():
            work(rng)

    # what is noted

    def _accepted(self, event: CallEvent) -> None:
        is_told = isinstance(event, OperationSucceeded) and event.recovered
        if not is_told and not isinstance(event, OperationFailed | CheckpointSaved):  # newer progress replaces older
            self.note("accepted", event.call, type(event).__name__, event.attempt, time.monotonic())

    def _acknowledge(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            self.note("acknowledged", event.call, type(event).__name__, event.attempt)

    def _receipt(self) -> Receipt:
        assert self.service.journal is not None
        return self.service.journal.receipt()

    # what is done

    def _events(self, rng: random.Random) -> list[CallEvent]:
        """A call's chain of events, from its first failure on; not every one ends."""
        call, length = self.service.bus.new_call_id(), rng.randint(1, LONGEST_CHAIN)
        events: list[CallEvent] = [
            RetryScheduled(at=0.0, operation="chain", call=call, attempt=number, after=0.0, retry=number)
            for number in range(1, length + 1)
        ]
        end = rng.choice([OperationRecovered, OperationRecovered, OperationRecovered, GaveUp, None])
        return events if end is None else [*events, end(at=0.0, operation="chain", call=call, attempt=length)]

    def _chain(self, rng: random.Random) -> None:
        """Publish, and wait for a receipt every now and then."""
        unsure: list[CallEvent] = []
        for event in self._events(rng):
            self.service.bus.publish(event)
            unsure.append(event)
            if rng.random() < 0.5:
                self._receipt().wait()
                self._acknowledge(unsure)
                unsure = []

    def _flood(self, rng: random.Random) -> None:
        """Publish, and wait for nothing: these are written when the flush interval is over."""
        unsure: deque[tuple[Receipt, CallEvent]] = deque()
        for event in self._events(rng):
            self.service.bus.publish(event)
            unsure.append((self._receipt(), event))
            time.sleep(0.002)
            while unsure and unsure[0][0].why_not() is None:
                self._acknowledge([unsure.popleft()[1]])

    async def _produce(self, rng: random.Random) -> None:
        """As ``_chain``, in a coroutine, and with calls that are resumed."""
        events = self._events(rng)
        for event in events:
            self.service.bus.publish(event)
            await anyio.sleep(0)
        if self.commands.is_quiet:
            await anyio.sleep(0.01)
            return
        await self._receipt().committed()
        self._acknowledge(events)
        await self.fetch(rng.randint(0, 2))

    def _jobs(self, rng: random.Random) -> None:
        self.job(rng.randint(0, 3))
        call, attempt = self.pay(rng.randint(0, 2))
        self.note("promised", call, "OperationSucceeded" if attempt == 1 else "OperationRecovered", attempt)

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
