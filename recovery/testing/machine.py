"""Test your subscriber or policy against every invariant of recovery, with a state machine of hypothesis.

    class Mine(RecoveryMachine):
        def plug_in(self, service: Recovery) -> None:
            service.bus.subscribe(FailureClassified, my_subscriber)

    TestMine = Mine.TestCase

The machine makes calls by hand. They fail, succeed, wait and are cancelled, time passes and the process crashes, in an
order that hypothesis chooses. The machine reports the invariant that broke, with the shortest steps that break it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import msgspec

from events.attempt import Attempt, next_attempt, request_start
from events.bus_events import SubscriberFailed
from events.call import Call, Progress
from events.event import CallEvent, Event
from events.operation import Operation
from events.operation_events import (
    FailureClassified,
    OperationCancelled,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from events.runner_api import give_up, park, reject
from events.verdicts import GiveUp, Park
from recovery.installation import extra
from recovery.journal.circuit_history import OpenCircuit, reopened, replay_circuits
from recovery.journal.history import TERMINAL, Run, after_death, replay
from recovery.operations import OperationKey
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_states import HalfOpen, Open
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.settings_check import Defaults, make_config
from recovery.subscribers.retry import judge
from recovery.testing.clock import VirtualClock
from recovery.testing.invariants import EPSILON, check_calls_end_once, check_verdict
from recovery.testing.strategies import breaker_policies, budgets, category_strategies, draws, errors, policies

with extra("testing"):
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
    from hypothesis.strategies import SearchStrategy

MAX_CALLS = 5
"""Calls that are under way at a time."""

WHICH = st.integers(0, MAX_CALLS - 1)
NAME = "operation"


class RecoveryMachine(RuleBasedStateMachine):
    """Subclass this, override ``plug_in`` or a strategy below, and collect ``YourMachine.TestCase``.

    The calls are made by hand: this tests the bus and its subscribers, not waits, conditions and wrappers. Timeouts of
    a policy are left out.

    Attributes:
        policies: A strategy of retry policies, or one policy.
        breakers: A strategy of breaker policies, or one; None means no circuit.
        budgets: A strategy of retry budgets, or one; None means no budget.
        errors: A strategy of the exceptions that attempts fail with.
    """

    policies: ClassVar[SearchStrategy[RetryPolicy] | RetryPolicy] = st.builds(
        lambda policy, own: msgspec.structs.replace(policy, per_category=own), policies(), category_strategies()
    )
    breakers: ClassVar[SearchStrategy[BreakerPolicy | None] | BreakerPolicy | None] = st.none() | breaker_policies()
    budgets: ClassVar[SearchStrategy[RetryBudget | None] | RetryBudget | None] = st.none() | budgets()
    errors: ClassVar[SearchStrategy[Exception]] = errors()

    def plug_in(self, service: Recovery) -> None:
        """Subscribe what is to be tested; called for each process."""

    @initialize(data=st.data(), draw=draws(), when_open=st.sampled_from(["reject", "wait"]))
    def begin(self, data: st.DataObject, draw: float, when_open: Any) -> None:
        """The first process begins."""
        policy = data.draw(_strategy(self.policies), "policy")
        self.policy = msgspec.structs.replace(policy, attempt_timeout=None, stall_timeout=None)
        self.config = make_config({"policy": self.policy}, defaults=Defaults(), has_store=False)
        self.breaker = data.draw(_strategy(self.breakers), "breaker")
        self.budget = data.draw(_strategy(self.budgets), "budget")
        self.when_open = when_open
        self.draw = draw
        self.clock = VirtualClock()
        self.events: list[Event] = []
        self.attempts: Counter[str] = Counter()
        self.parks: Counter[str] = Counter()
        self.runs = 0
        self.successes = 0
        self._open_service()

    def _open_service(self) -> None:
        self.runs += 1
        self.running: list[Attempt] = []
        self.waiting: list[tuple[Attempt, float]] = []
        self.service = Recovery(clock=self.clock, rng=lambda: self.draw, run=f"run{self.runs}")
        self.service.bus.subscribe((Event, OperationStarted, OperationSucceeded), self._record, essential=True)
        self.operation: Operation = self.service.operation(
            NAME, policy=self.policy, breaker=self.breaker, budget=self.budget, when_open=self.when_open
        )
        self.plug_in(self.service)

    def _record(self, event: Event) -> None:
        if not (isinstance(event, OperationSucceeded) and event.recovered):  # it follows an OperationRecovered
            self.events.append(event)

    # What can happen

    @precondition(lambda self: len(self.running) + len(self.waiting) < MAX_CALLS)
    @rule()
    def call(self) -> None:
        """A new call is to begin."""
        self._request_start(Attempt(Call(self.operation, self.service.bus.new_call_id(), self.clock())))

    def _request_start(self, attempt: Attempt) -> None:
        verdict = request_start(attempt)
        if verdict is None:
            self.attempts[attempt.call.id] += 1
            self.running.append(attempt)
        elif not isinstance(verdict, GiveUp):
            park(attempt, verdict)
            self.waiting.append((attempt, self.clock() + verdict.after))
        elif attempt.number == 1:
            reject(attempt, verdict)
        else:
            give_up(attempt, verdict)

    @precondition(lambda self: self.running)
    @rule(which=WHICH, times=st.sampled_from([1, 10]), data=st.data())
    def fail(self, which: int, times: int, data: st.DataObject) -> None:
        """A call fails one attempt, or ten in a row unless it gives up or is deferred before."""
        attempt = self.running.pop(which % len(self.running))
        for left in reversed(range(times)):
            self._fail(attempt, data.draw(self.errors, "error"))
            if not left or not self.waiting or self.waiting[-1][0].call != attempt.call:
                return
            self._end_wait(-1)
            if not self.running or self.running[-1].call != attempt.call:
                return
            attempt = self.running.pop()

    def _fail(self, attempt: Attempt, error: Exception) -> None:
        before = len(self.events)
        verdict = attempt.fail(error)
        classified = [event for event in self.events[before:] if isinstance(event, FailureClassified)]
        assert classified, "a failure was not classified"
        alone = judge(self.config, classified[0], self.draw)
        check_verdict(verdict, alone, classified[0], self.policy)
        if not isinstance(verdict, GiveUp):
            self.parks[attempt.call.id] += isinstance(alone, Park)
            self.waiting.append((next_attempt(attempt), self.clock() + verdict.after))

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        """An attempt succeeds."""
        self.running.pop(which % len(self.running)).succeed()
        self.successes += 1

    @precondition(lambda self: self.running or self.waiting)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """A call is cancelled, in an attempt or in a wait."""
        which %= len(self.running) + len(self.waiting)
        opened, tokens, before = self._open_circuits(), self.service._subscribers.budgets.tokens(NAME), len(self.events)
        is_running = which < len(self.running)
        attempt = self.running.pop(which) if is_running else self.waiting.pop(which - len(self.running))[0]
        attempt.cancel()
        attempt.cancel()  # idempotent
        about = [
            event for event in self.events[before:] if isinstance(event, CallEvent) and event.call == attempt.call.id
        ]
        assert [type(event) for event in about] == [OperationCancelled], f"a cancelled call published {about}"
        assert self._open_circuits() == opened, "a cancelled call changed the circuit"
        after = self.service._subscribers.budgets.tokens(NAME)
        assert tokens is None or after is None or after >= tokens, "a cancelled call cost a token of the budget"

    def _open_circuits(self) -> list[Open]:
        return [circuit for circuit in self.service.circuits.states().values() if isinstance(circuit, Open)]

    @rule(elapsed=st.one_of(st.sampled_from([0.001, 1.0, 10.0, 60.0, 3600.0]), st.floats(0.0, 100.0)))
    def let_time_pass(self, elapsed: float) -> None:
        """Time passes."""
        self.clock.advance(elapsed)

    @precondition(lambda self: self.waiting)
    @rule(which=WHICH)
    def end_wait(self, which: int) -> None:
        """The wait of one call is over."""
        self._end_wait(which % len(self.waiting))

    def _end_wait(self, which: int) -> None:
        attempt, due = self.waiting.pop(which)
        self.clock.advance(max(due - self.clock(), 0.0))
        self._request_start(attempt)

    @rule()
    def crash(self) -> None:
        """The process crashes; another one resumes the calls in the journal."""
        records = replay({}, f"run{self.runs}", self.events)
        circuits: dict[OperationKey, OpenCircuit] = {}
        replay_circuits(circuits, "", self.events)
        attempts = [*self.running, *(attempt for attempt, _ in self.waiting)]
        known = {attempt.call.id: attempt.call for attempt in attempts}
        self._open_service()
        now = Run(id="", boot="one", monotonic=self.clock(), wall=0.0, pid=0)
        self.service._subscribers.circuit_breaker.restore(
            {key: reopened(circuit, {"": now}, now) for key, circuit in circuits.items()}
        )
        most = self.policy.most_retries
        for record in records.values():
            resumed = after_death(record)
            if record.is_over or record.call not in known or (most is not None and resumed.retries > most):
                continue  # over, or quarantined
            call = Call(
                self.operation,
                record.call,
                began=known[record.call].began,
                retries=resumed.retries,
                progress=Progress(record.done, record.progress_resets),
                has_failed=resumed.attempt > 1 or resumed.retries > 0,
            )
            due = max(self.clock() if record.due is None else record.due, self.clock())
            call.publish(OperationResumed, resumed.attempt, after=due - self.clock())
            self.waiting.append((Attempt(call, resumed.attempt), due))

    # What must always hold

    @invariant()
    def a_call_ends_once(self) -> None:
        """Each call has one terminal event, and no event after it."""
        check_calls_end_once(self.events)

    @invariant()
    def no_subscriber_is_broken(self) -> None:
        """No subscriber raises, causes events without end, or gives verdicts on events that ask for none."""
        failed = [event for event in self.events if isinstance(event, SubscriberFailed)]
        assert not failed, f"{failed[0].subscriber} failed on {failed[0].received}: {failed[0].error}"
        assert self.service.bus.dropped_events == 0, "events caused events without end"
        assert self.service.bus.ignored_verdicts == 0, "a verdict was given to an event that asks for none"

    @invariant()
    def attempts_stay_within_the_policy(self) -> None:
        """Attempts never exceed the retries plus one, and the parks, across restarts too."""
        most = self.policy.most_retries
        if most is not None and self.policy.progress_resets == 0:
            for call, made in self.attempts.items():
                allowed = most + 1 + self.parks[call]
                assert made <= allowed, f"{made} attempts where {allowed} are allowed"

    @invariant()
    def probes_stay_within_the_permits(self) -> None:
        """A half-open circuit has at most as many live probes as its policy permits."""
        for circuit in self.service.circuits.states().values():
            if isinstance(circuit, HalfOpen) and self.breaker is not None:
                live = [permit for permit in circuit.permits if permit.expires > self.clock()]
                assert len(live) <= self.breaker.half_open_permits, f"{len(live)} probes at a time"

    @invariant()
    def retries_stay_within_the_budget(self) -> None:
        """All retries are paid by the reserve of each run, and what successes and time added."""
        if self.budget is not None:
            retries = sum(isinstance(event, RetryScheduled) for event in self.events)
            added = self.budget.ratio * self.successes + self.budget.per_second * self.clock()
            # A retry that is not made gives back its token.
            refunded = sum(isinstance(event, TERMINAL) for event in self.events)
            allowed = self.budget.reserve * self.runs + added + refunded
            assert retries <= allowed + EPSILON, f"{retries} retries where the budget has {allowed}"


def _strategy(given: Any) -> SearchStrategy[Any]:
    return given if isinstance(given, SearchStrategy) else st.just(given)
