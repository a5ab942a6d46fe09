"""``SharedKnowledge``: one node of a cluster tells what it learns of hosts, and learns what the other nodes tell.

A circuit, a pause and a budget are entries (``entries``) of one bucket. Changes are heard at most once, so each node
also reads what is new every few seconds and after a reconnect. Cut off, it decides alone and tells later.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import msgspec

from adapters.nats.engine import answered
from adapters.nats.errors import ClusterError, UnreachableError
from adapters.nats.knowledge.bucket import SharedBucket
from adapters.nats.knowledge.entries import (
    Entry,
    Opened,
    Paused,
    Probing,
    Recovered,
    Used,
    key_of,
    newly_used,
    news_of_circuit,
    news_of_limit,
    released,
)
from adapters.nats.knowledge.probes import LEASE, Probes
from adapters.nats.knowledge.replica import Replica
from adapters.nats.link import Link
from events.circuit_events import CircuitClosed, CircuitOpened
from events.operation_events import FailureClassified
from events.own_log import own_log
from recovery.knowledge import Knowledge
from recovery.policies.retry import LIMITED
from recovery.redact import brief
from recovery.service import Recovery

TICK = 0.5
"""Seconds after which a node tells what it has used of budgets."""

SWEEP = 3.0
"""Seconds after which a node reads what it may have missed, and repairs what dead nodes left."""

REPAIRS = 100
"""Entries that one sweep repairs or prolongs at most."""

MAX_NEWS = 10_000
"""News that wait for the servers; the oldest beyond are dropped."""

log = own_log("recovery.cluster")


class SharedKnowledge:
    """What the nodes of a cluster know together, for one service: circuits, rate limits and retry budgets.

        async with SharedKnowledge(service, link, "gpu-a"):
            ...

    Args:
        service: The service that tells and learns.
        link: The connection; its owner closes it.
        node: The name of this node.
    """

    def __init__(self, service: Recovery, link: Link, node: str) -> None:
        self.node = node
        self.refused = 0
        """Writes that the servers refused."""
        self.dropped = 0
        """News that were not told: there were too many, or they were too long."""
        self._run = secrets.token_hex(8)
        self._bus, self._link = service.bus, link
        self._knowledge = Knowledge(service)
        self._bucket = SharedBucket(link)
        self._replica = Replica(self._bucket, self._now, self._receive)
        self._news: dict[str, tuple[Entry, int]] = {}  # with the revision that was known when it happened
        self._probes = Probes(service.bus.clock, self._claim)
        self._told: dict[str, tuple[int, int]] = {}
        self._offset = 0.0  # seconds by which the servers' clock is ahead of the bus's
        self._created, self._read, self._reconnects, self._is_first = "", 0, 0, False
        self._swept = self._ticked = 0.0
        self._is_cut_off = True
        self._said: set[str] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: list[Callable[[], object]] = []
        self._hearing = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    async def start(self, timeout: float = 0.0) -> None:
        """Read what the cluster knows, in *timeout* seconds; begin to tell and to learn. Raises as ``connect``."""
        self._loop = asyncio.get_running_loop()
        await answered(self._catch_up, timeout)  # first: it reads the servers' clock
        circuits = self._bus.subscribe((CircuitOpened, CircuitClosed), self._on_circuit)
        limits = self._bus.subscribe(FailureClassified, self._on_failure)
        self._ends = [circuits.close, limits.close, lambda: self._knowledge.ask_before_probes(None)]
        await self._hearing.enter_async_context(self._bucket.followed(self._replica.receive))
        await answered(self._catch_up, timeout)
        self._knowledge.ask_before_probes(self._ask)
        self._task = asyncio.create_task(self._work(), name=f"shared knowledge of {self.node}")

    async def stop(self) -> None:
        """Tell and learn no more; a right to probe is given back. Idempotent."""
        for end in self._ends:
            end()
        self._ends = []
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if task is not None and self._link.is_connected:
            self._give_back()
            with suppress(ClusterError):  # its lease ends by itself
                await self._write_news()
        await self._hearing.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # What leaves: on the bus, from any thread.

    def _on_circuit(self, event: CircuitOpened | CircuitClosed) -> None:
        self._tell(news_of_circuit(event, self._about(event.operation, event.key), self._offset))

    def _on_failure(self, failure: FailureClassified) -> None:
        if failure.category is LIMITED:
            self._tell(news_of_limit(failure, self._about(failure.operation, failure.key), self._offset))

    def _about(self, operation: str, key: str) -> dict[str, Any]:
        return {"operation": operation, "key": key, "node": self.node, "run": self._run}

    def _tell(self, news: Entry | None) -> None:
        if news is None or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._line_up, news)
        except RuntimeError:
            self.dropped += 1  # the loop has ended

    def _line_up(self, news: Entry) -> None:
        key = key_of(news)
        if isinstance(news, Opened | Recovered):
            self._probes.end(news.operation, news.key)
        self._news.pop(key, None)
        self._news[key] = news, self._replica.revision(key)
        if len(self._news) > MAX_NEWS:
            del self._news[next(iter(self._news))]
            self.dropped += 1
        self._wake.set()

    def _ask(self, operation: str, key: str) -> float:
        is_alone = self._is_cut_off or not self._link.is_connected
        return 0.0 if is_alone else self._probes.ask(operation, key)

    def _claim(self, operation: str, key: str) -> None:
        self._tell(Probing(**self._about(operation, key), until=0.0))

    # What comes in: in the loop.

    def _receive(self, entry: Entry, before: Entry | None) -> None:
        if entry.run == self._run:
            return  # an echo
        if isinstance(entry, Used):
            self._count(entry, before if isinstance(before, Used) else None)
        else:
            self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        knowledge, part, node = self._knowledge, (entry.operation, entry.key), entry.node
        match entry:
            case Opened(until=until):
                knowledge.learn_open(
                    *part, until=until - self._offset, node=node, failures=entry.failures, times=entry.times,
                    category=entry.category, cause=entry.cause,
                )  # fmt: skip
            case Probing(until=until):
                knowledge.learn_probe(*part, until=until - self._offset, node=node, times=entry.times)
            case Recovered():
                knowledge.learn_closed(*part, node=node)
            case Paused(until=until):
                knowledge.learn_limit(*part, until=until - self._offset, node=node)

    def _count(self, entry: Used, before: Used | None) -> None:
        taken, successes = newly_used(entry, before)
        if self._is_first:  # the cluster's budget as that node saw it has all that was taken
            age = max(self._now() - entry.at, 0.0)
            self._knowledge.learn_used(entry.operation, entry.key, taken=0, tokens=entry.tokens, age=age)
        elif taken or successes:
            self._knowledge.learn_used(entry.operation, entry.key, taken=taken, successes=successes)

    # The task.

    async def _work(self) -> None:
        while self._ends:  # asked too: nats-py may swallow a cancellation
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._wake.wait()
            self._wake.clear()
            if not self._link.is_connected:  # what is sent now would arrive late
                self._is_cut_off = True
                continue
            try:
                if self._is_due():
                    await self._catch_up()
                    self._repair()
                self._tell_budgets()
                await self._write_news()
            except ClusterError as error:
                log.debug("%s is cut off from the cluster: %s", self.node, error)
                self._is_cut_off = True
                await asyncio.sleep(TICK)
            except Exception as error:  # one that is not foreseen does not end the sharing
                self._log_once(error)
                await asyncio.sleep(TICK)

    def _log_once(self, error: Exception) -> None:
        if (kind := type(error).__name__) not in self._said:
            self._said.add(kind)
            about = error if isinstance(error, ClusterError) else f"{kind}: {error}"
            log.warning("something that %s knows is not told to the cluster: %s", self.node, brief(str(about)))

    def _now(self) -> float:
        return self._bus.clock() + self._offset

    def _is_due(self) -> bool:
        """Whether there may be news that were not heard."""
        has_reconnected = self._link.connection.stats["reconnects"] != self._reconnects
        return self._is_cut_off or has_reconnected or self._bus.clock() >= self._swept + SWEEP

    async def _catch_up(self) -> None:
        """Read what has changed since the last time, and how late it is for the servers."""
        reconnects, began = self._link.connection.stats["reconnects"], self._bus.clock()
        state = await self._bucket.state()
        ended = self._bus.clock()
        self._offset = state.time - (began + ended) / 2.0
        is_first = state.created != self._created or state.last < self._read  # the first time, or another bucket
        if is_first:
            self._replica.clear()
            self._read = 0
        found = await self._bucket.since(self._read)
        self._is_first = is_first
        for stored in found:
            self._replica.receive(stored)
            self._read = max(self._read, stored.revision)
        self._is_first = False
        self._created, self._reconnects, self._swept, self._is_cut_off = state.created, reconnects, ended, False
        if is_first:
            for opened in self._knowledge.opened_here():
                self._on_circuit(opened)

    def _repair(self) -> None:
        """Say that a probe of this node lasts; end those that are lost; forget what is over."""
        now = self._now()
        for entry in self._replica.probes()[:REPAIRS]:
            part, is_own = (entry.operation, entry.key), entry.run == self._run
            if key_of(entry) in self._news:
                continue  # what came of it is still to be told
            if is_own and self._knowledge.is_probing(*part):
                self._line_up(msgspec.structs.replace(entry, until=now + LEASE))
            elif self._probes.is_unused(*part) if is_own else entry.until <= now:
                self._line_up(released(entry, now, self.node, self._run))
        self._replica.forget(now)

    def _give_back(self) -> None:
        for entry in self._replica.probes():
            if entry.run == self._run:
                self._line_up(released(entry, self._now(), self.node, self._run))

    def _tell_budgets(self) -> None:
        if self._bus.clock() < self._ticked + TICK:
            return
        self._ticked = self._bus.clock()
        for (operation, key), usage in self._knowledge.usage().items():
            counted = usage.taken, usage.successes
            news = Used(
                **self._about(operation, key), taken=usage.taken, successes=usage.successes, tokens=usage.tokens,
                at=self._now(),
            )  # fmt: skip
            if self._told.get(name := key_of(news)) != counted:
                self._told[name] = counted
                self._line_up(news)

    async def _write_news(self) -> None:
        while self._news:
            key, (news, known) = next(iter(self._news.items()))
            try:
                stands = await self._replica.offer(key, news, known)
            except ValueError:
                self.dropped += 1
                stands = True  # here alone: a probe that the cluster cannot be asked for is this node's own
            except UnreachableError:
                raise
            except Exception as error:  # refused, or not foreseen: the others are told
                self.refused += 1
                self._log_once(error)
                stands = True
            if self._news.get(key, (None, 0))[0] is news:
                del self._news[key]
            if isinstance(news, Probing):
                self._answered(key, news, is_granted=stands)

    def _answered(self, key: str, news: Probing, *, is_granted: bool) -> None:
        part = news.operation, news.key
        if is_granted:
            if self._probes.granted(*part):
                self._knowledge.may_probe(*part)
        elif self._probes.end(*part):
            theirs = self._replica.entry(key)
            if theirs is not None and theirs.run != self._run:
                self._learn(theirs)
