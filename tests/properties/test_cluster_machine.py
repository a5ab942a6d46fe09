"""A cluster in memory, with a clock of its own: whatever happens, no call is lost and none ends twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from adapters.nats.memory import MemoryServers
from adapters.nats.record import KEPT
from tests.adapters.nats.steps import OFTEN, STEPS, Steps, run

WAITS = (10.0, 0.0, 1.0, 100.0)
PASSES = (5.0, 0.25, 31.0, 100.0, KEPT - 50.0, KEPT)


class ClusterMachine(RuleBasedStateMachine):
    """Steps of a cluster on servers in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        servers = MemoryServers(lambda: self.now)
        self.steps = Steps(servers.connect, self.pass_time, WAITS, PASSES, servers.messages)

    async def pass_time(self, seconds: float) -> None:
        """The clock goes on."""
        self.now += seconds

    @initialize(key=STEPS["submit"]["key"])
    def first(self, key: str) -> None:
        run(self.steps.submit(key, "normal", "", None, None))

    def teardown(self) -> None:
        """See that every call ends."""
        run(self.steps.finish())


def _rule(name: str) -> Callable[..., None]:
    def step(self: ClusterMachine, **arguments: Any) -> None:
        run(getattr(self.steps, name)(**arguments))
        run(self.steps.check())

    step.__name__ = name
    return step


for _number, _name in enumerate([*STEPS, *OFTEN]):
    setattr(ClusterMachine, f"{_name}_{_number}", rule(**STEPS[_name])(_rule(_name)))


def test_a_worker_hands_back_what_a_person_has_retried_after_an_answer_was_lost():
    machine = ClusterMachine()
    machine.first("order-17")
    steps = machine.steps
    for step in (
        steps.take("a", puts_back=False, cut=None, between=None),
        steps.act(0, "ask", 0, cut=("after", 0), between=None),
        steps.act(0, "hand back", 0, cut=None, between=("retry", 0)),
    ):
        run(step)
        run(steps.check())
    machine.teardown()


def test_a_cluster_loses_no_call_and_ends_none_twice():
    examples = max(200, settings.default.max_examples)
    run_state_machine_as_test(ClusterMachine, settings=settings(max_examples=examples, stateful_step_count=30))
