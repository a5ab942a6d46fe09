"""Every invariant of recovery, tried on your subscriber or your policy by a state machine of hypothesis's.

    class Mine(RecoveryMachine):
        def plug_in(self, service: Recovery) -> None:
            service.bus.subscribe(FailureClassified, my_subscriber)

    TestMine = Mine.TestCase

It makes calls by hand, lets them fail, succeed, wait and be cancelled, lets time pass and the process die, all in an
order that hypothesis chooses, and says which invariant broke and how few steps that takes.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import SearchStrategy

from events.attempt import Attempt, next_attempt, request_start
from events.bus_events import SubscriberFailed
from events.call import Call, Progress
from events.event import CallEvent, Event
from events.evidence import Category
from events.operation import Operation
from events.operation_events import FailureClassified, OperationCancelled, OperationSucceeded, RetryScheduled
from events.runner_api import give_up, park, reject
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.journal.history import TERMINAL, OpenCircuit, Run, reopened, replay, replay_circuits
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_breaker import BreakerPolicy, HalfOpen, Open
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.subscribers.retry import judge
from recovery.testing.clock import VirtualClock
from recovery.testing.strategies import breaker_policies, budgets, category_strategies, draws, errors, policies

MAX_CALLS = 5
"""So many calls are under way at a time."""

WHICH = st.integers(0, MAX_CALLS - 1)
NAME = "operation"
EPSILON = 1e-6


class RecoveryMachine(RuleBasedStateMachine):
    """Subclass it, override ``plug_in`` or the strategies below, and collect ``YourMachine.TestCase``.

    *policies*, *breakers*, *budgets* and *errors* are strategies of what their names say, or one such thing; ``None``
    for a breaker or a budget means none. Timeouts of a policy are left out: the calls are made by hand, so that what is
    tried is the bus and everybody on it; waits, conditions and wrappers are not. With *may_fail* subscribers may raise.
    """

    may_fail: ClassVar[bool] = False

    policies: ClassVar[SearchStrategy[RetryPolicy] | RetryPolicy] = st.builds(
        lambda policy, own: RetryPolicy(**{**_fields(policy), "per_category": own}),
        policies(),
        st.one_of(st.just({}), category_strategies()),
    )
    breakers: ClassVar[SearchStrategy[BreakerPolicy | None] | BreakerPolicy | None] = st.one_of(
        st.none(), breaker_policies()
    )
    budgets: ClassVar[SearchStrategy[RetryBudget | None] | RetryBudget | None] = st.one_of(st.none(), budgets())
    errors: ClassVar[SearchStrategy[Exception]] = errors()

    def plug_in(self, service: Recovery) -> None:
        """Subscribe what is to be tested; called for every run of the process."""

    @initialize(data=st.data(), draw=draws(), when_open=st.sampled_from(["reject", "wait"]))
    def begin(self, data: st.DataObject, draw: float, when_open: Any) -> None:
        """A first process begins."""
        policy = data.draw(_strategy(self.policies), "policy")
        self.policy = msgspec.structs.replace(policy, attempt_timeout=None, stall_timeout=None)
        self.breaker = data.draw(_strategy(self.breakers), "breaker")
        self.budget = data.draw(_strategy(self.budgets), "budget")
        self.when_open = when_open
        self.draw = draw
        self.clock = VirtualClock()
        self.events: list[Event] = []
        self.attempts: dict[str, int] = {}
        self.parks: dict[str, int] = {}
        self.runs = 0
        self.successes = 0
        self._open_service()

    def _open_service(self) -> None:
        self.runs += 1
        self.running: list[Attempt] = []
        self.waiting: list[tuple[Attempt, float]] = []
        self.service = Recovery(clock=self.clock, rng=lambda: self.draw, run=f"run{self.runs}")
        self.service.bus.subscribe((Event, OperationSucceeded), self._hear, essential=True)
        self.operation: Operation = self.service.operation(
            NAME, policy=self.policy, breaker=self.breaker, budget=self.budget, when_open=self.when_open
        )
        self.plug_in(self.service)

    def _hear(self, event: Event) -> None:
        if not (isinstance(event, OperationSucceeded) and event.recovered):  # OperationRecovered has said so
            self.events.append(event)

    # What can happen

    @precondition(lambda self: len(self.running) + len(self.waiting) < MAX_CALLS)
    @rule()
    def call(self) -> None:
        """A new call wants to begin."""
        self._ask(Attempt(Call(self.operation, self.service.bus.new_call_id(), self.clock())))

    def _ask(self, attempt: Attempt) -> None:
        held = request_start(attempt)
        if held is None:
            self.attempts[attempt.call.id] = self.attempts.get(attempt.call.id, 0) + 1
            self.running.append(attempt)
        elif isinstance(held, GiveUp):
            if attempt.number == 1:
                reject(attempt, held)
            else:
                give_up(attempt, held)
        else:
            park(attempt, held)
            self.waiting.append((attempt, self.clock() + held.after))

    @precondition(lambda self: self.running)
    @rule(which=WHICH, data=st.data())
    def fail(self, which: int, data: st.DataObject) -> None:
        """An attempt fails."""
        self._fail(self.running.pop(which % len(self.running)), data.draw(self.errors, "error"))

    @precondition(lambda self: self.running)
    @rule(which=WHICH, data=st.data())
    def fail_on_and_on(self, which: int, data: st.DataObject) -> None:
        """A call fails whatever it tries, until it gives up, is held back, or has been patient for long."""
        attempt = self.running.pop(which % len(self.running))
        for _ in range(10):
            self._fail(attempt, data.draw(self.errors, "error"))
            if not self.waiting or self.waiting[-1][0].call != attempt.call:
                return
            attempt, due = self.waiting.pop()
            self.clock.advance(max(due - self.clock(), 0.0))
            self._ask(attempt)
            if not self.running or self.running[-1] is not attempt:
                return
            self.running.pop()
        self.running.append(attempt)

    def _fail(self, attempt: Attempt, error: Exception) -> None:
        told = len(self.events)
        verdict = attempt.fail(error)
        classified = [event for event in self.events[told:] if isinstance(event, FailureClassified)]
        assert classified, "a failure was not classified"
        config = self.service._registry.config_of(NAME)
        assert config is not None
        alone = judge(config, classified[0], self.draw)
        self._check_verdict(verdict, alone, classified[0])
        if not isinstance(verdict, GiveUp):
            if isinstance(alone, Park):
                self.parks[attempt.call.id] = self.parks.get(attempt.call.id, 0) + 1
            self.waiting.append((next_attempt(attempt), self.clock() + verdict.after))

    def _check_verdict(self, verdict: Verdict, alone: Verdict, failure: FailureClassified) -> None:
        order = (Retry, Park, GiveUp)
        assert order.index(type(verdict)) >= order.index(type(alone)), f"{verdict} is milder than the policy's {alone}"
        if failure.category is Category.PERMANENT:
            assert isinstance(verdict, GiveUp), f"a permanent failure was answered with {verdict}"
        if isinstance(verdict, GiveUp):
            return
        assert verdict.after >= 0.0, f"a wait of {verdict.after} s"
        assert math.isfinite(verdict.after), f"a wait of {verdict.after} s"
        assert verdict.after >= getattr(alone, "after", 0.0) - EPSILON, f"{verdict} comes earlier than {alone}"
        assert verdict.after >= (failure.retry_after or 0.0) - EPSILON, f"{verdict} comes earlier than the server asked"
        if self.policy.max_elapsed is not None:
            ends = failure.elapsed + verdict.after
            assert ends <= self.policy.max_elapsed + EPSILON, f"a wait that ends {ends} s after the call began"

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
        count = len(self.running) + len(self.waiting)
        which %= count
        before, tokens, told = self._opened(), self.service.budgets.tokens(NAME), len(self.events)
        is_running = which < len(self.running)
        attempt = self.running.pop(which) if is_running else self.waiting.pop(which - len(self.running))[0]
        attempt.cancel()
        attempt.cancel()  # which changes nothing
        about = [
            event for event in self.events[told:] if isinstance(event, CallEvent) and event.call == attempt.call.id
        ]
        assert [type(event) for event in about] == [OperationCancelled], f"a cancelled call published {about}"
        assert self._opened() == before, "a cancelled call changed the circuit"
        after = self.service.budgets.tokens(NAME)
        assert tokens is None or after is None or after >= tokens, "a cancelled call cost a token of the budget"

    def _opened(self) -> list[Open]:
        return [circuit for circuit in self.service.circuits.circuits().values() if isinstance(circuit, Open)]

    @rule(elapsed=st.one_of(st.sampled_from([0.001, 1.0, 10.0, 60.0, 3600.0]), st.floats(0.0, 100.0)))
    def let_time_pass(self, elapsed: float) -> None:
        """Time passes."""
        self.clock.advance(elapsed)

    @precondition(lambda self: self.waiting)
    @rule(which=WHICH)
    def wait_for(self, which: int) -> None:
        """The wait of one call is over."""
        attempt, due = self.waiting.pop(which % len(self.waiting))
        self.clock.advance(max(due - self.clock(), 0.0))
        self._ask(attempt)

    @rule()
    def die_and_come_back(self) -> None:
        """The process dies; another resumes what the journal knows."""
        records = replay({}, f"run{self.runs}", self.events)
        circuits: dict[tuple[str, str], OpenCircuit] = {}
        replay_circuits(circuits, "", self.events)
        known = {
            attempt.call.id: attempt.call for attempt in [*self.running, *(attempt for attempt, _ in self.waiting)]
        }
        self._open_service()
        now = Run(id="", boot="one", monotonic=self.clock(), wall=0.0, pid=0)
        self.service.circuits.restore({part: reopened(one, {"": now}, now) for part, one in circuits.items()})
        most = self.policy.most_retries
        for record in records.values():
            if record.is_over or record.call not in known or (most is not None and record.retries > most):
                continue
            call = Call(
                self.operation,
                record.call,
                began=known[record.call].began,
                retries=record.retries,
                progress=Progress(record.done, record.progress_resets),
                has_failed=record.attempt > 1 or record.retries > 0,
            )
            self.waiting.append((Attempt(call, record.attempt), self.clock() if record.due is None else record.due))

    # What must always hold

    @invariant()
    def a_call_ends_once(self) -> None:
        """One terminal event for each call, and nothing of it after that."""
        over: set[str] = set()
        for event in self.events:
            if isinstance(event, CallEvent):
                assert event.call not in over, f"{type(event).__name__} of a call that was over"
                if isinstance(event, TERMINAL):
                    over.add(event.call)

    @invariant()
    def nobody_on_the_bus_is_broken(self) -> None:
        """No subscriber raises, answers nonsense, causes events without end, or gives verdicts that nobody asked
        for.
        """
        if hasattr(self, "service"):
            failed = [] if self.may_fail else [event for event in self.events if isinstance(event, SubscriberFailed)]
            assert not failed, f"{failed[0].subscriber} failed on {failed[0].heard}: {failed[0].error}"
            assert self.service.bus.dropped_events == 0, "events caused events without end"
            assert self.service.bus.ignored_verdicts == 0, "a verdict was given to an event that asks for none"

    @invariant()
    def no_call_is_tried_too_often(self) -> None:
        """Attempts never exceed the retries and one, plus what was parked: across restarts, too."""
        most = self.policy.most_retries if hasattr(self, "policy") else None
        if most is not None and self.policy.progress_resets == 0:
            for call, made in self.attempts.items():
                # An attempt that was under way when the process died is made again.
                allowed = most + 1 + self.parks.get(call, 0) + self.runs - 1
                assert made <= allowed, f"{made} attempts where {allowed} are allowed"

    @invariant()
    def no_more_probes_than_permits(self) -> None:
        """A half-open circuit lets as many pass as its policy says."""
        if hasattr(self, "service") and self.breaker is not None:
            for circuit in self.service.circuits.circuits().values():
                if isinstance(circuit, HalfOpen):
                    live = [permit for permit in circuit.permits if permit.expires > self.clock()]
                    assert len(live) <= self.breaker.half_open_permits, f"{len(live)} probes at a time"

    @invariant()
    def retries_stay_within_the_budget(self) -> None:
        """All retries together: the reserve of each run, and what success and time brought."""
        if hasattr(self, "service") and self.budget is not None:
            retries = sum(isinstance(event, RetryScheduled) for event in self.events)
            came = self.budget.ratio * self.successes + self.budget.per_second * self.clock()
            allowed = self.budget.reserve * self.runs + came
            refunded = sum(
                isinstance(event, TERMINAL) for event in self.events
            )  # a retry that was not made is given back
            assert retries <= allowed + refunded + EPSILON, f"{retries} retries where the budget has {allowed}"


def _strategy(given: Any) -> SearchStrategy[Any]:
    return given if isinstance(given, SearchStrategy) else st.just(given)


def _fields(policy: RetryPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}
