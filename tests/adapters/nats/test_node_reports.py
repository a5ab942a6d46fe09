"""A node tells of itself: signs of life and events, in batches, without secrets, and never at a body's cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest

from adapters.nats import node_reports
from adapters.nats.board import ClusterEvent, MemoryBoard
from adapters.nats.errors import UnreachableError
from adapters.nats.jetstream_board import about
from adapters.nats.memory import MemoryServers
from adapters.nats.names import ANY, claim_of
from adapters.nats.node_reports import NodeReporter
from events.bus import Bus
from events.codec import decode
from events.evidence import Category, Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    OperationStarted,
    OperationSucceeded,
)
from events.question_events import QuestionAnswered

pytestmark = pytest.mark.anyio
CALL = "render/order-17@42"


class Works:
    """A worker."""

    def __init__(self, *names: str, concurrency: int = 2) -> None:
        self.names, self.versions, self.running, self.concurrency = list(names), {names[0]: "2"}, 1, concurrency


class Told:
    """A node whose clock stands at 10 s, and servers whose clock stands at 1000 s."""

    def __init__(self) -> None:
        self.worker = Works("render")
        self.bus = Bus(clock=lambda: 10.0)
        self.board = MemoryBoard()
        servers = MemoryServers(lambda: 1000.0)
        self.teller = NodeReporter(self.bus, servers.connect(), self.board, node="gpu-a")

    @asynccontextmanager
    async def works(self) -> AsyncIterator[None]:
        """It works, and its first sign of life is told."""
        async with self.teller.telling(self.worker):
            await anyio.sleep(0.01)
            yield

    def kinds(self) -> list[str]:
        return [one.kind for one in self.board.all_events()]


@pytest.fixture
async def told() -> Told:
    return Told()


def failed(text: str = "broke") -> FailureClassified:
    return FailureClassified(
        at=9.0, call=CALL, operation="render", category=Category.TRANSIENT, rule="r",
        evidence=Evidence(type="OSError", message=text),
    )  # fmt: skip


async def test_a_node_tells_that_it_lives_and_what_it_runs(told: Told) -> None:
    async with told.works():
        [node] = await told.board.nodes()
    assert (node.node, node.since, node.seen, node.running, node.concurrency) == ("gpu-a", 1000.0, 1000.0, 1, 2)
    assert (node.operations, node.versions) == (("render",), {"render": "2"})
    [node] = await told.board.nodes()
    assert (node.is_stopped, node.running, node.operations) == (True, 0, ("render",))


async def test_all_workers_of_a_node_are_told_as_one(told: Told) -> None:
    async with told.works():
        async with told.teller.telling(Works("caption", "render", concurrency=3)):
            await anyio.sleep(6.0)
            [node] = await told.board.nodes()
            assert (node.operations, node.running, node.concurrency) == (("render", "caption"), 2, 5)
            told.bus.publish(OperationSucceeded(at=1.0, call=CALL, operation="render"))
            told.bus.publish(OperationSucceeded(at=1.0, call=CALL, operation="caption"))
            told.bus.publish(failed())
        await anyio.sleep(6.0)
        [node] = await told.board.nodes()
        assert (node.operations, node.is_stopped) == (("render",), False)
        told.bus.publish(OperationSucceeded(at=1.0, call=CALL, operation="caption"))
    assert sorted(told.kinds()) == ["FailureClassified", "OperationSucceeded", "OperationSucceeded"]


async def test_events_are_told_with_their_time_by_the_clock_of_the_servers(told: Told) -> None:
    async with told.works():
        told.bus.publish(failed())
        await told.teller.flush()
    [event] = await told.board.events("render/order-17")
    assert (event.at, event.node, event.kind, event.fence) == (999.0, "gpu-a", "FailureClassified", 42)
    assert decode(bytes(event.event)) == failed()


async def test_no_secret_and_nothing_that_a_program_gave_a_call_is_told(told: Told) -> None:
    given = msgspec.Raw(b'[["s3cret-scene"],{}]')
    async with told.works():
        told.bus.publish(OperationStarted(at=1.0, call=CALL, operation="render", arguments=given))
        told.bus.publish(CheckpointSaved(at=2.0, call=CALL, operation="render", data=msgspec.Raw(b'"s3cret-part"')))
        told.bus.publish(QuestionAnswered(at=3.0, name="colour", value=msgspec.Raw(b'"s3cret-red"')))
        told.bus.publish(failed("https://user:s3cret-pass@example.org refused"))
        await told.teller.flush()
    assert told.kinds() == ["OperationStarted", "CheckpointSaved", "QuestionAnswered", "FailureClassified"]
    assert b"s3cret" not in b"".join(told.board._events)


async def test_of_healthy_calls_those_of_the_operations_that_it_runs_are_told(told: Told) -> None:
    async with told.works():
        told.bus.publish(OperationSucceeded(at=1.0, call="1-1", operation="other"))
        told.bus.publish(OperationSucceeded(at=1.0, call=CALL, operation="render"))
        await told.teller.flush()
    assert told.kinds() == ["OperationSucceeded"]


async def test_what_the_queue_does_not_take_is_dropped_and_counted(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_reports, "MOST_WAITING", 3)
    async with told.works():
        for _ in range(5):
            told.bus.publish(failed())
        assert told.teller.dropped == 2
        await told.teller.flush()
    assert len(told.kinds()) == 3


async def test_an_event_that_is_too_large_is_dropped_and_counted(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_reports, "MOST_BYTES", 10)
    async with told.works():
        told.bus.publish(failed())
        await told.teller.flush()
    assert (told.teller.dropped, told.kinds()) == (1, [])


async def test_events_wait_in_order_while_no_server_answers(told: Told) -> None:
    async with told.works():
        told.board.is_reachable = False
        told.bus.publish(failed("1"))
        told.bus.publish(failed("2"))
        with pytest.raises(UnreachableError):
            await told.teller.flush()
        told.bus.publish(failed("3"))
        told.board.is_reachable = True
        await told.teller.flush()
    read = [decode(bytes(one.event)) for one in told.board.all_events()]
    assert [one.evidence.message for one in read if isinstance(one, FailureClassified)] == ["1", "2", "3"]
    assert told.teller.dropped == 0


async def test_a_teller_that_is_cancelled_tells_what_is_left_and_that_it_has_stopped(told: Told) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(told.teller.run)
        while not await told.board.nodes():
            await anyio.sleep(0)
        told.bus.publish(failed())
        tasks.cancel_scope.cancel()
    [node] = await told.board.nodes()
    assert node.is_stopped
    assert told.kinds() == ["FailureClassified"]
    told.bus.publish(failed())
    assert len(told.teller._waiting) == 0, "it listens no more"


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (CALL, ("render/order-17", 42)),
        (f"{CALL} outcome", ("render/order-17", 42)),
        ("1a2b3c4d-3", ("", 0)),
        ("", ("", 0)),
        ("a b/\r\nPUB x@3", ("", 0)),
        (f"{'a' * 5000}/b@3", ("", 0)),
        (f"a/b@{'9' * 5000}", ("", 0)),
    ],
)
def test_a_call_of_the_cluster_is_known_by_the_id_that_it_has_on_a_node(call: str, found: tuple[str, int]) -> None:
    assert claim_of(call) == found


@pytest.mark.parametrize("operation", ["a" * 6000, "ü" * 100, "\ud800", ""])
def test_an_event_of_an_operation_with_any_name_has_a_subject(operation: str) -> None:
    event = ClusterEvent(at=1.0, node="gpu-a", kind="ProgressMade", operation=operation)
    assert about(event) == f"{ANY}.{ANY}"
    assert about(msgspec.structs.replace(event, operation="a b")) == f"a=20b.{ANY}"
    assert about(msgspec.structs.replace(event, call="render/one")) == "render.one"
