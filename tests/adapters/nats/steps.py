"""What happens in a cluster, step by step, on any engine: workers, persons, faults; and what must hold after each step.

A step is a coroutine of ``Steps`` with plain arguments. ``STEPS`` says which arguments there are, for hypothesis. The
machine in memory and the one on a real server run the same steps.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from hypothesis import strategies as st

from adapters.nats import transitions as to
from adapters.nats.engine import Changes, Delivery, Engine, Payload
from adapters.nats.errors import LeaseLostError, StaleError, UnreachableError
from adapters.nats.holding import Holding, claim
from adapters.nats.names import PRIORITIES, Lane, Priority, name_of
from adapters.nats.record import KEPT, CallRecord, Change, Standing, Stored

R = TypeVar("R")

OPERATION = "render"
NODES = ("a", "b", "c")
MOST_DEATHS = 3
BY_HAND = "enough"

CONNECTIONS = 2 + len(NODES)
"""Connections that ``Steps`` makes."""

Cut: TypeAlias = tuple[Literal["before", "after", "once", "lag"], int] | None
"""Which request of a step gets no answer, and whether the servers had done by then what it asked for; all after it get
none either, but for "once". Or, "lag": the next reading of a record gets the answer of the one before."""

Between: TypeAlias = tuple[str, int] | None
"""What happens between the reading and the writing of a step: a person acts on a call, or a node takes over."""


def run(steps: Coroutine[Any, Any, R]) -> R:
    """Run *steps*, which wait for nothing: the servers are in memory, with a clock of the test's."""
    try:
        steps.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits")


class FaultyEngine:
    """An engine of which one request, and all after it, get no answer; and something happens before its first write."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.lease = engine.lease
        self._seen: dict[str, Stored | None] = {}
        self.heal()

    def catch_up(self) -> None:
        """Lag behind no more: no server does so for long."""
        self._seen.clear()

    def heal(self) -> None:
        """Answer again."""
        self.cut: Cut = None
        self.before_write: Callable[[], Awaitable[None]] | None = None

    async def _ask(self, request: Callable[[], Awaitable[Any]]) -> Any:
        if self.cut is None or self.cut[0] == "lag":
            return await request()
        when, left = self.cut
        if left > 0:
            self.cut = (when, left - 1)
            return await request()
        self.cut = None if when == "once" else ("before", 0)
        if when != "before":
            await request()
        raise UnreachableError("no server answers")

    async def now(self) -> float:
        return float(await self._ask(self._engine.now))

    async def read(self, call: str) -> Stored | None:
        if self.cut is not None and self.cut[0] == "lag":
            self.cut = None
            if call in self._seen:
                return self._seen[call]
        found: Stored | None = await self._ask(lambda: self._engine.read(call))
        self._seen[call] = found
        return found

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        found: bytes | None = await self._ask(lambda: self._engine.payload(call, kind))
        return found

    async def write(self, change: Change, expected: int) -> int:
        if (before := self.before_write) is not None:
            self.before_write = None
            await before()
        return int(await self._ask(lambda: self._engine.write(change, expected)))

    async def take(self, lanes: Sequence[Lane], timeout: float) -> Delivery | None:
        found: Delivery | None = await self._ask(lambda: self._engine.take(lanes, timeout))
        return found

    async def ack(self, delivery: Delivery) -> None:
        await self._ask(lambda: self._engine.ack(delivery))

    async def put_back(self, delivery: Delivery, after: float = 0.0) -> None:
        await self._ask(lambda: self._engine.put_back(delivery, after))

    async def extend(self, lease: str) -> None:
        await self._ask(lambda: self._engine.extend(lease))

    def watch(self, call: str) -> AbstractAsyncContextManager[Changes]:
        return self._engine.watch(call)

    def calls(self) -> AsyncIterator[Stored]:
        return self._engine.calls()


class Held:
    """A holding of a worker, which may be stale, and what it tried to write without an answer."""

    def __init__(self, holding: Holding) -> None:
        self.holding = holding
        self.tried: set[str] = set()

    def is_current(self, stored: Stored | None) -> bool:
        """Whether it may write, if the servers say *stored*."""
        mine = (self.holding.fence, self.holding.record.token, "running")
        return stored is not None and (stored.record.fence, stored.record.token, stored.record.state) == mine


def _failed(record: CallRecord) -> Standing:
    standing = record.standing
    return msgspec.structs.replace(
        standing, attempt=standing.attempt + 1, retries=standing.retries + 1, has_failed=True
    )


def _revived(record: CallRecord, now: float) -> Standing | Change:
    standing = msgspec.structs.replace(_failed(record), deaths=record.standing.deaths + 1)
    if standing.deaths >= MOST_DEATHS:
        return to.quarantined(record, standing, f"{standing.deaths} deaths", now)
    return standing


HELD: dict[str, Callable[[CallRecord, float, float], Change | str]] = {
    "come further": lambda record, now, wait: to.came_further(record, b"1", now, now),
    "go on": lambda record, now, wait: to.goes_on(record, _failed(record), now),
    "postpone": lambda record, now, wait: to.postponed(record, _failed(record), wait, "a retry", now),
    "ask": lambda record, now, wait: to.postponed(record, record.standing, math.inf, "", now, asks_person=True),
    "hand back": lambda record, now, wait: to.handed_back(record, now),
    "succeed": lambda record, now, wait: to.succeeded(record, b"%d" % record.fence, record.standing, now),
    "fail": lambda record, now, wait: to.gave_up(record, _failed(record), "no", "permanent", ("OSError", "x"), now),
    "obey": lambda record, now, wait: to.cancelled(record, record.cancel or "it stops", now),
}
"""What a worker writes about a call that it holds: of its record, the time and a wait."""

PERSONS: dict[str, Callable[[Stored, float], Change | str]] = {
    "cancel": lambda stored, now: to.asked_to_cancel(stored.record, "wrong file", now),
    "cancel without its node": lambda stored, now: to.cancelled_without_node(stored, "wrong file", now),
    "retry": lambda stored, now: to.retried_now(stored.record, now),
    "give up": lambda stored, now: to.gave_up_by_hand(stored.record, BY_HAND, now),
    "pause": lambda stored, now: to.paused(stored.record, now),
    "unpause": lambda stored, now: to.unpaused(stored.record, now),
    "move to a": lambda stored, now: to.moved(stored, "a", now),
    "move to any": lambda stored, now: to.moved(stored, "", now),
}
"""What persons do to a call."""


class Life:
    """One call from its submission to its end, as the steps have seen it."""

    def __init__(self, record: CallRecord) -> None:
        self.latest = record
        self.fence = 0
        self.tokens: set[str] = set()
        self.accepted: set[int] = set()
        self.retried = False

    def see(self, record: CallRecord) -> None:
        """Compare *record* with what was seen before."""
        before, standing = self.latest, self.latest.standing
        assert not before.is_over or record == before, f"the end {before} became {record}"
        assert record.leg >= before.leg
        assert record.fence >= before.fence
        assert record.standing.attempt >= standing.attempt
        assert record.standing.done >= standing.done
        assert record.standing.retries >= standing.retries or self.retried, f"{standing} became {record.standing}"
        if record.state == "running" and record.token not in self.tokens:
            assert record.fence > self.fence, "a claim has no new fence"
            assert not record.is_paused, "a paused call was begun"
            assert record.cancel is None, "a call that is to be cancelled was begun"
            self.tokens.add(record.token)
        self.fence = max(self.fence, record.fence)
        self.latest, self.retried = record, False


class Steps:
    """Workers, persons and a program that submits, on the servers that *connect* connects with.

    Args:
        connect: A connection, and an observer's first of all.
        sleep: Lets that many seconds pass.
        waits: Seconds until a retry, one for each number of ``STEPS``.
        passes: Seconds that pass at once, the same; "lease" is a little more than a lease.
        messages: The call, the leg and the lane of every message, in queues and to come; None if only the servers know.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        sleep: Callable[[float], Awaitable[None]],
        waits: Sequence[float],
        passes: Sequence[float],
        messages: Callable[[], list[tuple[str, int, Lane]]] | None = None,
    ) -> None:
        self._observer = connect()
        self._program = FaultyEngine(connect())
        self._engines = {node: FaultyEngine(connect()) for node in NODES}
        self._held: dict[str, list[Held]] = {node: [] for node in NODES}
        self._sleep, self._waits, self._passes, self._messages = sleep, waits, passes, messages
        self._lives: dict[str, Life] = {}
        self.ended = 0

    # steps

    async def submit(self, key: str, priority: Priority, affinity: str, cut: Cut, between: Between) -> None:
        """A program submits a call, or finds the one that has its key."""
        engine = self._prepared(self._program, cut, between)
        name = name_of(OPERATION, key)
        now = await self._observer.now()
        life = self._lives.get(name.call)
        try:
            await engine.write(to.submitted(name, b"[]", now, priority=priority, affinity=affinity), 0)
        except StaleError:
            if (found := await self._observer.read(name.call)) is not None:
                assert found.record.operation == OPERATION
        except UnreachableError:
            pass
        else:
            if life is not None and between is None:
                ended = life.latest.ended
                assert ended is not None, "a second call with the key of a live one"
                assert now >= ended + KEPT, "a second call with the key of one that is kept"

    async def take(self, node: str, puts_back: bool, cut: Cut, between: Between) -> None:
        """A worker takes a message and claims its call, or puts it back."""
        engine = self._prepared(self._engines[node], cut, between)
        lanes = [Lane(OPERATION, priority, bound) for priority in PRIORITIES for bound in (node, "")]
        try:
            if (delivery := await engine.take(lanes, 0.0)) is None:
                return
            if puts_back:
                await engine.put_back(delivery)
                return
            holding = await claim(engine, delivery, node, _revived)
        except UnreachableError:
            return
        if holding is not None:
            now = await self._observer.now()
            assert holding.due is None or holding.due <= now + to.SOON, "claimed long before its time"
            assert Held(holding).is_current(holding.stored)
            self._held[node].append(Held(holding))

    async def act(self, which: int, what: str, wait: int, cut: Cut, between: Between) -> None:
        """A worker writes something about a call that it holds, or held once."""
        if (found := self._one(which)) is None:
            return
        node, held = found
        self._prepared(self._engines[node], cut, between)
        now = await self._observer.now()
        was_current = held.is_current(await self._observer.read(held.holding.record.call))
        kind = "postpone" if what == "ask" else what  # of two ends that wait, the one written counts
        seconds = self._waits[wait % len(self._waits)]
        try:
            record = await held.holding.apply(lambda record: HELD[what](record, now, seconds))
        except UnreachableError:
            held.tried.add(kind)
            return
        except LeaseLostError:
            assert not was_current or between is not None, f"a holder was refused: {what}"
            return
        is_by_hand = record.state in ("cancelled", "queued") or record.reason == BY_HAND  # a retry queues it, too
        is_obeyed = bool(held.tried) and is_by_hand  # whatever it was to be, a person was first
        assert was_current or kind in held.tried or is_obeyed, f"a stale holder wrote: {what}"
        if record.is_over:
            self._lives[record.call].accepted.add(held.holding.fence)
        if record.state != "running":
            with suppress(UnreachableError):
                await held.holding.end()

    async def let_go(self, which: int) -> None:
        """A worker lets a message go, of whatever it holds or held."""
        if (found := self._one(which)) is not None:
            node, held = found
            self._prepared(self._engines[node], None, None)
            await held.holding.end()

    async def beat(self, node: str, cut: Cut) -> None:
        """A worker extends the leases of what it holds."""
        engine = self._prepared(self._engines[node], cut, None)
        for held in self._held[node]:
            try:
                await held.holding.check()
                await engine.extend(held.holding.delivery.lease)
            except (UnreachableError, LeaseLostError):
                continue

    async def die(self, node: str) -> None:
        """A worker is killed."""
        self._held[node].clear()

    async def person(self, what: str, which: int) -> None:
        """A person does something to a call."""
        calls = sorted(self._lives)
        if calls:
            await self._steer(what, calls[which % len(calls)])

    async def wait(self, which: int) -> None:
        """Time passes."""
        for engine in (self._program, *self._engines.values()):
            engine.catch_up()
        await self._sleep(self._passes[which % len(self._passes)])

    # what must hold

    async def check(self) -> None:
        """Compare everything with what was seen before."""
        now = await self._observer.now()
        latest = {stored.record.call: stored async for stored in self._observer.calls()}
        for call, life in list(self._lives.items()):
            ended = life.latest.ended
            if call not in latest or (ended is not None and latest[call].record.ended is None):
                assert ended is not None, f"{call} is gone: {life.latest}"
                assert now >= ended + KEPT, "the end was forgotten too early"
                self._over(life)
                del self._lives[call]
        for call, stored in latest.items():
            self._lives.setdefault(call, Life(stored.record)).see(stored.record)
            holders = [held for one in self._held.values() for held in one if held.is_current(stored)]
            mine = [held for held in holders if held.holding.record.call == call]
            assert len(mine) <= 1, "two current tokens"
        if self._messages is not None:
            self._check_messages([stored.record for stored in latest.values()], self._messages())

    def _check_messages(self, records: list[CallRecord], messages: list[tuple[str, int, Lane]]) -> None:
        for record in records:
            own = messages.count((record.call, record.leg, record.lane))
            needs_person = record.is_paused or record.asks_person or record.state == "quarantined"
            waits = not record.is_over and (record.state == "running" or not needs_person)
            assert own == waits, f"{own} messages of {record}"

    def _over(self, life: Life) -> None:
        assert len(life.accepted) <= 1, f"the outcomes of {life.accepted} were accepted"
        self.ended += 1

    async def finish(self) -> None:
        """Heal everything, and see that every call ends."""
        for node in NODES:
            await self.die(node)
        for _ in range(20 + 4 * len(self._lives)):
            await self.check()
            live = [call for call, life in self._lives.items() if not life.latest.is_over]
            if not live:
                break
            for call in live:
                latest = self._lives[call].latest
                if latest.is_paused or latest.asks_person or latest.state == "quarantined":
                    await self._steer("retry" if latest.state != "running" else "unpause", call)
            await self._sleep(max(self._passes[0], self._observer.lease + 0.5))
            for node in NODES:
                await self._work(node)
        for life in list(self._lives.values()):
            assert life.latest.is_over, f"it never ended: {life.latest}"
            self._over(life)

    async def _work(self, node: str) -> None:
        for _ in range(10):
            await self.take(node, False, None, None)
            if not self._held[node]:
                return
            await self.act(0, "succeed", 0, None, None)
            await self.die(node)

    # parts of steps

    def _prepared(self, engine: FaultyEngine, cut: Cut, between: Between) -> FaultyEngine:
        engine.heal()
        engine.cut = cut
        if between is not None:
            what, which = between
            engine.before_write = lambda: self._interpose(what, which)
        return engine

    async def _interpose(self, what: str, which: int) -> None:
        if what == "take over":
            await self._sleep(self._observer.lease + 0.5)
            await self.take(NODES[which % len(NODES)], False, None, None)
        else:
            await self.person(what, which)

    async def _steer(self, what: str, call: str) -> None:
        now = await self._observer.now()
        while (stored := await self._observer.read(call)) is not None:
            change = PERSONS[what](stored, now)
            if isinstance(change, str):
                return
            try:
                await self._observer.write(change, stored.seq)
            except StaleError:
                continue
            self._lives[call].retried |= stored.record.state == "quarantined" and what == "retry"
            return

    def _one(self, which: int) -> tuple[str, Held] | None:
        """What a worker holds, or held: the latest of each node first."""
        held = [(node, one) for node in NODES for one in reversed(self._held[node])]
        return held[which % len(held)] if held else None


_NODE = st.sampled_from(NODES)
_WHICH = st.integers(0, 5)
_CUT = (
    st.none()
    | st.none()
    | st.tuples(st.sampled_from(["before", "after", "once", "lag"]), st.sampled_from([0, 0, 0, 1, 2, 3, 3]))
)
_BETWEEN = st.none() | st.none() | st.tuples(st.sampled_from([*sorted(PERSONS), "take over"]), _WHICH)

STEPS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "submit": {
        "key": st.sampled_from(["order-17", "order-17", "order-18", ""]),
        "priority": st.sampled_from(PRIORITIES),
        "affinity": st.sampled_from(["", "a"]),
        "cut": _CUT,
        "between": _BETWEEN,
    },
    "take": {"node": _NODE, "puts_back": st.sampled_from([False] * 5 + [True]), "cut": _CUT, "between": _BETWEEN},
    "act": {
        "which": _WHICH,
        "what": st.sampled_from(sorted(HELD)),
        "wait": _WHICH,
        "cut": _CUT,
        "between": _BETWEEN,
    },
    "let_go": {"which": _WHICH},
    "beat": {"node": _NODE, "cut": _CUT},
    "die": {"node": _NODE},
    "person": {"what": st.sampled_from(sorted(PERSONS)), "which": _WHICH},
    "wait": {"which": _WHICH},
}
"""The steps and their arguments."""

OFTEN = ("take", "take", "take", "act", "act", "act", "act", "person", "person", "wait")
"""The steps that happen oftener than the others: once more for each time here."""
