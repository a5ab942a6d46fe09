"""Laws of what circuits forget, of their windows by time, and of what is random about their breaks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from events.evidence import Category
from events.operation_events import GaveUp, OperationSucceeded
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_breaker import SLICES, admit, as_of_now, break_length, step
from recovery.policies.circuit_states import Circuit, Closed, HalfOpen, Open, Permit, expiry
from recovery.testing.strategies import breaker_policies, circuits, seconds

FEW = settings(max_examples=40)
AGES = st.sampled_from([0.0, 1.0, 9.0, 10.0, 10.5, 11.0, 1e5])
WINDOW = 10.0
RESULTS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 9.0]), st.sampled_from("x.s")), max_size=60)


def gave_up(at: float, call: str = "a") -> GaveUp:
    return GaveUp(at=at, call=call, category=Category.TRANSIENT)


def succeeded(at: float, call: str = "a") -> OperationSucceeded:
    return OperationSucceeded(at=at, call=call)


@FEW
@given(threshold=st.integers(1, 3), waits=st.lists(AGES, min_size=1, max_size=8))
def test_a_row_is_of_failures_that_come_soon_after_each_other(threshold: int, waits: list[float]):
    policy, circuit, row, now = BreakerPolicy(failure_threshold=threshold, forget_after=10.0), Closed(), 0, 1e6
    for wait in waits:
        now += wait
        row = row + 1 if wait <= 10.0 else 1
        after = step(policy, circuit, gave_up(now))
        assert isinstance(after, Open) is (row == threshold)
        if not isinstance(after, Closed):
            break
        circuit = after


@FEW
@given(breaker_policies(counts="calls"), circuits(), st.floats(0.1, 1e6))
def test_an_expired_circuit_is_as_good_as_none(policy: BreakerPolicy, circuit: Circuit, later: float):
    if policy.forget_after is None:
        assert as_of_now(BreakerPolicy(forget_after=None), Closed(1), 0, later) == Closed(1)
        return
    now = expiry(policy, circuit) + later
    assert as_of_now(policy, circuit, 0, now) == Closed()
    assert admit(policy, circuit, "a", now) == (Closed(), None)
    if isinstance(circuit, Closed):
        assert step(policy, circuit, gave_up(now), 3) == step(policy, Closed(), gave_up(now), 3)


@FEW
@given(breaker_policies(), circuits(), seconds(40.0))
def test_what_is_shown_admits_the_calls_that_the_circuit_admits(policy: BreakerPolicy, circuit: Circuit, now: float):
    successes = circuit.successes if isinstance(circuit, Closed) else 0
    shown = as_of_now(policy, circuit, successes, now)
    assert admit(policy, shown, "new", now)[1] == admit(policy, circuit, "new", now)[1]
    assert not (isinstance(shown, Open) and now >= shown.until)
    assert as_of_now(policy, shown, successes, now) == shown


@FEW
@given(breaker_policies(), st.floats(0.0, 1.0), st.integers(1, 5), st.floats(0.0, 0.999))
def test_jitter_makes_a_break_longer_by_at_most_its_share(
    policy: BreakerPolicy, jitter: float, times: int, draw: float
):
    bare = break_length(policy, times, draw)
    assert bare == break_length(policy, times)  # without jitter the draw does not matter
    fields = {name: getattr(policy, name) for name in policy.__struct_fields__}
    longer = break_length(BreakerPolicy(**fields | {"break_jitter": jitter}), times, draw)
    assert bare <= longer <= bare * (1.0 + jitter) * 1.0000001


@FEW
@given(st.integers(1, 4), st.lists(st.booleans(), max_size=12))
def test_a_circuit_closes_with_its_last_probe_in_a_row(needed: int, answers: list[bool]):
    policy, now = BreakerPolicy(half_open_successes=needed, break_growth=1.0), 0.0
    circuit: Circuit = HalfOpen()
    row = 0
    for number, answers_well in enumerate(answers):
        now += 30.0
        circuit, wait = admit(policy, circuit, f"probe {number}", now)
        assert wait is None
        event = succeeded(now, f"probe {number}") if answers_well else gave_up(now, f"probe {number}")
        circuit = step(policy, circuit, event)
        row = row + 1 if answers_well else 0
        assert isinstance(circuit, Closed) is (row == needed)
        if isinstance(circuit, Closed):
            return


@FEW
@given(results=RESULTS, rate=st.sampled_from([0.1, 0.5, 1.0]), minimum=st.integers(1, 12), slow=st.booleans())
def test_a_window_by_time_is_of_the_last_seconds(
    results: list[tuple[float, str]], rate: float, minimum: int, slow: bool
):
    name = "slow_call_rate" if slow else "failure_rate"
    policy = BreakerPolicy(
        window_seconds=WINDOW, minimum_calls=minimum, slow_call_seconds=2.0, failure_threshold=1000, **{name: rate}
    )
    circuit: Circuit = Closed()
    seen: list[tuple[float, bool]] = []
    now = 100.0
    for wait, kind in results:
        now += wait
        seen.append((now, kind == ("s" if slow else "x")))
        event = gave_up(now) if kind == "x" else succeeded(now)
        circuit = step(policy, circuit, event, took=2.0 if kind == "s" else 1.0)
        # The window begins between its seconds and nine tenths of them ago.
        firmly = [one for one in seen if one[0] > now - WINDOW * (1 - 1 / SLICES)]
        perhaps = [one for one in seen if now - WINDOW < one[0] <= now - WINDOW * (1 - 1 / SLICES)]
        opens = {
            len(window) >= minimum and sum(bad for _, bad in window) / len(window) >= rate
            for window in ([*perhaps[cut:], *firmly] for cut in range(len(perhaps) + 1))
        }
        assert isinstance(circuit, Open) in opens
        if not isinstance(circuit, Closed):
            break
        assert len(circuit.slices) <= SLICES + 1


@FEW
@given(st.lists(st.booleans(), max_size=80))
def test_a_slow_call_rate_is_of_the_last_calls(slow: list[bool]):
    policy = BreakerPolicy(window=10, slow_call_rate=0.5, slow_call_seconds=2.0)
    circuit: Circuit = Closed()
    for number, is_slow in enumerate(slow, 1):
        circuit = step(policy, circuit, succeeded(float(number)), took=2.0 if is_slow else 1.9)
        assert isinstance(circuit, Open) is (number >= 10 and sum(slow[number - 10 : number]) >= 5)
        if isinstance(circuit, Open):
            assert circuit == Open(number + policy.break_duration, 0, 1, sum(slow[number - 10 : number]))
            return


@FEW
@given(circuits(), st.sampled_from([1.0, 59.9, 60.0, 1e4]))
def test_without_a_slow_call_rate_no_duration_matters(circuit: Circuit, took: float):
    policy = BreakerPolicy(failure_threshold=6)
    for event in (gave_up(0.0), succeeded(0.0)):
        assert step(policy, circuit, event, took=took) == step(policy, circuit, event)


def test_a_slow_probe_opens_the_circuit_again():
    policy = BreakerPolicy(slow_call_rate=0.5, slow_call_seconds=2.0, break_duration=10.0)
    probing = HalfOpen((Permit("a", 25.0),), times=2)
    assert step(policy, probing, succeeded(20.0), took=2.0) == Open(20.0 + 40.0, 0, 3, 1)
    assert step(policy, probing, succeeded(20.0), took=1.9) == Closed(at=20.0)
