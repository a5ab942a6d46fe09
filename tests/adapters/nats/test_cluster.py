"""The public face of a cluster: calls are submitted, named by keys, and known by handles."""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest
from nats.aio.client import Client

from adapters.memory import MemoryStore
from adapters.nats import (
    Cluster,
    ClusterError,
    ClusterLimitError,
    RemoteCallError,
    UnknownCallError,
    UnreachableError,
)
from adapters.nats.knowledge.shared import SharedKnowledge
from adapters.nats.link import Link
from adapters.nats.record import KEPT, MAX_PAYLOAD
from adapters.nats.submission import Wish, new_call
from adapters.nats.view import ClusterAddress
from events.errors import CallRejectedError
from recovery import Recovery, leased
from recovery.testing import VirtualClock
from tests.adapters.nats.machines import Behind, Deaf, Machines, until

pytestmark = pytest.mark.anyio

ADDRESSES = ["nats://me:hunter2@host", "nats://hunter2@host:1", "me:hunter2@host", "hunter2@host:1"]
ran: list[Any] = []


def define(service: Recovery) -> object:
    """A "render" that notes its scene, and a "sort" that has an argument which submit takes for itself."""

    async def render(scene: Any = None, *, size: int = 1) -> Any:
        ran.append(scene)
        return [scene, size]

    async def sort(priority: str = "none") -> str:
        return priority

    return [
        service.recoverable("render")(render),
        service.recoverable("sort")(sort),
    ]


def define_keyed(service: Recovery) -> object:
    """Operations that make keys: one rejects other arguments, one joins the call that has the key."""

    async def keyed(scene: str, size: int = 1) -> Any:
        ran.append(scene)
        return [scene, size]

    return [
        service.recoverable("keyed", idempotency_key=lambda scene, size=1: scene, on_conflict="reject")(keyed),
        service.recoverable("joined", idempotency_key=lambda scene, size=1: scene)(keyed),
    ]


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


async def test_arguments_of_the_function_pass_through(machines: Machines) -> None:
    async with machines.machine("a", define, "render") as a:
        assert await (await a.cluster.submit("render", "x", size=3, priority="low")).result(60.0) == ["x", 3]
        assert machines.servers.records()[0].record.priority == "low"


async def test_a_key_that_was_submitted_gives_its_call(machines: Machines) -> None:
    async with machines.machine("a", define) as a, machines.machine("b", define) as b:
        first = await a.cluster.submit("render", "x", idempotency_key="order 17")
        second = await b.cluster.submit("render", "x", idempotency_key="order 17")
        assert first.call == second.call == "render/order=2017"
        b.work("render")
        assert await first.result(60.0) == await second.result(60.0) == ["x", 1]
        third = await a.cluster.submit("render", "x", idempotency_key="order 17")
        assert await third.result(60.0) == ["x", 1]
        assert ran == ["x"]


async def test_a_key_belongs_to_its_call_until_its_record_is_removed(machines: Machines) -> None:
    async with machines.machine("a", define, "render") as a:
        handle = await a.cluster.submit("render", "x", idempotency_key="k")
        await handle.result(60.0)
        machines.clock.advance(KEPT + 60.0)
        with pytest.raises(UnknownCallError, match="ended more than 7 days ago"):
            await handle.result(60.0)
        with pytest.raises(UnknownCallError):
            await handle.cancel()
        await (await a.cluster.submit("render", "x", idempotency_key="k")).result(60.0)
        assert ran == ["x", "x"]


async def test_calls_without_a_key_are_others(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        assert (await a.cluster.submit("render", "x")).call != (await a.cluster.submit("render", "x")).call


async def test_the_operation_makes_the_key(machines: Machines) -> None:
    async with machines.machine("a", define_keyed, store=MemoryStore()) as a:
        assert (await a.cluster.submit("keyed", "x")).call == "keyed/x"
        assert (await a.cluster.submit("keyed", "x", idempotency_key="y")).call == "keyed/y"


async def test_a_key_with_other_arguments_is_rejected(machines: Machines) -> None:
    async with machines.machine("a", define_keyed, store=MemoryStore()) as a:
        await a.cluster.submit("keyed", "x")
        with pytest.raises(
            CallRejectedError, match=r"keyed/x was submitted with other arguments .it stands at: queued."
        ):
            await a.cluster.submit("keyed", "x", size=2)
        assert len(machines.servers.records()) == 1


@pytest.mark.parametrize(("args", "kwargs"), [(("x", 1), {}), (("x",), {"size": 1}), ((), {"size": 1, "scene": "x"})])
async def test_equal_arguments_are_no_others_however_they_are_passed(
    machines: Machines, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    async with machines.machine("a", define_keyed, store=MemoryStore()) as a:
        first = await a.cluster.submit("keyed", "x")
        assert (await a.cluster.submit("keyed", *args, **kwargs)).call == first.call


async def test_the_order_of_a_dict_makes_no_other_arguments(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        made = [
            new_call(leased.operation(a.service, "render"), (scene,), {}, Wish())
            for scene in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
        ]
        assert made[0].digest == made[1].digest
        assert made[0].data != made[1].data


async def test_a_key_with_other_arguments_joins_where_the_operation_says_so(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async with machines.machine("a", define_keyed, "joined", store=MemoryStore()) as a:
        first = await a.cluster.submit("joined", "x")
        second = await a.cluster.submit("joined", "x", size=2)
        await until(lambda: machines.record("joined/x").is_over, 10_000.0)  # a real thread reads the journal
        assert await first.result(60.0) == await second.result(60.0) == ["x", 1]
        assert "its result is that of both" in caplog.text


async def test_what_submit_takes_for_itself_is_not_taken_from_the_function(machines: Machines) -> None:
    async with machines.machine("a", define, "sort") as a:
        with pytest.raises(TypeError, match=r"'priority' is a parameter of .* use submit_call\('sort', args, kwargs"):
            await a.cluster.submit("sort", priority="high")
        handle = await a.cluster.submit_call("sort", kwargs={"priority": "mine"}, priority="high")
        assert await handle.result(60.0) == "mine"
        assert machines.record(handle.call).priority == "high"
        assert await (await a.cluster.submit("sort", "by position")).result(60.0) == "by position"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"priority": "urgent"}, ValueError, "priority must be one of high, normal, low"),
        ({"affinity": "n" * 200}, ClusterLimitError, "the name of the node makes 200 bytes"),
        ({"affinity": 3}, TypeError, "affinity must be a text or None, not 3"),
        ({"idempotency_key": "k" * 300}, ClusterLimitError, "pass a shorter one, a hash of it"),
        ({"idempotency_key": 17}, TypeError, "idempotency_key must be a text"),
        ({"width": 3}, TypeError, "width"),
    ],
)
async def test_a_wrong_option_is_refused(
    machines: Machines, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    async with machines.machine("a", define) as a:
        with pytest.raises(error, match=says):
            await a.cluster.submit("render", "x", **options)
        assert machines.servers.records() == []


async def test_arguments_that_are_too_large_are_refused_with_figures(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        with pytest.raises(ClusterLimitError, match=r"render: the arguments: 52\d,\d{3} bytes.*524,288 at most: pass"):
            await a.cluster.submit("render", "x" * MAX_PAYLOAD)
        await a.cluster.submit("render", "x" * (MAX_PAYLOAD - 20))
        assert a.cluster.refused == {"a call beyond the limits": 1}


async def test_an_unknown_operation_lists_those_that_there_are(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        with pytest.raises(LookupError, match="there are: render, sort"):
            await a.cluster.submit("rendr")
        with pytest.raises(LookupError, match="there are: render"):
            a.cluster.handle("rendr/x")
        with pytest.raises(ValueError, match="'render' is no id of a cluster's call"):
            a.cluster.handle("render")


async def test_a_call_whose_answer_was_lost_is_submitted_once(machines: Machines) -> None:
    async with machines.machine("a", define, engine=Deaf) as a:
        handle = await a.cluster.submit("render", "x")
        assert [one.record.call for one in machines.servers.records()] == [handle.call]


async def test_submit_waits_for_servers_and_then_says_so(clock: VirtualClock, machines: Machines) -> None:
    async with machines.machine("a", define, timeout=20.0) as a:
        a.cut()
        submitting = asyncio.create_task(a.cluster.submit("render", "x"))
        await asyncio.sleep(10.0)
        a.cut(False)
        assert (await submitting).call
        a.cut()
        began = clock()
        with pytest.raises(UnreachableError):
            await a.cluster.submit("render", "x")
        assert 15.0 <= clock() - began <= 20.0


async def test_a_result_is_waited_for_while_no_server_answers(machines: Machines) -> None:
    async with machines.machine("a", define) as a, machines.machine("b", define) as b:
        handle = await a.cluster.submit("render", "x")
        waiting = asyncio.create_task(handle.result())
        await asyncio.sleep(1.0)
        a.cut()
        b.work("render")
        await asyncio.sleep(100.0)
        assert not waiting.done()
        a.cut(False)
        assert await waiting == ["x", 1]


async def test_a_result_that_takes_too_long_says_where_the_call_stands(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        handle = await a.cluster.submit("render", "x")
        with pytest.raises(TimeoutError, match=f"{handle.call} has not ended within 5 s: it is queued"):
            await handle.result(5.0)


async def test_a_queued_call_is_cancelled_at_once(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        handle = await a.cluster.submit("render", "x")
        assert await handle.cancel("not needed")
        assert (await handle.status()).state == "cancelled"
        with pytest.raises(RemoteCallError, match="not needed"):
            await handle.result(1.0)
        assert not await handle.cancel()
        a.work("render")
        await asyncio.sleep(10.0)
        assert ran == []


async def test_servers_that_lag_behind_lose_no_call(machines: Machines) -> None:
    async with (
        machines.machine("a", define, engine=Behind) as a,
        machines.machine("b", define, "render", engine=Behind),
    ):
        handle = await a.cluster.submit("render", "x")
        assert (await handle.status()).call == handle.call
        assert await handle.result(300.0) == ["x", 1]
        assert not await handle.cancel()
        with pytest.raises(UnknownCallError):
            await a.cluster.handle("render/never").status()


async def test_a_call_is_known_by_its_id_on_any_node(machines: Machines) -> None:
    async with machines.machine("a", define) as a, machines.machine("b", define, "render") as b:
        handle = b.cluster.handle((await a.cluster.submit("render", "x")).call)
        assert await handle.result(60.0) == ["x", 1]
        status = await handle.status()
        assert (status.state, status.node, status.attempt, status.is_over) == ("succeeded", "b", 1, True)


async def test_a_cluster_that_is_not_open_says_so(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        pass
    with pytest.raises(ClusterError, match="is not open"):
        await a.cluster.submit("render", "x")
    with pytest.raises(TypeError, match="needs the url"):
        Cluster(a.service)
    with pytest.raises(TypeError, match=r"work\(\['render'\]\)"):
        await a.cluster.work("render")


async def test_a_handle_of_a_closed_cluster_says_so(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        handle = await a.cluster.submit("render", "x")
        waiting = asyncio.create_task(handle.result())
        await asyncio.sleep(1.0)
    for asked in (waiting, handle.result(), handle.status(), handle.cancel()):
        with pytest.raises(ClusterError, match="the cluster is closed here"):
            await asyncio.wait_for(asked, 60.0)


@pytest.mark.parametrize("prefix", ["a.b", "x-events", "_x", "w w", ""])
def test_a_prefix_that_could_name_what_others_have_is_refused_at_once(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Cluster(Recovery(), "nats://host", node="a", prefix=prefix)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_cluster_shows_no_password_and_pickles_none(address: str) -> None:
    for url in (address, [address, address]):
        cluster = Cluster(Recovery(), url, node="a", password="hunter3", token="hunter4")
        with pytest.raises(TypeError, match="open one in each process") as caught:
            pickle.dumps(cluster)
        assert "hunter" not in repr(cluster) + str(caught.value)
    shown = ClusterAddress(f"{address},{address}")
    assert "hunter" not in repr(shown) + str(shown) + shown.shown + shown.source


async def test_a_handle_and_a_link_are_not_pickled(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        handle = await a.cluster.submit("render", 1)
        with pytest.raises(TypeError, match=r"pass handle\.call"):
            pickle.dumps(handle)
    with pytest.raises(TypeError, match="connect in each process"):
        pickle.dumps(Link(Client(), "recovery", "host:4222"))


def test_nothing_of_nats_is_imported_before_a_cluster_is_opened() -> None:
    program = "import sys, adapters.nats; adapters.nats.Cluster; assert 'nats' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60.0)


async def test_a_signal_drains_a_worker(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        working = asyncio.create_task(a.cluster.work(["render"], drain_on=[signal.SIGUSR1]))
        await asyncio.sleep(1.0)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait_for(working, 10.0)


async def test_a_signal_drains_all_workers_that_listen_to_it(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        working = [
            asyncio.create_task(a.cluster.work([name], drain_on=[signal.SIGUSR1])) for name in ("render", "sort")
        ]
        await asyncio.sleep(1.0)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait_for(asyncio.gather(*working), 10.0)


async def test_servers_that_elect_a_leader_as_a_node_opens_are_unreachable() -> None:
    shared = SharedKnowledge(Recovery(), Link(Client(), "p", "host:4222"), "a")
    with pytest.raises(UnreachableError, match="host:4222"):
        await shared.start()
    await shared.stop()


async def test_low_calls_run_while_high_ones_wait(machines: Machines) -> None:
    async with machines.machine("a", define) as a:
        for number in range(40):
            await a.cluster.submit("render", f"high {number}", priority="high")
        await a.cluster.submit("render", "low", priority="low")
        a.work("render")
        await until(lambda: len(ran) == 41)
        assert ran.index("low") <= 12


def test_a_cluster_under_trio_says_what_to_do(clock: VirtualClock) -> None:
    async def main() -> None:
        async with Cluster(Recovery(), "nats://host", node="a"):
            pass

    with pytest.raises(ClusterError, match="needs asyncio, and this program runs on trio"):
        anyio.run(main, backend="trio")
