"""Two services learn from each other: circuits, the probe of one node, rate limits and budgets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anyio
import pytest

from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.event import Event
from events.evidence import Category
from events.operation import Operation
from events.verdicts import GiveUp
from recovery.journal.circuit_history import replay_circuits
from recovery.knowledge import Knowledge
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_states import Forced, HalfOpen, Open
from recovery.policies.hosts import HOST_BREAKER
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of

TURN = 0.005
"""Seconds that this nodes takes to say which node may probe."""


class Nodes:
    """Nodes in one process that tell each other what they learn, and a host that answers from the time *back* on."""

    def __init__(self, *nodes: str, back: float = 1e9, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.back = back
        self.probing: dict[str, float] = {}
        self.attempts: Counter[str] = Counter()
        self.running = self.most_running = 0
        self.ends: list[tuple[str, float, Exception | None]] = []
        self.services = {node: Recovery(clock=self.clock, rng=lambda: 0.0, enable_logging=False) for node in nodes}
        self.knowledge = {node: Knowledge(service) for node, service in self.services.items()}
        self.downloads = {node: self._defined(node, **settings) for node in nodes}
        for node in nodes:
            self._connect(node)

    def _defined(self, node: str, **settings: Any) -> Any:
        settings = {"breaker": HOST_BREAKER, "when_open": "wait", "max_retries": 3, **settings}

        @self.services[node].recoverable("download", key=lambda host: host, **settings)
        async def download(host: str) -> None:
            self.attempts[node] += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            await anyio.sleep(0.01)
            self.running -= 1
            if self.clock() < self.back:
                raise ConnectionRefusedError(host)

        return download

    def _connect(self, node: str) -> None:
        others = [self.knowledge[other] for other in self.knowledge if other != node]

        def tell(event: Any) -> None:
            if event.node:
                return
            self.probing.pop(node, None)
            for other in others:
                if isinstance(event, CircuitClosed):
                    other.learn_closed(event.operation, event.key, node=node)
                else:
                    other.learn_open(
                        event.operation, event.key, until=event.at + event.after, node=node, times=event.times,
                        failures=event.failures, category=event.category, cause=event.cause,
                    )  # fmt: skip

        def ask(operation: str, key: str) -> float:
            if node in self.probing:
                return 0.0
            asyncio.get_running_loop().call_later(TURN, claim, operation, key)
            return 1.0

        def claim(operation: str, key: str) -> None:
            if self.probing:
                return
            self.probing[node] = self.clock()
            for other in others:
                other.learn_probe(operation, key, until=self.clock() + 10.0, node=node)
            self.knowledge[node].may_probe(operation, key)

        self.services[node].bus.subscribe((CircuitOpened, CircuitClosed), tell)
        self.knowledge[node].ask_before_probes(ask)

    def open_on(self, node: str) -> None:
        """Five calls on *node* find that the host is down."""
        for _ in range(5):
            Operation("download", self.services[node].bus, key="host").start().fail(ConnectionRefusedError("host"))

    async def call(self, node: str) -> None:
        error = None
        try:
            await self.downloads[node]("host")
        except Exception as raised:
            error = raised
        self.ends.append((node, self.clock(), error))

    def run(self, calls: int) -> Nodes:
        """Open the circuit on the first node, then make that many calls on each."""

        async def main() -> None:
            self.open_on(next(iter(self.services)))
            async with anyio.create_task_group() as group:
                for node in self.services:
                    for _ in range(calls):
                        group.start_soon(self.call, node)

        self.clock.run(main)
        return self


def alone() -> tuple[Recovery, Knowledge, VirtualClock]:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0, enable_logging=False)
    service.recoverable("download", key=lambda host: host)(lambda _: None)
    return service, Knowledge(service), clock


def test_a_call_is_rejected_by_a_circuit_that_another_node_opened() -> None:
    nodes = Nodes("gpu-a", "gpu-b", when_open="reject")
    nodes.open_on("gpu-a")

    async def main() -> None:
        with pytest.raises(CallRejectedError, match=r"circuit open: download\[host\], seen by gpu-a"):
            await nodes.downloads["gpu-b"]("host")

    nodes.clock.run(main)
    (incident,) = nodes.services["gpu-b"].incidents.open()
    assert incident.cause == "unreachable: ConnectionRefusedError: host, seen by gpu-a"
    assert nodes.attempts["gpu-b"] == 0


def test_an_own_failure_is_not_said_to_be_seen_by_another_node() -> None:
    nodes = Nodes("gpu-a", when_open="reject")
    nodes.open_on("gpu-a")
    assert "seen by" not in str(nodes.services["gpu-a"].incidents.open()[0])


def test_one_node_probes_and_its_success_closes_the_circuit_on_all() -> None:
    nodes = Nodes("gpu-a", "gpu-b", "gpu-c", back=20.0)
    closed = [events_of(service, CircuitClosed) for service in nodes.services.values()]
    running: list[int] = []

    async def main() -> None:
        nodes.open_on("gpu-a")
        async with anyio.create_task_group() as group:
            for node in nodes.services:
                for _ in range(5):
                    group.start_soon(nodes.call, node)
            await anyio.sleep(30.0 + TURN + 0.005)
            running.append(sum(nodes.attempts.values()))

    nodes.clock.run(main)
    assert running == [1]
    assert sum(nodes.attempts.values()) == len(nodes.ends) == 15
    assert all(error is None for _, _, error in nodes.ends)
    assert [len(events) for events in closed] == [1, 1, 1]
    assert all(not service.circuits.states() for service in nodes.services.values())


def test_a_failed_probe_counts_for_the_calls_of_every_node() -> None:
    nodes = Nodes("gpu-a", "gpu-b").run(10)
    assert len(nodes.ends) == 20
    assert max(at for _, at, _ in nodes.ends) <= 455.0  # as one call that probes after 30, 90, 210 and 450 seconds
    assert nodes.most_running == 1
    assert sum(nodes.attempts.values()) == 4


def test_a_failed_probe_of_another_node_lengthens_the_break() -> None:
    service, knowledge, clock = alone()
    opened = events_of(service, CircuitOpened, CircuitHalfOpened)
    knowledge.learn_open("download", "host", until=30.0, node="gpu-a")
    clock.advance(30.0)
    knowledge.learn_probe("download", "host", until=40.0, node="gpu-a")
    knowledge.learn_probe("download", "host", until=43.0, node="gpu-a")
    assert isinstance(service.circuits.states()["download", "host"], HalfOpen)
    knowledge.learn_open("download", "host", until=90.0, times=2, node="gpu-a", category=Category.TRANSIENT, cause="x")
    assert service.circuits.states()["download", "host"] == Open(90.0, 0, 2)
    assert [(type(event).__name__, event.node) for event in opened] == [  # type: ignore[attr-defined]
        ("CircuitOpened", "gpu-a"), ("CircuitHalfOpened", "gpu-a"), ("CircuitOpened", "gpu-a"),
    ]  # fmt: skip


def test_a_probe_that_is_lost_leaves_the_turn_to_others() -> None:
    service, knowledge, clock = alone()
    knowledge.learn_open("download", "host", until=1.0, node="gpu-a")
    clock.advance(1.0)
    knowledge.learn_probe("download", "host", until=11.0, node="gpu-a")
    assert not service.circuits.closed("download", key="host").is_met()
    clock.advance(10.0)
    assert service.circuits.closed("download", key="host").is_met()
    assert not knowledge.is_probing("download", "host")


@pytest.mark.parametrize(("until", "times"), [(29.0, 1), (30.0, 1), (30.02, 1), (20.0, 1)])
def test_what_is_known_already_is_no_news(until: float, times: int) -> None:
    service, knowledge, _ = alone()
    knowledge.learn_open("download", "host", until=30.0, node="gpu-a")
    events = events_of(service, Event)
    knowledge.learn_open("download", "host", until=until, times=times, node="gpu-b")
    knowledge.learn_closed("download", "other", node="gpu-b")
    assert not events
    assert service.circuits.states() == {("download", "host"): Open(30.0, 0, 1)}


def test_a_circuit_that_is_forced_by_hand_learns_nothing() -> None:
    service, knowledge, _ = alone()
    service.circuits.force("download", "closed", key="host")
    knowledge.learn_open("download", "host", until=30.0, node="gpu-a")
    knowledge.learn_probe("download", "host", until=30.0, node="gpu-a")
    assert service.circuits.states() == {("download", "host"): Forced("closed")}


def test_an_operation_without_a_breaker_learns_no_circuit() -> None:
    service, knowledge, _ = alone()
    service.recoverable("plain", breaker=None)(lambda: None)
    knowledge.learn_open("plain", until=30.0, node="gpu-a")
    assert not service.circuits.states()


def test_a_journal_does_not_restore_what_another_node_knew() -> None:
    service, knowledge, _ = alone()
    events = events_of(service, CircuitOpened)
    knowledge.learn_open("download", "host", until=30.0, node="gpu-a")
    assert len(events) == 1
    assert not replay_circuits({}, "run", events)


def test_the_news_of_a_service_are_the_circuits_that_its_own_calls_opened() -> None:
    nodes = Nodes("gpu-a", "gpu-b")
    nodes.open_on("gpu-a")
    assert [event.key for event in nodes.knowledge["gpu-a"].opened_here()] == ["host"]
    assert not nodes.knowledge["gpu-b"].opened_here()


def test_a_pause_that_a_server_asked_another_node_for_is_kept() -> None:
    service, knowledge, clock = alone()
    began: list[float] = []

    @service.recoverable("fetch", key=lambda: "host")
    async def fetch() -> None:
        began.append(clock())

    knowledge.learn_limit("fetch", "host", until=60.0, node="gpu-a")
    knowledge.learn_limit("fetch", "host", until=50.0, node="gpu-c")
    parked = events_of(service)

    async def main() -> None:
        await fetch()

    clock.run(main)
    assert len(began) == 1
    assert began[0] >= 60.0
    assert "rate limit: fetch[host], seen by gpu-a" in str(parked)


def test_a_pause_that_is_over_is_no_news() -> None:
    service, knowledge, clock = alone()
    clock.advance(100.0)
    knowledge.learn_limit("download", "host", until=60.0, node="gpu-a")
    assert not Operation("download", service.bus, key="host").is_observed


BUDGET = RetryBudget(reserve=3.0, ratio=0.5, per_second=0.0)


def budgeted() -> tuple[Recovery, Knowledge, Any]:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0, breaker=None, budget=BUDGET, enable_logging=False)
    service.recoverable("fetch", initial_delay=1.0)(Script(None))
    return service, Knowledge(service), clock


def retries_left(service: Recovery) -> int:
    """How many retries the budget has left; it uses them up."""
    left = 0
    while not isinstance(Operation("fetch", service.bus).start().fail(ConnectionError()), GiveUp):
        left += 1
    return left


def test_what_another_node_used_is_missing_here() -> None:
    (a, knows_a, _), (b, knows_b, _) = budgeted(), budgeted()
    assert not knows_a.usage()
    for _ in range(2):
        Operation("fetch", a.bus).start().fail(ConnectionError())
    used = knows_a.usage()["fetch", ""]
    assert (used.taken, used.tokens) == (2, 1.0)
    knows_b.learn_used("fetch", taken=used.taken)
    assert retries_left(b) == 1


def test_successes_of_another_node_bring_tokens() -> None:
    service, knowledge, _ = budgeted()
    assert retries_left(service) == 3
    knowledge.learn_used("fetch", taken=0, successes=4)
    assert retries_left(service) == 2


def test_tokens_that_two_nodes_took_at_once_are_owed() -> None:
    service, knowledge, _ = budgeted()
    assert retries_left(service) == 3
    knowledge.learn_used("fetch", taken=2)
    knowledge.learn_used("fetch", taken=0, successes=4)
    assert retries_left(service) == 0
    knowledge.learn_used("fetch", taken=100)
    knowledge.learn_used("fetch", taken=0, successes=8)
    assert retries_left(service) == 1  # it owes no more than the reserve


def test_a_node_that_joins_has_no_more_tokens_than_the_others() -> None:
    service, knowledge, _ = budgeted()
    knowledge.learn_used("fetch", taken=0, tokens=1.5)
    knowledge.learn_used("other", taken=1)  # it has no budget here
    assert retries_left(service) == 1


def test_a_retry_that_is_not_made_is_not_told_as_used() -> None:
    service, knowledge, _ = budgeted()
    Operation("fetch", service.bus).start().fail(ConnectionError())
    attempt = Operation("fetch", service.bus).start()
    attempt.fail(ConnectionError())
    assert knowledge.usage()["fetch", ""].taken == 2
    attempt.cancel()
    assert knowledge.usage()["fetch", ""].taken == 1
