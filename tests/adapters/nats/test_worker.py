"""Workers of a cluster: which calls they run, how a call goes on elsewhere, and what is written of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from adapters.nats import RemoteCallError
from adapters.nats.engine import Payload
from adapters.nats.errors import UnreadableError
from adapters.nats.jetstream import MAX_RECORD
from adapters.nats.memory import MemoryEngine
from adapters.nats.record import MAX_CHECKPOINT, MAX_PAYLOAD, Change, Stored
from adapters.nats.steering import steer
from adapters.nats.transitions import paused, unpaused
from events.errors import CallCancelledError
from recovery import Recovery, context
from recovery.testing import VirtualClock
from tests.adapters.nats.machines import LEASE, Deaf, Machines, until

pytestmark = pytest.mark.anyio


class Renders:
    """Defines "render" with a body of the test's, and notes its attempts: node, number, fence, checkpoint, time."""

    def __init__(self, clock: VirtualClock, body: Callable[..., Any] | None = None, **settings: Any) -> None:
        self.clock, self.body, self.settings = clock, body, settings
        self.attempts: list[tuple[int, int, Any, float]] = []
        self.running = 0

    def __call__(self, service: Recovery) -> object:
        settings = {"max_retries": 3, "initial_delay": 1.0, "jitter": "none", **self.settings}

        @service.recoverable("render", **settings)
        async def render(scene: Any = None) -> Any:
            self.attempts.append((context.attempt(), context.fence(), context.saved(), self.clock()))
            self.running += 1
            try:
                return scene if self.body is None else await self.body(scene)
            finally:
                self.running -= 1

        return render


class Blind(MemoryEngine):
    """Reads no payload."""

    async def payload(self, call: str, kind: Payload) -> bytes | None:
        raise UnreadableError(f"{call}: too large for this release")


class Slept(MemoryEngine):
    """Stands still for longer than a lease before it reads its first record."""

    has_slept = False

    async def read(self, call: str) -> Stored | None:
        if not self.has_slept and call.startswith("render/"):
            self.has_slept = True
            await asyncio.sleep(LEASE + 10.0)
        return await super().read(call)


class Slow(MemoryEngine):
    """Takes long to write the end of a call: its servers elect a leader."""

    async def write(self, change: Change, expected: int) -> int:
        if change.record.is_over:
            await asyncio.sleep(8.0)
        return await super().write(change, expected)


async def forever(scene: Any) -> None:
    await asyncio.sleep(100_000.0)


async def test_a_call_runs_on_any_node_and_its_result_comes_back(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock)
    async with machines.machine("a", renders) as a, machines.machine("b", renders, "render") as b:
        handle = await a.cluster.submit("render", {"scene": [1, 2]})
        assert await handle.result(60.0) == {"scene": [1, 2]}
        assert machines.record(handle.call).node == "b"
        assert machines.servers.queued() == []
        assert b.working[0].done() is False


async def test_a_worker_runs_so_many_calls_at_a_time(clock: VirtualClock, machines: Machines) -> None:
    most = []

    async def body(scene: Any) -> None:
        most.append(renders.running)
        await asyncio.sleep(5.0)

    renders = Renders(clock, body)
    async with machines.machine("a", renders) as a:
        a.work("render", concurrency=3)
        for handle in [await a.cluster.submit("render", number) for number in range(9)]:
            await handle.result(60.0)
        assert max(most) == 3


async def test_a_short_retry_is_made_under_the_same_claim(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if context.attempt() < 3:
            raise ConnectionError("reset")
        return scene

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render", 7)
        assert await handle.result(60.0) == 7
        assert [attempt for attempt, *_ in renders.attempts] == [1, 2, 3]
        assert len({fence for _, fence, *_ in renders.attempts}) == 1
        standing = machines.record(handle.call).standing
        assert (standing.attempt, standing.retries) == (3, 2)


async def test_a_long_retry_begins_when_it_is_due_under_a_new_claim(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if context.attempt() == 1:
            raise ConnectionError("reset")
        return scene

    renders = Renders(clock, body, initial_delay=60.0)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render", 7)
        await until(lambda: machines.record(handle.call).state == "waiting")
        record = machines.record(handle.call)
        assert record.due == pytest.approx(renders.attempts[0][3] + 60.0, abs=0.2)
        assert await handle.result(100.0) == 7
        (_, first, _, _), (number, second, _, began) = renders.attempts
        assert number == 2
        assert second > first
        assert 0.0 <= began - record.due <= 0.01


async def test_attempts_count_where_the_node_dies_in_a_short_wait(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if context.attempt() == 1:
            raise ConnectionError("reset")
        if context.attempt() == 2:
            await forever(scene)
        return context.attempt()

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: len(renders.attempts) == 2)
        await asyncio.sleep(1.0)
        a.cut()
        b.work("render")
        assert await handle.result(100.0) == 3
        assert machines.record(handle.call).standing.retries == 2


async def test_a_dead_nodes_call_goes_on_from_its_checkpoint(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if context.saved() is None:
            context.checkpoint({"frame": 17})
            await forever(scene)
        return context.saved()

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        await asyncio.sleep(1.0)
        a.cut()
        cut_at = clock()
        b.work("render")
        assert await handle.result(100.0) == {"frame": 17}
        (_, first, _, _), (number, second, saved, began) = renders.attempts
        assert second > first
        assert saved == {"frame": 17}
        assert began - cut_at <= LEASE + 1.0
        assert number == 1
        assert machines.record(handle.call).standing.retries == 0


async def test_the_latest_checkpoint_goes_with_the_end_of_a_leg(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if context.attempt() == 1:
            for frame in (1, 2, 3):
                context.checkpoint(frame)
                await asyncio.sleep(0.01)
            raise ConnectionError("reset")
        return context.saved()

    renders = Renders(clock, body, initial_delay=60.0)
    async with machines.machine("a", renders, "render") as a:
        assert await (await a.cluster.submit("render")).result(100.0) == 3


async def test_the_time_of_a_call_counts_on_all_its_nodes(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        raise ConnectionError("reset")

    renders = Renders(clock, body, initial_delay=60.0, backoff_factor=1.0, max_retries=None, max_elapsed=150.0)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders, "render"):
        with pytest.raises(RemoteCallError, match="ConnectionError: reset"):
            await (await a.cluster.submit("render")).result(1000.0)
        assert [number for number, *_ in renders.attempts] == [1, 2, 3]


async def test_a_death_after_progress_uses_no_retry(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if not renders.attempts[1:]:
            context.progress(5.0)
            await asyncio.sleep(1.5)
            context.progress(6.0)
            await forever(scene)

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        await asyncio.sleep(3.0)
        a.cut()
        b.work("render")
        await handle.result(100.0)
        assert machines.record(handle.call).standing.retries == 0


async def test_what_a_stale_worker_finds_is_refused(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        fence = context.fence()
        await asyncio.sleep(100.0 if len(renders.attempts) == 1 else 500.0)
        context.checkpoint(fence)
        return fence

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        a.cut()
        b.work("render")
        await until(lambda: len(renders.attempts) == 2)
        await asyncio.sleep(80.0)  # the first body ends
        a.cut(False)
        (_, _, _, _), (_, second, _, _) = renders.attempts
        assert await handle.result(1000.0) == second
        assert "OutcomeSuperseded" in a.kinds()


async def test_a_worker_that_stood_still_takes_no_call_from_a_live_one(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> None:
        await asyncio.sleep(100.0)

    renders = Renders(clock, body)
    async with (
        machines.machine("a", renders, "render", engine=Slept),
        machines.machine("b", renders) as b,
    ):
        handle = await b.cluster.submit("render")
        await asyncio.sleep(1.0)
        b.work("render")
        await handle.result(1000.0)
        assert machines.record(handle.call).node == "b"
        assert len(renders.attempts) == 1
        assert machines.servers.queued() == []


async def test_a_drain_waits_until_the_outcome_of_a_body_is_written(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        await asyncio.sleep(5.0)
        return scene

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render", engine=Slow) as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render", 7)
        await until(lambda: renders.attempts and not renders.running)
        await a.cluster.drain(0.0)
        b.work("render")
        await asyncio.sleep(2 * LEASE)
        assert await handle.result(100.0) == 7
        assert len(renders.attempts) == 1


async def test_a_node_that_was_cut_off_delivers_its_outcome(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        await asyncio.sleep(20.0)
        return scene

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render", 3)
        await until(lambda: renders.attempts)
        a.cut()
        await asyncio.sleep(100.0)
        assert machines.record(handle.call).state == "running"
        a.cut(False)
        await until(lambda: machines.record(handle.call).is_over, 10_000.0)  # a real thread reads what is kept
        assert await handle.result(20.0) == 3
        assert len(renders.attempts) == 1


async def test_a_call_that_needs_the_cluster_ends_with_its_lease(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock, forever, cluster="required")
    async with machines.machine("a", renders, "render") as a:
        await a.cluster.submit("render")
        await until(lambda: renders.attempts)
        a.cut()
        cut_at = clock()
        await until(lambda: not renders.running, 2 * LEASE)
        assert clock() - cut_at <= LEASE + 1.0


async def test_a_call_that_kills_its_nodes_is_quarantined(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock, forever, max_retries=2)
    async with machines.machine("a", renders) as a:
        handle = await a.cluster.submit("render")
        for number in range(3):
            async with machines.machine(f"dying {number}", renders, "render") as dying:
                await until(lambda number=number: len(renders.attempts) > number)
                dying.cut()
            await asyncio.sleep(LEASE)
        a.work("render")
        await until(lambda: machines.record(handle.call).state == "quarantined")
        assert "retries (2) are used up" in machines.record(handle.call).reason
        assert [attempt for attempt, *_ in renders.attempts] == [1, 2, 3]


async def test_a_failed_call_says_why_and_where(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        raise ValueError("no scene at https://me:hunter2@host/")

    async with machines.machine("a", Renders(clock, body), "render") as a:
        handle = await a.cluster.submit("render")
        with pytest.raises(RemoteCallError) as caught:
            await handle.result(60.0)
        error = caught.value
        assert (error.state, error.error[0], error.node) == ("gave up", "ValueError", "a")
        assert "no scene at" in str(error)
        assert "hunter2" not in str(error)


async def test_affinity_binds_a_call_to_its_node(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await a.cluster.submit("render", affinity="b")
        await asyncio.sleep(30.0)
        assert renders.attempts == []
        assert (await handle.status()).why == "waits for b, which has never been seen"
        b.work("render")
        await handle.result(60.0)
        assert machines.record(handle.call).node == "b"


async def test_a_worker_runs_no_other_operations(clock: VirtualClock, machines: Machines) -> None:
    ran: list[str] = []

    def define(service: Recovery) -> object:
        async def note(name: str) -> None:
            ran.append(name)

        return [service.recoverable(name)(note) for name in ("render", "train")]

    async with machines.machine("a", define, "render") as a:
        await a.cluster.submit("train", "train")
        await (await a.cluster.submit("render", "render")).result(60.0)
        await asyncio.sleep(30.0)
        assert ran == ["render"]


async def test_a_call_of_another_version_is_left_to_its_workers(clock: VirtualClock, machines: Machines) -> None:
    old, new = Renders(clock, version="1"), Renders(clock, version="2")
    async with machines.machine("a", old) as a, machines.machine("b", new, "render") as b:
        handle = await a.cluster.submit("render")
        await asyncio.sleep(60.0)
        assert new.attempts == []
        assert 6 <= b.cluster.refused["another version"] <= 13
        await asyncio.sleep(0.11)  # the two do not look at the same times
        a.work("render")
        await handle.result(3600.0)
        assert len(old.attempts) == 1


async def test_a_call_that_runs_is_cancelled_there(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock, forever)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: renders.attempts)
        assert await handle.cancel("wrong scene")
        with pytest.raises(RemoteCallError, match="wrong scene") as caught:
            await handle.result(60.0)
        assert caught.value.state == "cancelled"
        assert renders.running == 0
        assert "OperationCancelled" in a.kinds()


async def test_a_call_that_is_paused_begins_no_short_retry(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        await asyncio.sleep(5.0)
        if context.attempt() < 3:
            raise ConnectionError("reset")
        return context.attempt()

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: renders.attempts)
        engine = machines.servers.connect()
        await steer(engine, handle.call, lambda stored, now: paused(stored.record, now))
        await asyncio.sleep(60.0)
        record = machines.record(handle.call)
        assert (record.state, record.due, record.standing.attempt, record.standing.retries) == ("queued", None, 2, 1)
        assert (len(renders.attempts), machines.servers.queued()) == (1, [])
        await steer(engine, handle.call, lambda stored, now: unpaused(stored.record, now))
        assert await handle.result(60.0) == 3
        assert [number for number, *_ in renders.attempts] == [1, 2, 3]


async def test_a_result_that_is_too_large_ends_the_call(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        return "x" * MAX_PAYLOAD

    async with machines.machine("a", Renders(clock, body), "render") as a:
        with pytest.raises(RemoteCallError, match=r"the result: 524,290 bytes.*524,288 at most: return where"):
            await (await a.cluster.submit("render")).result(60.0)


async def test_a_checkpoint_that_is_too_large_is_counted_and_left(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        if not renders.attempts[1:]:
            context.checkpoint(1)
            context.checkpoint("x" * MAX_CHECKPOINT)
            await forever(scene)
        return context.saved()

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        await asyncio.sleep(1.0)
        a.cut()
        b.work("render")
        assert await handle.result(100.0) == 1
        assert a.cluster.refused["a checkpoint"] == 1


async def test_a_worker_of_an_unknown_name_does_not_begin(clock: VirtualClock, machines: Machines) -> None:
    async with machines.machine("a", Renders(clock)) as a:
        with pytest.raises(LookupError, match="'rendr'; there are: render"):
            await a.cluster.work(["rendr"])


async def test_a_drained_worker_lets_its_calls_end(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> Any:
        await asyncio.sleep(20.0)
        return scene

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a:
        first, second = [await a.cluster.submit("render", number) for number in (1, 2)]
        await until(lambda: renders.attempts)
        await a.cluster.drain(60.0)
        await asyncio.wait(a.working, timeout=1.0)
        assert a.working[0].done()
        assert await first.result(1.0) == 1
        assert machines.record(second.call).state == "queued"


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_stopped_worker_hands_its_calls_back(
    clock: VirtualClock, machines: Machines, is_cancelled: bool
) -> None:
    async def body(scene: Any) -> Any:
        if not renders.attempts[1:]:
            context.checkpoint("half")
            await forever(scene)
        return context.saved()

    renders = Renders(clock, body)
    async with machines.machine("a", renders, "render") as a, machines.machine("b", renders) as b:
        handle = await b.cluster.submit("render")
        await until(lambda: renders.attempts)
        await asyncio.sleep(1.0)
        if is_cancelled:
            a.working[0].cancel()
            await asyncio.wait(a.working)
        else:
            await a.cluster.drain(10.0)
        assert machines.record(handle.call).state == "queued"
        b.work("render")
        assert await handle.result(10.0) == "half"
        assert machines.record(handle.call).standing.retries == 0


async def test_a_plain_body_that_does_not_stop_is_left_behind(clock: VirtualClock, machines: Machines) -> None:
    gate, asked = threading.Event(), list[bool]()

    def define(service: Recovery) -> object:
        @service.recoverable("render")
        def render() -> str:
            gate.wait(10.0)
            asked.append(context.cancelled())
            return "late"

        return render

    async with machines.machine("a", define, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: machines.record(handle.call).state == "running")
        await a.cluster.drain(0.0)
        assert machines.record(handle.call).state == "queued"
        gate.set()
        await until(lambda: asked)
        assert asked == [True]
        await asyncio.sleep(1.0)
        assert machines.record(handle.call).state == "queued"


async def test_a_plain_body_that_is_cancelled_sees_it(clock: VirtualClock, machines: Machines) -> None:
    def define(service: Recovery) -> object:
        @service.recoverable("render")
        def render() -> None:
            for _ in range(10_000):
                threading.Event().wait(0.001)
                if context.cancelled():
                    raise CallCancelledError("stopped")

        return render

    async with machines.machine("a", define, "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: machines.record(handle.call).state == "running")
        await handle.cancel("enough")
        with pytest.raises(RemoteCallError, match="enough"):
            await handle.result()


async def test_a_claim_whose_answer_was_lost_is_no_death(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock)
    async with machines.machine("a", renders) as a:
        handle = await a.cluster.submit("render", 3)
        async with machines.machine("b", renders, "render", engine=Deaf):
            assert await handle.result(20.0) == 3
        assert (renders.attempts[0][0], len(renders.attempts)) == (1, 1)
        assert machines.record(handle.call).standing.deaths == 0


async def test_arguments_that_cannot_be_read_end_the_call(clock: VirtualClock, machines: Machines) -> None:
    renders = Renders(clock)
    async with machines.machine("a", renders) as a:
        handle = await a.cluster.submit("render", 3)
        async with machines.machine("b", renders, "render", engine=Blind) as b:
            with pytest.raises(RemoteCallError, match="too large for this release"):
                await handle.result(20.0)
            assert b.cluster.refused["what cannot be read"] == 1


async def test_a_record_with_long_texts_is_read(clock: VirtualClock, machines: Machines) -> None:
    async def body(scene: Any) -> None:
        error = ConnectionError('"\\' * 4000)
        for _ in range(50):
            cause, error = error, ConnectionError('"\\' * 4000)
            error.__cause__ = cause
        raise error

    async with machines.machine("a", Renders(clock, body, initial_delay=60.0), "render") as a:
        handle = await a.cluster.submit("render")
        await until(lambda: machines.record(handle.call).state == "waiting")
        await handle.cancel("\x01" * 100_000)
        assert 65_536 < len(msgspec.json.encode(machines.record(handle.call))) < MAX_RECORD


@pytest.mark.parametrize(("retries", "delay"), [(0, 1.0), (1, 1.0), (1, 60.0)], ids=["at its end", "here", "later"])
async def test_a_record_has_no_password(clock: VirtualClock, machines: Machines, retries: int, delay: float) -> None:
    async def body(scene: Any) -> None:
        error = ConnectionError("no answer of nats://me:hunter2@host")
        error.__cause__ = OSError("https://me:hunter2@host")
        raise error

    renders = Renders(clock, body, max_retries=retries, initial_delay=delay)
    async with machines.machine("a", renders, "render") as a:
        handle = await a.cluster.submit("render")
        for _ in range(100):
            assert b"hunter2" not in msgspec.json.encode(machines.record(handle.call))
            await asyncio.sleep(0.05)
        assert machines.record(handle.call).standing.failure
