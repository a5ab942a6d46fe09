"""Laws of circuits: of every circuit, and of every reachable one against a model."""

from __future__ import annotations

import math
from typing import Any

import msgspec
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
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import admit, break_length, step
from recovery.policies.circuit_states import Circuit, Closed, HalfOpen, Open, Permit
from recovery.policies.retry import HOPELESS
from recovery.testing.strategies import CALLS, breaker_policies, categories, circuits, seconds

COUNTER = st.integers(0, 3)
HOPE = sorted(set(Category) - HOPELESS)
CALL = st.sampled_from(CALLS)
WHICH = st.integers(0, 2)
COUNTS_UNREACHABLE = st.one_of(
    breaker_policies(categories=None, forget_after=None),
    breaker_policies(categories=frozenset({Category.UNREACHABLE}), forget_after=None),
)


def event_of(kind: type[CallEvent], call: str = "a", at: float = 0.0, **fields: Any) -> CallEvent:
    return kind(at=at, operation="operation", call=call, **fields)


def counted_failure(policy: BreakerPolicy, category: Category, call: str = "a", at: float = 0.0) -> CallEvent:
    """A failure that *policy* counts."""
    if policy.counts == "calls":
        return event_of(GaveUp, call, at, category=category)
    return event_of(FailureClassified, call, at, category=category, evidence=Evidence(type="x.Error"))


def failed() -> st.SearchStrategy[CallEvent]:
    evidence = st.just(Evidence(type="x.Error"))
    return st.builds(
        event_of, st.just(FailureClassified), CALL, seconds(20.0), category=categories(), evidence=evidence
    )


def gave_ups() -> st.SearchStrategy[CallEvent]:
    return st.builds(event_of, st.just(GaveUp), CALL, seconds(20.0), category=st.one_of(st.none(), categories()))


def events() -> st.SearchStrategy[CallEvent]:
    """Every type of event about a call."""
    plain = st.sampled_from(
        [OperationStarted, OperationSucceeded, OperationRecovered, OperationCancelled, CallRejected]
    )
    return st.one_of(
        failed(),
        gave_ups(),
        st.builds(event_of, plain, CALL, seconds(20.0)),
        st.builds(event_of, st.just(RetryScheduled), CALL, after=seconds(), retry=st.integers(1, 5)),
        st.builds(event_of, st.just(Parked), CALL, after=seconds()),
    )


def half_opens(least: int = 0) -> st.SearchStrategy[HalfOpen]:
    permits = st.lists(st.builds(Permit, CALL, seconds(20.0)), min_size=least, max_size=3, unique_by=lambda p: p.call)
    return st.builds(HalfOpen, permits.map(tuple), st.integers(1, 3))


@st.composite
def busy(draw: st.DrawFn) -> tuple[BreakerPolicy, HalfOpen, float]:
    """A policy, a circuit with as many live probes as it permits, and the time."""
    policy, now = draw(breaker_policies()), draw(seconds(20.0))
    left = st.floats(0.1, policy.lease)
    return policy, HalfOpen(tuple(Permit(c, now + draw(left)) for c in CALLS[: policy.half_open_permits])), now


def without(circuit: Circuit, call: str) -> Circuit:
    """*circuit* without the permit of *call*."""
    if not isinstance(circuit, HalfOpen):
        return circuit
    permits = tuple(permit for permit in circuit.permits if permit.call != call)
    return msgspec.structs.replace(circuit, permits=permits)


def calls_with_permits(circuit: Circuit) -> list[str]:
    return [permit.call for permit in circuit.permits] if isinstance(circuit, HalfOpen) else []


def live(circuit: Circuit, now: float) -> int:
    return sum(permit.expires > now for permit in circuit.permits) if isinstance(circuit, HalfOpen) else 0


@given(breaker_policies(), circuits(), events(), COUNTER)
def test_a_step_is_total(policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int):
    assert isinstance(step(policy, circuit, event, successes), Closed | Open | HalfOpen)


@given(breaker_policies(), circuits(), CALL, seconds(40.0))
def test_admission_is_total(policy: BreakerPolicy, circuit: Circuit, call: str, now: float):
    after, wait = admit(policy, circuit, call, now)
    assert isinstance(after, Closed | Open | HalfOpen)
    assert wait is None or wait > 0.0


@given(breaker_policies(), seconds(20.0), events(), COUNTER)
def test_no_event_changes_an_open_circuit(policy: BreakerPolicy, until: float, event: CallEvent, successes: int):
    assert step(policy, Open(until, 3), event, successes) == Open(until, 3)


@given(breaker_policies(categories=None), circuits(), st.sampled_from(sorted(HOPELESS)), CALL, COUNTER)
def test_a_hopeless_failure_never_opens_a_circuit(
    policy: BreakerPolicy, circuit: Circuit, category: Category, call: str, successes: int
):
    after = step(policy, circuit, counted_failure(policy, category, call), successes)
    assert isinstance(after, type(circuit))


@given(breaker_policies(), circuits(), CALL, COUNTER)
def test_a_cancelled_call_only_returns_its_permit(policy: BreakerPolicy, circuit: Circuit, call: str, successes: int):
    after = step(policy, circuit, event_of(OperationCancelled, call), successes)
    assert after == without(circuit, call)


@given(breaker_policies(), circuits(), st.sampled_from([Category.CANCELLED, Category.EXHAUSTED]), CALL, COUNTER)
def test_cancelled_and_exhausted_are_not_counted(
    policy: BreakerPolicy, circuit: Circuit, category: Category, call: str, successes: int
):
    after = step(policy, circuit, counted_failure(policy, category, call), successes)
    assert after == circuit or isinstance(after, HalfOpen)


@given(breaker_policies(), circuits(), st.lists(st.tuples(CALL, seconds(2.0)), max_size=8), seconds(20.0))
def test_live_permits_never_exceed_the_policy(
    policy: BreakerPolicy, circuit: Circuit, asks: list[tuple[str, float]], now: float
):
    allowed = max(policy.half_open_permits, live(circuit, now))
    for call, later in asks:
        now += later
        circuit, _ = admit(policy, circuit, call, now)
        assert live(circuit, now) <= allowed


@given(breaker_policies(), circuits(), CALL, seconds(40.0))
def test_a_call_admitted_at_half_open_holds_a_permit(policy: BreakerPolicy, circuit: Circuit, call: str, now: float):
    after, wait = admit(policy, circuit, call, now)
    assert not isinstance(after, HalfOpen) or (Permit(call, now + policy.lease) in after.permits) is (wait is None)


@given(breaker_policies(), st.lists(CALL, max_size=3, unique=True), seconds(20.0))
def test_a_lost_probe_does_not_wedge_the_circuit(policy: BreakerPolicy, lost: list[str], now: float):
    circuit = HalfOpen(tuple(Permit(call, now) for call in lost))
    assert admit(policy, circuit, "another", now)[1] is None


@given(breaker_policies(forget_after=None), half_opens(least=1), seconds(20.0))
def test_a_call_with_a_permit_is_admitted_again_with_one(policy: BreakerPolicy, circuit: HalfOpen, now: float):
    circuit = HalfOpen(circuit.permits[: policy.half_open_permits])
    call = circuit.permits[0].call
    after, wait = admit(policy, circuit, call, now)
    assert (wait, calls_with_permits(after).count(call)) == (None, 1)


@given(busy(), st.floats(0.0, 0.99))
def test_a_call_is_admitted_after_the_wait_and_not_earlier(busy: tuple[BreakerPolicy, HalfOpen, float], early: float):
    policy, circuit, now = busy
    after, wait = admit(policy, circuit, "another", now)
    assert wait is not None
    assert admit(policy, after, "another", now + wait * early)[1] is not None
    assert admit(policy, after, "another", now + wait + 1e-9)[1] is None


@given(breaker_policies(), half_opens(), events(), COUNTER)
def test_a_call_without_a_permit_does_not_change_half_open(
    policy: BreakerPolicy, circuit: HalfOpen, event: CallEvent, successes: int
):
    others = without(circuit, event.call)
    assert step(policy, others, event, successes) == others


@given(breaker_policies(), st.integers(0, 3), COUNTER, events(), COUNTER)
def test_a_closed_circuit_is_below_its_threshold(
    policy: BreakerPolicy, failures: int, seen: int, event: CallEvent, successes: int
):
    after = step(policy, Closed(failures % policy.failure_threshold, seen), event, successes)
    assert not isinstance(after, Closed) or after.failures < policy.failure_threshold


@given(breaker_policies(), st.integers(0, 3), COUNTER, COUNTER, categories())
def test_a_success_resets_the_count_of_failures(
    policy: BreakerPolicy, failures: int, seen: int, successes: int, category: Category
):
    assume(seen != successes)
    event = counted_failure(policy, category)
    fresh = step(policy, Closed(0, successes), event, successes)
    is_neutral = category in (Category.CANCELLED, Category.EXHAUSTED)
    assert is_neutral or step(policy, Closed(failures, seen), event, successes) == fresh


@given(COUNTS_UNREACHABLE, COUNTER, seconds(20.0))
def test_a_circuit_opens_exactly_at_its_threshold(policy: BreakerPolicy, successes: int, at: float):
    circuit: Circuit = Closed(0, successes)
    for failures in range(1, policy.failure_threshold):
        circuit = step(policy, circuit, counted_failure(policy, Category.UNREACHABLE), successes)
        assert circuit == Closed(failures, successes)
    circuit = step(policy, circuit, counted_failure(policy, Category.UNREACHABLE, at=at), successes)
    assert circuit == Open(at + policy.break_duration, policy.failure_threshold)


@given(breaker_policies(counts="calls"), circuits(), failed(), COUNTER)
def test_a_circuit_that_counts_calls_ignores_attempts_that_do_not_probe(
    policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int
):
    if not (isinstance(circuit, HalfOpen) and event.call in calls_with_permits(circuit)):
        assert step(policy, circuit, event, successes) == circuit


@given(breaker_policies(), half_opens(least=1), failed(), COUNTER)
def test_a_probe_is_one_attempt_also_where_calls_count(
    policy: BreakerPolicy, circuit: HalfOpen, event: CallEvent, successes: int
):
    other = msgspec.structs.replace(policy, counts="attempts" if policy.counts == "calls" else "calls")
    event = msgspec.structs.replace(event, call=circuit.permits[0].call)
    assert step(policy, circuit, event, successes) == step(other, circuit, event, successes)


@given(breaker_policies(counts="attempts"), circuits(), gave_ups(), COUNTER)
def test_a_circuit_that_counts_attempts_only_ends_probes_by_calls(
    policy: BreakerPolicy, circuit: Circuit, event: CallEvent, successes: int
):
    after = step(policy, circuit, event, successes)
    assert after == circuit or (isinstance(after, HalfOpen) and event.call not in calls_with_permits(after))


@given(COUNTS_UNREACHABLE, half_opens(least=1), COUNTER, seconds(20.0))
def test_a_failed_probe_opens_the_circuit_for_a_longer_break(
    policy: BreakerPolicy, circuit: HalfOpen, successes: int, at: float
):
    assume(circuit.permits[0].expires > at)
    failed = counted_failure(policy, Category.UNREACHABLE, circuit.permits[0].call, at)
    times = circuit.times + 1
    assert step(policy, circuit, failed, successes) == Open(at + break_length(policy, times), 1, times)


class Reached(RuleBasedStateMachine):
    """A circuit that counts calls, against a model of a failure count, the break's end and the probes' leases."""

    @initialize(
        policy=st.one_of(
            *(
                breaker_policies(counts="calls", categories=None, failure_threshold=most, forget_after=old)
                for most, old in ((1, None), (2, None), (1, 4.0), (2, 4.0))
            )
        )
    )
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.circuit: Circuit = Closed()
        self.now = 0.0
        self.successes = 0
        self.under_way: list[str] = []
        self.failures = 0
        self.times = 0
        self.last_use = 0.0  # the latest failure of the row, or the end of the break or the latest probe
        self.probed = 0
        self.open_until: float | None = None
        self.probes: dict[str, float] | None = None

    def end(self, which: int, kind: type[CallEvent], **fields: Any) -> str:
        """End one of the calls under way with an event of that type; returns its id."""
        call = self.under_way.pop(which % len(self.under_way))
        self.successes += kind is OperationSucceeded
        self.circuit = step(self.policy, self.circuit, event_of(kind, call, self.now, **fields), self.successes)
        return call

    @rule(elapsed=st.sampled_from([0.5, 1.0, 5.0, 10.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    @precondition(lambda self: self.open_until is not None)
    @rule()
    def wait_until_the_break_ends(self) -> None:
        self.now = max(self.now, self.open_until or 0.0)

    @rule(call=CALL)
    def request_start(self, call: str) -> None:
        self.circuit, wait = admit(self.policy, self.circuit, call, self.now)
        self.forget_what_is_old()
        if self.open_until is not None and self.now >= self.open_until:
            self.open_until, self.probes, self.probed = None, {}, 0
        if self.probes is not None:
            self.probes.pop(call, None)
            if self.live() < self.policy.half_open_permits:
                self.probes[call] = self.now + self.policy.lease
            self.last_use = max(self.probes.values())
        may = self.open_until is None and (self.probes is None or call in self.probes)
        assert may is (wait is None)
        if may and call not in self.under_way:
            self.under_way.append(call)

    def forget_what_is_old(self) -> None:
        if self.policy.forget_after is not None and self.now > self.last_use + self.policy.forget_after:
            self.failures, self.times, self.open_until, self.probes = 0, 0, None, None

    def end_probe(self, call: str) -> None:
        if self.probes is not None and self.probes.pop(call, None) is not None:
            self.last_use = max(self.probes.values(), default=self.now)

    def live(self) -> int:
        return sum(ends > self.now for ends in (self.probes or {}).values())

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        call = self.end(which, OperationSucceeded)
        if self.probes is None:
            self.failures = 0 if self.open_until is None else self.failures
        elif call in self.probes:
            self.probed += 1
            self.end_probe(call)
            if self.probed == self.policy.half_open_successes:
                self.failures, self.times, self.probes, self.last_use = 0, 0, None, self.now

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH, category=st.sampled_from(HOPE))
    def give_up(self, which: int, category: Category) -> None:
        call = self.end(which, GaveUp, category=category)
        if self.probes is not None and self.probes.get(call, math.inf) <= self.now and self.live():
            self.end_probe(call)  # its lease is over, and another call is the probe
        elif self.open_until is None and (self.probes is None or call in self.probes):
            if self.probes is None:
                self.forget_what_is_old()
            self.failures, self.last_use = self.failures + 1, self.now
            if self.probes is not None or self.failures >= self.policy.failure_threshold:
                self.times += 1
                growth = self.policy.break_growth ** (self.times - 1)
                most = max(self.policy.max_break, self.policy.break_duration)
                self.open_until = self.last_use = self.now + min(self.policy.break_duration * growth, most)
                self.probes = None

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH, category=st.one_of(st.none(), st.sampled_from(sorted(HOPELESS))))
    def end_without_deciding(self, which: int, category: Category | None) -> None:
        call = self.end(which, GaveUp, category=category) if category else self.end(which, OperationCancelled)
        is_judged = category not in (None, Category.CANCELLED, Category.EXHAUSTED)
        if is_judged and self.probes is None and self.open_until is None:
            self.forget_what_is_old()
        self.end_probe(call)

    @invariant()
    def the_circuit_is_where_the_model_is(self) -> None:
        match self.circuit:
            case Closed(failures, seen):
                assert (self.open_until, self.probes) == (None, None)
                # It learns of a success with the next failure.
                assert self.failures == (failures if seen == self.successes else 0)
            case Open(until):
                assert self.open_until == until
            case HalfOpen(permits, _, probed):
                assert probed == self.probed
                assert self.probes == {permit.call: permit.expires for permit in permits}


Reached.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestEveryReachableCircuit = Reached.TestCase
