"""How queue messages come to a worker: requests to the consumers of its lanes, answered over one inbox."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import msgspec

from adapters.nats.boot_clock import boottime
from adapters.nats.errors import ClusterError, UnreachableError
from adapters.nats.link import ANSWERED_WITHIN, Link
from adapters.nats.names import Lane, Subjects
from recovery.installation import extra

with extra("nats"):
    from nats import errors
    from nats.aio.msg import Msg

PULLED_FOR = 5.0
"""Seconds for which one request waits at the servers, at most; then another one takes its place."""

PULLED_FOR_SHARE = 1 / 3
"""The most of a lease for which one does: a stopped worker must not get its own call once more."""

LOOKED_FOR = 0.5
"""Seconds in which the servers say what waits in one queue; what comes later is taken all the same, or goes back."""

TRIED_AGAIN_AFTER = 0.25
"""Seconds before a consumer without a leader is asked again."""

UNUSED_FOR = 24 * 3600
"""Seconds after which the servers forget a consumer that no worker asks; its messages stay."""

SETTLES = 0.05
"""Seconds in which a loop gives what has come to those that take it."""

NO_WAIT = b'{"batch":1,"no_wait":true}'
PUT_BACK = b"-NAK"

Config: TypeAlias = dict[str, object]


def consumer(subjects: Subjects, lane: Lane, lease: float) -> Config:
    """The settings of the consumer of *lane*."""
    return {
        "durable_name": lane.consumer,
        "name": lane.consumer,
        "filter_subject": subjects.lane(lane),
        "ack_policy": "explicit",
        "ack_wait": int(lease * 1e9),
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 65_536,
        "inactive_threshold": UNUSED_FOR * 10**9,
    }


class _Waiter:
    """One that waits for a message of *lanes*."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = frozenset(lanes)
        self.changed = asyncio.Event()
        self.message: Msg | None = None


class Pulls:
    """Requests for queue messages. At most one waits at the servers for each lane; an unwanted message goes back.

    What comes to a process that stood still, or whose loop a body blocked, may be another worker's by now: it is let
    alone, for a word about it would be a word about that worker's lease. It comes again if nobody holds it.

    Args:
        link: The connection.
        subjects: The subjects of the cluster.
        lease: Seconds for which a message is the worker's, unless it says that it lives.
    """

    def __init__(self, link: Link, subjects: Subjects, lease: float) -> None:
        self._link = link
        self._subjects = subjects
        self._lease = lease
        self._pulled_for = min(PULLED_FOR, lease * PULLED_FOR_SHARE)
        self._inbox = ""
        self._numbers = itertools.count(1)
        self._made: set[Lane] = set()
        self._asked: dict[Lane, tuple[str, asyncio.Future[Msg]]] = {}
        self._turns: defaultdict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._standing: dict[Lane, tuple[str, float]] = {}
        self._lanes: dict[str, Lane] = {}
        self._waiters: list[_Waiter] = []
        self._ran = boottime()
        self._is_current = asyncio.Event()  # cleared while what came to a loop that stood still is let alone
        self._is_current.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take what the servers send, until the block ends."""
        self._inbox = self._link.connection.new_inbox()
        with self._link.on_return(self._forget):
            async with self._link.subscribed(f"{self._inbox}.*", self._got):
                watching = asyncio.create_task(self._stay_current())
                try:
                    yield
                finally:
                    watching.cancel()

    async def take(self, lanes: Sequence[Lane], timeout: float) -> Msg | None:
        """The next message of *lanes*, the first ones first; None if none comes within *timeout* seconds.

        Raises:
            UnreachableError: No server answers.
        """
        silent: list[UnreachableError] = []
        self._look_at_clock()
        await self._is_current.wait()
        for lane in lanes:
            if not self._stands(lane):  # otherwise all that waited there has come
                try:
                    await self._make(lane)
                    if (found := await self._now(lane)) is not None:
                        return found
                except UnreachableError as error:  # the server that leads this one: others may answer for theirs
                    silent.append(error)
        if silent and len(silent) == len(lanes):
            raise silent[-1]
        if timeout <= 0.0:
            return None
        waiter = _Waiter(lanes)
        self._waiters.append(waiter)
        try:
            await self._wait(waiter, lanes, boottime() + timeout)
            found, waiter.message = waiter.message, None
            return found if self._look_at_clock() else None
        finally:
            self._waiters.remove(waiter)
            if waiter.message is not None:
                await self._refuse(waiter.message)

    async def _wait(self, waiter: _Waiter, lanes: Sequence[Lane], end: float) -> None:
        while waiter.message is None and (left := end - boottime()) > 0.0:
            for lane in lanes:
                await self._stand(lane)
            first = min(until for lane in lanes for _, until in [self._standing.get(lane, ("", end))])
            if waiter.message is None:
                try:
                    async with asyncio.timeout(max(0.0, min(left, first - boottime()))):
                        await waiter.changed.wait()
                except TimeoutError:
                    pass
                waiter.changed.clear()

    async def _stand(self, lane: Lane) -> None:
        """Let a request wait at the servers for a message of *lane*."""
        if self._stands(lane):
            return
        self._lanes.pop(self._standing.get(lane, ("", 0.0))[0], None)
        token, wanted = f"{next(self._numbers)}", {"batch": 1, "expires": int(self._pulled_for * 1e9)}
        self._standing[lane] = token, boottime() + self._pulled_for + 1.0
        self._lanes[token] = lane
        try:
            await self._make(lane)
            await self._ask(lane, token, msgspec.json.encode(wanted))
        except BaseException:
            if self._lanes.pop(token, None) is not None:
                del self._standing[lane]
            raise

    def _stands(self, lane: Lane) -> bool:
        return lane in self._standing and boottime() < self._standing[lane][1]

    async def _now(self, lane: Lane) -> Msg | None:
        """What waits in *lane*."""
        async with self._turns[lane]:
            token, answer = f"{next(self._numbers)}", asyncio.get_running_loop().create_future()
            self._asked[lane] = token, answer
            is_taken = False
            try:
                await self._ask(lane, token, NO_WAIT)
                async with asyncio.timeout(LOOKED_FOR):
                    found: Msg = await answer
                is_taken = True
            except TimeoutError as error:
                raise UnreachableError(f"no server answers for the queue {lane.tokens}") from error
            finally:
                del self._asked[lane]
                if not is_taken and answer.done() and not answer.cancelled() and answer.exception() is None:
                    await self._refuse(answer.result())
        if found.reply:
            return found
        self._trouble(lane, found)
        return None

    async def _ask(self, lane: Lane, token: str, wanted: bytes) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._subjects.prefix}.{lane.consumer}"
        await self._link.tell(subject, wanted, reply=f"{self._inbox}.{token}")

    async def _make(self, lane: Lane) -> None:
        """Make the consumer of *lane*, unless it is there."""
        if lane in self._made:
            return
        name = f"$JS.API.CONSUMER.CREATE.{self._subjects.prefix}.{lane.consumer}"
        wanted = {"stream_name": self._subjects.prefix, "config": consumer(self._subjects, lane, self._lease)}
        answer = msgspec.json.decode((await self._link.ask(name, msgspec.json.encode(wanted))).data)
        if "error" in answer:
            refusal = answer["error"]
            kind = UnreachableError if refusal.get("code") == 503 else ClusterError
            raise kind(f"the servers make no queue {lane.tokens}: {refusal.get('description')}")
        self._made.add(lane)

    async def _got(self, message: Msg) -> None:
        """Give a message to its lane, and an answer without one to its request: the subject is that of either."""
        if message.reply:
            await self._deliver(message, Lane.of(message.subject))
            return
        token = message.subject.rpartition(".")[2]
        for asked, answer in self._asked.values():
            if asked == token and not answer.done():
                answer.set_result(message)
        if (lane := self._lanes.pop(token, None)) is not None:
            del self._standing[lane]
            self._trouble(lane, message)
            self._wake(lane)

    async def _deliver(self, message: Msg, lane: Lane) -> None:
        _, answer = self._asked.get(lane, ("", None))
        if not self._look_at_clock():
            if answer is not None and not answer.done():
                answer.set_exception(TimeoutError())
            return
        if answer is not None and not answer.done():
            answer.set_result(message)
            return
        self._lanes.pop(self._standing.pop(lane, ("", 0.0))[0], None)
        waiter = next((one for one in self._waiters if lane in one.lanes and one.message is None), None)
        if waiter is None:
            await self._refuse(message)
        else:
            waiter.message = message
        self._wake(lane)

    def _wake(self, lane: Lane) -> None:
        for one in self._waiters:
            if lane in one.lanes:
                one.changed.set()

    def _trouble(self, lane: Lane, answer: Msg) -> None:
        """After an *answer* without a message: a queue without a consumer gets one, and is let alone for a moment."""
        if (answer.headers or {}).get("Status") in ("404", "408"):
            return
        self._made.discard(lane)
        if lane not in self._standing:
            token = f"{next(self._numbers)}"
            self._standing[lane], self._lanes[token] = (token, boottime() + TRIED_AGAIN_AFTER), lane

    async def _refuse(self, message: Msg) -> None:
        """Let another worker have *message*."""
        if not message.reply or not self._look_at_clock():
            return
        with suppress(UnreachableError):  # then it comes again when its lease ends
            await self._link.tell(message.reply, PUT_BACK)

    def _look_at_clock(self) -> bool:
        """Whether what has come is of now: this loop has not stood still for half a lease since it was asked for."""
        now = boottime()
        if now > self._ran + self._lease / 2:
            self._is_current.clear()
        self._ran = now
        return self._is_current.is_set()

    async def _stay_current(self) -> None:
        while True:
            if not self._look_at_clock():
                with suppress(errors.Error, OSError, TimeoutError):
                    await self._link.connection.flush(int(ANSWERED_WITHIN))  # what was on its way has come now
                    await asyncio.sleep(SETTLES)
                self._forget()
                self._is_current.set()
            await asyncio.sleep(self._lease / 10)

    def _forget(self) -> None:
        """The servers have forgotten what they were asked."""
        self._standing.clear()
        self._lanes.clear()
        for waiter in self._waiters:
            waiter.changed.set()
