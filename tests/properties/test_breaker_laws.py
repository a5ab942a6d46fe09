"""What holds of every circuit, reachable or not, and of those that can be reached."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events.event import CallEvent
from events.evidence import Category, Evidence
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from recovery.policies.circuit_breaker import (
    BreakerPolicy,
    Circuit,
    Closed,
    HalfOpen,
    Open,
    Permit,
    admit,
    break_length,
    step,
)
from recovery.policies.retry import HOPELESS
from recovery.testing.strategies import CALLS, breaker_policies, categories, circuits, seconds

COUNTER = st.integers(0, 3)
HOPE = sorted(set(Category) - HOPELESS)
CALL = st.sampled_from(CALLS)
WHICH = st.integers(0, 2)
COUNTS_UNREACHABLE = st.one_of(
    breaker_policies(categories=None), breaker_policies(categories=frozenset({Category.UNREACHABLE}))
)


def told(kind: type[CallEvent], call: str = "a", at: float = 0.0, **fields: Any) -> CallEvent:
    return kind(at=at, operation="operation", call=call, **fields)


def judged(policy: BreakerPolicy, category: Category, call: str = "a", at: float = 0.0) -> CallEvent:
    """A failure of the kind that *policy* counts."""
    if policy.counts == "calls":
        return told(GaveUp, call, at, category=category)
    return told(FailureClassified, call, at, category=category, evidence=Evidence(type="x.Error"))


def failed() -> st.SearchStrategy[CallEvent]:
    evidence = st.just(Evidence(type="x.Error"))
    return st.builds(told, st.just(FailureClassified), CALL, seconds(20.0), category=categories(), evidence=evidence)


def gave_ups() -> st.SearchStrategy[CallEvent]:
    return st.builds(told, st.just(GaveUp), CALL, seconds(20.0), category=st.one_of(st.none(), categories()))


def events() -> st.SearchStrategy[CallEvent]:
    """Every kind of event about a call."""
    plain = st.sampled_from(
        [OperationStarted, OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected]
    )
    return st.one_of(
        failed(),
        gave_ups(),
        st.builds(told, plain, CALL, seconds(20.0)),
        st.builds(told, st.just(RetryScheduled), CALL, after=seconds(), retry=st.integers(1, 5)),
        st.builds(told, st.just(Parked), CALL, after=seconds()),
    )


def half_opens(least: int = 0) -> st.SearchStrategy[HalfOpen]:
    permits = st.lists(st.builds(Permit, CALL, seconds(20.0)), min_size=least, max_size=3, unique_by=lambda p: p.call)
    return st.builds(HalfOpen, permits.map(tuple), st.integers(1, 3))


@st.composite
def busy(draw: st.DrawFn) -> tuple[BreakerPolicy, HalfOpen, float]:
    """A policy, a circuit that has as many live probes as it allows, and the time."""
    policy, now = draw(breaker_policies()), draw(seconds(20.0))
    left = st.floats(0.1, policy.lease)
    return policy, HalfOpen(tuple(Permit(c, now + draw(left)) for c in CALLS[: policy.half_open_permits])), now


def without(circuit: Circuit, call: str) -> Circuit:
    """*circuit* without the permit of *call*."""
    if not isinstance(circuit, HalfOpen):
        return circuit
    return HalfOpen(tuple(permit for permit in circuit.permits if permit.call != call), circuit.times)


def calls_with_permits(circuit: Circuit) -> list[str]:
    return [permit.call for permit in circuit.permits] if isinstance(circuit, HalfOpen) else []


def live(circuit: Circuit, now: float) -> int:
    return sum(permit.expires > now for permit in circuit.permits) if isinstance(circuit, HalfOpen) else 0


@given(breaker_policies(), circuits(), events(), COUNTER)
def test_a_step_is_total(policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int) -> None:
    assert isinstance(step(policy, circuit, event, successes), Closed | Open | HalfOpen)


@given(breaker_policies(), circuits(), CALL, seconds(40.0))
def test_admission_is_total(policy: BreakerPolicy, circuit: Circuit, call: str, now: float) -> None:
    after, wait = admit(policy, circuit, call, now)
    assert isinstance(after, Closed | Open | HalfOpen)
    assert wait is None or wait > 0.0


@given(breaker_policies(), seconds(20.0), events(), COUNTER)
def test_nothing_that_is_said_changes_an_open_circuit(
    policy: BreakerPolicy, until: float, event: CallEvent, successes: int
) -> None:
    assert step(policy, Open(until, 3), event, successes) == Open(until, 3)


@given(breaker_policies(categories=None), circuits(), st.sampled_from(sorted(HOPELESS)), CALL, COUNTER)
def test_a_hopeless_failure_never_opens_a_circuit(
    policy: BreakerPolicy, circuit: Circuit, category: Category, call: str, successes: int
) -> None:
    after = step(policy, circuit, judged(policy, category, call), successes)
    assert isinstance(after, type(circuit))


@given(breaker_policies(), circuits(), CALL, COUNTER)
def test_a_cancelled_call_only_gives_back_its_permit(
    policy: BreakerPolicy, circuit: Circuit, call: str, successes: int
) -> None:
    after = step(policy, circuit, told(OperationCancelled, call), successes)
    assert after == without(circuit, call)


@given(breaker_policies(), circuits(), st.sampled_from([Category.CANCELLED, Category.EXHAUSTED]), CALL, COUNTER)
def test_a_change_of_mind_is_counted_neither_for_nor_against(
    policy: BreakerPolicy, circuit: Circuit, category: Category, call: str, successes: int
) -> None:
    after = step(policy, circuit, judged(policy, category, call), successes)
    assert after == circuit or isinstance(after, HalfOpen)


@given(breaker_policies(), circuits(), st.lists(st.tuples(CALL, seconds(2.0)), max_size=8), seconds(20.0))
def test_there_are_never_more_live_permits_than_the_policy_allows(
    policy: BreakerPolicy, circuit: Circuit, asks: list[tuple[str, float]], now: float
) -> None:
    allowed = max(policy.half_open_permits, live(circuit, now))
    for call, later in asks:
        now += later
        circuit, _ = admit(policy, circuit, call, now)
        assert live(circuit, now) <= allowed


@given(breaker_policies(), circuits(), CALL, seconds(40.0))
def test_who_is_let_past_a_half_open_circuit_holds_a_permit(
    policy: BreakerPolicy, circuit: Circuit, call: str, now: float
) -> None:
    after, wait = admit(policy, circuit, call, now)
    assert not isinstance(after, HalfOpen) or (Permit(call, now + policy.lease) in after.permits) is (wait is None)


@given(breaker_policies(), st.lists(CALL, max_size=3, unique=True), seconds(20.0))
def test_a_lost_probe_does_not_wedge_the_circuit(policy: BreakerPolicy, lost: list[str], now: float) -> None:
    circuit = HalfOpen(tuple(Permit(call, now) for call in lost))
    assert admit(policy, circuit, "another", now)[1] is None


@given(breaker_policies(), seconds(20.0), CALL, seconds(20.0))
def test_nobody_is_let_in_before_the_break_is_over(policy: BreakerPolicy, until: float, call: str, now: float) -> None:
    let_in = admit(policy, Open(until), call, now)[1] is None
    assert let_in is (now >= until)


@given(breaker_policies(), half_opens(least=1), seconds(20.0))
def test_who_holds_a_permit_is_let_in_again_and_holds_one(policy: BreakerPolicy, circuit: HalfOpen, now: float) -> None:
    circuit = HalfOpen(circuit.permits[: policy.half_open_permits])
    call = circuit.permits[0].call
    after, wait = admit(policy, circuit, call, now)
    assert (wait, calls_with_permits(after).count(call)) == (None, 1)


@given(busy(), st.floats(0.0, 0.99))
def test_who_comes_back_when_told_is_let_in_and_nobody_earlier(
    busy: tuple[BreakerPolicy, HalfOpen, float], early: float
) -> None:
    policy, circuit, now = busy
    after, wait = admit(policy, circuit, "another", now)
    assert wait is not None
    assert admit(policy, after, "another", now + wait * early)[1] is not None
    assert admit(policy, after, "another", now + wait + 1e-9)[1] is None


@given(breaker_policies(), half_opens(), events(), COUNTER)
def test_a_late_answer_of_a_call_without_a_permit_changes_nothing(
    policy: BreakerPolicy, circuit: HalfOpen, event: CallEvent, successes: int
) -> None:
    others = without(circuit, event.call)
    assert step(policy, others, event, successes) == others


@given(breaker_policies(), st.integers(0, 3), COUNTER, events(), COUNTER)
def test_the_row_of_a_closed_circuit_never_reaches_the_threshold(
    policy: BreakerPolicy, row: int, seen: int, event: CallEvent, successes: int
) -> None:
    after = step(policy, Closed(row % policy.failure_threshold, seen), event, successes)
    assert not isinstance(after, Closed) or after.failures < policy.failure_threshold


@given(breaker_policies(), st.integers(0, 3), COUNTER, COUNTER, categories())
def test_a_success_since_the_last_failure_breaks_the_row(
    policy: BreakerPolicy, row: int, seen: int, successes: int, category: Category
) -> None:
    assume(seen != successes)
    event = judged(policy, category)
    fresh = step(policy, Closed(0, successes), event, successes)
    is_neutral = category in (Category.CANCELLED, Category.EXHAUSTED)
    assert is_neutral or step(policy, Closed(row, seen), event, successes) == fresh


@given(COUNTS_UNREACHABLE, COUNTER, seconds(20.0))
def test_as_many_in_a_row_as_the_threshold_open_the_circuit_and_no_fewer(
    policy: BreakerPolicy, successes: int, at: float
) -> None:
    circuit: Circuit = Closed(0, successes)
    for row in range(1, policy.failure_threshold):
        circuit = step(policy, circuit, judged(policy, Category.UNREACHABLE), successes)
        assert circuit == Closed(row, successes)
    circuit = step(policy, circuit, judged(policy, Category.UNREACHABLE, at=at), successes)
    assert circuit == Open(at + policy.break_duration, policy.failure_threshold)


@given(breaker_policies(counts="calls"), circuits(), failed(), COUNTER)
def test_a_circuit_that_counts_calls_ignores_attempts(
    policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int
) -> None:
    assert step(policy, circuit, event, successes) == circuit


@given(breaker_policies(counts="attempts"), circuits(), gave_ups(), COUNTER)
def test_a_circuit_that_counts_attempts_hears_of_calls_only_that_a_probe_is_over(
    policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int
) -> None:
    after = step(policy, circuit, event, successes)
    assert after == circuit or (isinstance(after, HalfOpen) and event.call not in calls_with_permits(after))


@given(breaker_policies(), half_opens(least=1), COUNTER)
def test_a_probe_that_succeeds_closes_the_circuit(policy: BreakerPolicy, circuit: HalfOpen, successes: int) -> None:
    succeeded = told(OperationSucceeded, circuit.permits[0].call)
    assert step(policy, circuit, succeeded, successes) == Closed(0, successes)


@given(COUNTS_UNREACHABLE, half_opens(least=1), COUNTER, seconds(20.0))
def test_a_probe_that_fails_opens_the_circuit_for_a_break_that_has_grown(
    policy: BreakerPolicy, circuit: HalfOpen, successes: int, at: float
) -> None:
    assume(circuit.permits[0].expires > at)
    failed = judged(policy, Category.UNREACHABLE, circuit.permits[0].call, at)
    times = circuit.times + 1
    assert step(policy, circuit, failed, successes) == Open(at + break_length(policy, times), 1, times)


@given(breaker_policies(), half_opens(least=1), categories(), COUNTER)
def test_a_call_that_is_over_holds_no_permit(
    policy: BreakerPolicy, circuit: HalfOpen, category: Category, successes: int
) -> None:
    call = circuit.permits[0].call
    ends = [told(OperationSucceeded, call), told(OperationCancelled, call), told(GaveUp, call, category=category)]
    assert not any(call in calls_with_permits(step(policy, circuit, end, successes)) for end in ends)


class Reached(RuleBasedStateMachine):
    """A circuit that counts calls, beside a model that keeps nothing but a row, a date and the probes' dates."""

    @initialize(
        policy=st.one_of(*(breaker_policies(counts="calls", categories=None, failure_threshold=n) for n in (1, 2)))
    )
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.circuit: Circuit = Closed()
        self.now = 0.0
        self.successes = 0
        self.under_way: list[str] = []
        self.row = 0
        self.times = 0
        self.open_until: float | None = None
        self.probes: dict[str, float] | None = None

    def end(self, which: int, kind: type[CallEvent], **fields: Any) -> str:
        """One of the calls under way ends so; which one it was."""
        call = self.under_way.pop(which % len(self.under_way))
        self.successes += kind is OperationSucceeded
        self.circuit = step(self.policy, self.circuit, told(kind, call, self.now, **fields), self.successes)
        return call

    @rule(elapsed=st.sampled_from([0.5, 1.0, 5.0, 10.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    @precondition(lambda self: self.open_until is not None)
    @rule()
    def wait_for_the_end_of_the_break(self) -> None:
        self.now = max(self.now, self.open_until or 0.0)

    @rule(call=CALL)
    def ask(self, call: str) -> None:
        self.circuit, wait = admit(self.policy, self.circuit, call, self.now)
        if self.open_until is not None and self.now >= self.open_until:
            self.open_until, self.probes = None, {}
        if self.probes is not None:
            self.probes.pop(call, None)
            if self.live() < self.policy.half_open_permits:
                self.probes[call] = self.now + self.policy.lease
        may = self.open_until is None and (self.probes is None or call in self.probes)
        assert may is (wait is None)
        if may and call not in self.under_way:
            self.under_way.append(call)

    def live(self) -> int:
        return sum(ends > self.now for ends in (self.probes or {}).values())

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        call = self.end(which, OperationSucceeded)
        if self.open_until is None and (self.probes is None or call in self.probes):
            self.row, self.times, self.probes = 0, 0, None

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH, category=st.sampled_from(HOPE))
    def give_up(self, which: int, category: Category) -> None:
        call = self.end(which, GaveUp, category=category)
        if self.probes is not None and self.probes.get(call, math.inf) <= self.now and self.live():
            del self.probes[call]  # it took too long, and another probes in its place
        elif self.open_until is None and (self.probes is None or call in self.probes):
            self.row += 1
            if self.probes is not None or self.row >= self.policy.failure_threshold:
                self.times += 1
                growth = self.policy.break_growth ** (self.times - 1)
                most = max(self.policy.max_break, self.policy.break_duration)
                self.open_until, self.probes = self.now + min(self.policy.break_duration * growth, most), None

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH, category=st.one_of(st.none(), st.sampled_from(sorted(HOPELESS))))
    def end_without_deciding(self, which: int, category: Category | None) -> None:
        call = self.end(which, GaveUp, category=category) if category else self.end(which, OperationCancelled)
        if self.probes is not None:
            self.probes.pop(call, None)

    @invariant()
    def the_circuit_is_where_the_model_is(self) -> None:
        match self.circuit:
            case Closed(failures, seen):
                assert (self.open_until, self.probes) == (None, None)
                # Of a success it learns with the next failure.
                assert self.row == (failures if seen == self.successes else 0)
            case Open(until):
                assert self.open_until == until
            case HalfOpen(permits):
                assert self.probes == {permit.call: permit.expires for permit in permits}


Reached.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestEveryReachableCircuit = Reached.TestCase
