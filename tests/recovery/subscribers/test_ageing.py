"""What circuits forget, and by what events they say so; what is forced for a while; what is measured."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from events.attempt import next_attempt
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.evidence import Category
from events.operation import Operation
from events.operation_events import Parked
from events.runner_api import give_up
from events.verdicts import GiveUp
from recovery.journal.circuit_history import OpenCircuit, reopened, replay_circuits
from recovery.journal.history import Run
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_states import Closed, Forced, HalfOpen, Open, Reopened
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names
from tests.steps import steps_of

DAY, HOUR = 86_400.0, 3600.0
ONCE: dict[str, Any] = {"failure_threshold": 1, "break_duration": 10.0}


class Calls:
    """Calls of one operation by hand, which give up with their first failure, on a virtual clock."""

    def __init__(self, rng: Any = lambda: 0.5, when_open: Any = "reject", **breaker: Any) -> None:
        self.clock = VirtualClock(start=1e6)
        self.service = Recovery(clock=self.clock, rng=rng)
        policy = BreakerPolicy(**breaker)
        self.service.operation("fetch", max_retries=0, breaker=policy, when_open=when_open)
        self.circuits = self.service.circuits
        self.events = events_of(self.service, CircuitOpened, CircuitHalfOpened, CircuitClosed)

    def start(self, key: str = "") -> Any:
        return Operation("fetch", self.service.bus, key=key).start()

    def fail(self, key: str = "", *, times: int = 1, every: float = 0.0) -> None:
        for number in range(times):
            self.clock.advance(every if number else 0.0)
            self.start(key).fail(ConnectionError("reset"))

    def succeed(self, *, took: float = 0.0) -> None:
        attempt = self.service.operation("fetch").start()
        self.clock.advance(took)
        attempt.succeed()

    def may_begin(self, key: str = "") -> bool:
        try:
            self.start(key).cancel()
        except CallRejectedError:
            return False
        return True

    @property
    def names(self) -> list[str]:
        return names(self.events)

    def opened(self, after: float, *, failures: int = 1, times: int = 1) -> CircuitOpened:
        """That the latest failure has just opened the circuit."""
        return CircuitOpened(
            at=self.clock(),
            operation="fetch",
            after=after,
            failures=failures,
            times=times,
            category=Category.TRANSIENT,
            cause="transient: ConnectionError: reset",
        )

    def closed(self, why: str, key: str = "") -> CircuitClosed:
        return CircuitClosed(at=self.clock(), operation="fetch", key=key, why=why)


# Rows


def test_five_lone_failures_on_five_days_open_no_circuit() -> None:
    calls = Calls()
    calls.fail(times=5, every=DAY)
    assert (calls.events, calls.circuits.states()) == ([], {("fetch", ""): Closed(1, at=calls.clock())})


@pytest.mark.parametrize(
    ("every", "forget_after", "opens"), [(HOUR, HOUR, True), (HOUR + 1, HOUR, False), (DAY, None, True)]
)
def test_a_row_is_of_failures_no_farther_apart_than_the_policy_says(
    every: float, forget_after: float | None, opens: bool
) -> None:
    calls = Calls(forget_after=forget_after)
    calls.fail(times=5, every=every)
    assert calls.names == (["CircuitOpened"] if opens else [])


@pytest.mark.parametrize("breaker", [{}, {"failure_rate": 0.5, "window": 10}], ids=["row", "rate"])
def test_a_row_is_shown_until_it_is_forgotten(breaker: dict[str, Any]) -> None:
    calls = Calls(**breaker)
    calls.fail(times=2)
    calls.clock.advance(HOUR)
    assert [type(one) for one in calls.circuits.states().values()] == [Closed]
    calls.clock.advance(1.0)
    assert calls.circuits.states() == {}


# Open circuits


def test_an_open_circuit_that_no_call_asks_for_is_closed_by_an_event() -> None:
    calls = Calls(**ONCE)
    calls.fail()
    calls.clock.advance(10.0 + HOUR)
    assert isinstance(calls.circuits.states()["fetch", ""], HalfOpen)
    calls.clock.advance(1.0)
    assert calls.circuits.states() == {}
    assert calls.events[1:] == [calls.closed("forgotten")]
    assert not calls.service.operation("fetch").is_observed
    assert replay_circuits({}, "run", calls.events) == {}


def test_after_that_time_calls_begin_without_a_probe() -> None:
    calls = Calls(**ONCE)
    calls.fail()
    calls.clock.advance(11.0 + HOUR)
    calls.start()
    calls.start()
    assert calls.names == ["CircuitOpened", "CircuitClosed"]


def test_a_circuit_whose_probe_was_lost_long_ago_is_closed() -> None:
    calls = Calls(**ONCE)
    calls.fail()
    calls.clock.advance(10.0)
    calls.start()
    calls.clock.advance(60.0 + HOUR)
    assert isinstance(calls.circuits.states()["fetch", ""], HalfOpen)
    calls.clock.advance(1.0)
    assert (calls.circuits.states(), calls.names[-1]) == ({}, "CircuitClosed")


def test_a_failure_of_another_key_closes_what_has_expired() -> None:
    calls = Calls(**ONCE)
    calls.fail("old")
    calls.clock.advance(11.0 + HOUR)
    calls.fail("new")
    assert [event for event in calls.events if event.key == "old"][1:] == [calls.closed("forgotten", "old")]


def test_a_failure_costs_the_same_however_many_circuits_have_expired() -> None:
    costs = {}
    for number in (4, 4, 400):  # the first imports
        calls = Calls(**ONCE)
        for one in range(number):
            calls.fail(f"host {one}")
        calls.clock.advance(11.0 + HOUR)
        attempt = calls.start("new")
        costs[number] = steps_of(attempt.fail, ConnectionError("reset"))
    assert costs[400] <= 1.3 * costs[4]


def test_a_break_that_is_over_shows_as_half_open() -> None:
    calls = Calls(**ONCE)
    calls.fail()
    assert calls.circuits.states() == {("fetch", ""): Open(calls.clock() + 10.0, 1)}
    calls.clock.advance(10.0)
    assert calls.circuits.states() == {("fetch", ""): HalfOpen(idle_since=calls.clock())}
    assert repr(calls.circuits) == "<Circuits: fetch half-open>"


# Restored from an earlier run


@pytest.mark.parametrize(
    ("boot", "monotonic", "wall", "age"),
    [
        ("b", 170.0, 1100.0, 100.0),  # a break that ended a hundred seconds ago
        ("b", 70.0, 5000.0, 4000.0),  # the machine slept
        ("c", 5.0, 1100.0, 100.0),
        ("c", 5.0, 10.0, -30.0),  # the wall clock was set back: the break at most
    ],
)
def test_a_break_that_is_over_ended_when_the_wall_clock_says(
    boot: str, monotonic: float, wall: float, age: float
) -> None:
    then = Run(id="1", boot="b", monotonic=0.0, wall=930.0, pid=1)
    now = Run(id="2", boot=boot, monotonic=monotonic, wall=wall, pid=1)
    assert reopened(OpenCircuit("1", 70.0, 30.0, 5, 2), {"1": then}, now) == Reopened(Open(monotonic - age, 5, 2))


# By hand


def test_a_circuit_can_be_opened_for_a_while_and_then_probed() -> None:
    calls = Calls()
    calls.circuits.open_for("fetch", 600.0)
    assert calls.events == [CircuitOpened(at=calls.clock(), operation="fetch", after=600.0)]
    assert ("fetch", "") in replay_circuits({}, "run", calls.events)  # the next run knows
    calls.clock.advance(599.0)
    assert not calls.may_begin()
    calls.clock.advance(1.0)
    calls.succeed()
    assert calls.names == ["CircuitOpened", "CircuitHalfOpened", "CircuitClosed"]


def test_to_open_it_for_a_while_ends_a_forced_mode() -> None:
    calls = Calls()
    calls.circuits.force("fetch", "closed")
    calls.circuits.open_for("fetch", 60.0)
    assert (calls.may_begin(), calls.circuits.states()) == (False, {("fetch", ""): Open(calls.clock() + 60.0)})


@pytest.mark.parametrize("first", ["opened", "forced open", "closed"])
def test_a_circuit_that_is_forced_half_open_lets_one_call_probe(first: str) -> None:
    calls = Calls(**ONCE)
    if first == "opened":
        calls.fail()
    elif first == "forced open":
        calls.circuits.force("fetch", "open")
    calls.events.clear()
    calls.circuits.force("fetch", "half_open")
    calls.circuits.force("fetch", "half_open")  # as it is
    assert calls.names == ["CircuitHalfOpened"]
    probe = calls.start()
    assert not calls.may_begin()
    probe.fail(ConnectionError("reset"))
    times = 2 if first == "opened" else 1
    assert calls.events[1:] == [calls.opened(10.0 * times, times=times)]


@pytest.mark.parametrize("mode", ["open", "closed", "metrics_only"])
def test_a_forced_mode_ends_by_itself_with_an_event(mode: Any) -> None:
    calls = Calls(**ONCE)
    calls.circuits.force("fetch", mode, seconds=60.0)
    assert calls.circuits.states() == {("fetch", ""): Forced(mode, None, calls.clock() + 60.0)}
    calls.clock.advance(59.0)
    assert calls.may_begin() is (mode != "open")
    calls.clock.advance(1.0)
    assert calls.circuits.closed("fetch").is_met()
    assert calls.circuits.states() == {}
    assert calls.events[-1] == calls.closed("forced")
    assert calls.may_begin()
    calls.fail()
    assert (calls.names[-1], calls.may_begin()) == ("CircuitOpened", False)


def test_a_circuit_forced_open_for_a_while_says_when_to_come_back() -> None:
    calls = Calls()
    calls.circuits.force("fetch", "open", seconds=60.0)
    assert isinstance(calls.events[-1], CircuitOpened)
    assert (calls.events[-1].after, calls.events[-1].forced) == (60.0, True)
    calls.clock.advance(20.0)
    with pytest.raises(CallRejectedError, match=r"come back in 40\.0 s"):
        calls.start()
    calls.clock.advance(40.0)
    calls.start()
    assert calls.events[1:] == [calls.closed("forced")]


def test_a_call_that_waits_for_a_forced_circuit_begins_when_the_force_ends() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, when_open="wait", rng=lambda: 0.0)
    waits = events_of(service, Parked)
    service.circuits.force("fetch", "open", seconds=60.0)
    assert service.recoverable("fetch")(Script())() == "done"
    assert (clock(), len(waits)) == (60.0, 1)


def test_a_whole_operation_is_forced_for_a_while_with_its_keys() -> None:
    calls = Calls()
    calls.circuits.force("fetch", "open", seconds=60.0)
    assert not calls.may_begin("host")
    calls.clock.advance(60.0)
    assert calls.may_begin("host")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf")])
def test_a_time_by_hand_is_positive_and_finite(seconds: float) -> None:
    circuits = Calls().circuits
    with pytest.raises(ValueError, match=r"^seconds must "):
        circuits.open_for("fetch", seconds)
    with pytest.raises(ValueError, match=r"^seconds must "):
        circuits.force("fetch", "open", seconds=seconds)
    with pytest.raises(ValueError, match=r"^seconds must not be given for mode 'auto'"):
        circuits.force("fetch", "auto", seconds=1.0)


def test_an_operation_without_a_breaker_cannot_be_probed() -> None:
    service = Recovery()
    service.operation("fetch", breaker=None)
    with pytest.raises(ValueError, match=r"^open_for\(\) needs a breaker, and operation 'fetch' has none"):
        service.circuits.open_for("fetch", 1.0)
    with pytest.raises(ValueError, match=r"^mode 'half_open' needs a breaker"):
        service.circuits.force("fetch", "half_open")


# Breaks and probes


def test_a_break_is_longer_at_random_where_the_policy_says_so() -> None:
    calls = Calls(rng=lambda: 0.5, break_jitter=0.4, **ONCE)
    calls.fail()
    assert calls.events == [calls.opened(12.0)]


def test_several_probes_close_the_circuit_where_the_policy_says_so() -> None:
    calls = Calls(half_open_successes=2, **ONCE)
    calls.fail()
    calls.clock.advance(10.0)
    calls.succeed()
    assert calls.names == ["CircuitOpened", "CircuitHalfOpened"]
    calls.succeed()
    assert calls.names[-1] == "CircuitClosed"


# Measured


def test_slow_calls_open_the_circuit_though_none_fails() -> None:
    calls = Calls(slow_call_rate=0.5, slow_call_seconds=2.0, window=10)
    for number in range(10):
        calls.succeed(took=2.0 if number % 2 else 1.0)
    assert calls.events == [CircuitOpened(at=calls.clock(), operation="fetch", after=30.0, slow=5, cause="too slow")]


def test_the_probe_of_a_circuit_that_measures_is_not_counted_after_it_has_closed_it() -> None:
    calls = Calls(slow_call_rate=0.5, slow_call_seconds=2.0, window=10)
    for _ in range(10):
        calls.succeed(took=2.0)
    calls.clock.advance(30.0)
    calls.succeed()
    for _ in range(9):
        calls.succeed(took=2.0)
    assert calls.names == ["CircuitOpened", "CircuitHalfOpened", "CircuitClosed"]
    calls.succeed(took=2.0)
    assert calls.names[-1] == "CircuitOpened"


def test_a_call_that_gives_up_in_a_long_wait_is_not_slow() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    breaker = BreakerPolicy(slow_call_rate=0.1, slow_call_seconds=2.0, window=10, failure_threshold=99)
    operation = service.operation("fetch", initial_delay=60.0, breaker=breaker)
    for _ in range(10):
        attempt = operation.start()
        attempt.fail(ConnectionError("reset"))
        clock.advance(60.0)
        give_up(next_attempt(attempt), GiveUp("by hand"))
    [circuit] = service.circuits.states().values()
    assert isinstance(circuit, Closed)
    assert [one.slow for one in circuit.slices] == [0] * 10


def test_a_rate_by_time_opens_with_as_many_calls_as_it_asks_for() -> None:
    calls = Calls(failure_rate=0.5, window_seconds=60.0, minimum_calls=4)
    calls.fail()
    calls.clock.advance(61.0)
    calls.succeed()
    calls.succeed()
    calls.fail()
    assert calls.events == []
    calls.fail()
    assert calls.events == [calls.opened(30.0, failures=2)]


@pytest.mark.parametrize("is_measured", [False, True])
def test_a_function_reads_no_clock_unless_its_policy_measures(is_measured: bool) -> None:
    reads: list[float] = []

    def clock() -> float:
        reads.append(0.0)
        return 0.0

    breaker = BreakerPolicy(slow_call_rate=0.5) if is_measured else BreakerPolicy()
    call = Recovery(clock=clock).recoverable("fetch", breaker=breaker)(Script())
    reads.clear()
    assert call() == "done"
    assert bool(reads) is is_measured


def test_a_function_that_is_defined_again_without_a_slow_call_rate_is_not_measured() -> None:
    service, cell = Recovery(), compile("def fetch(): ...", "<cell>", "exec")
    for breaker in (BreakerPolicy(slow_call_rate=0.5), BreakerPolicy()):
        space: dict[str, Any] = {"__name__": "a.cell"}
        exec(cell, space)
        service.recoverable("fetch", breaker=breaker)(space["fetch"])
        assert service.operation("fetch").is_observed is breaker.is_measured


# Calls that wait


def test_a_slow_probe_uses_no_retry_of_the_calls_that_wait() -> None:
    clock, calls = VirtualClock(), 3
    breaker = BreakerPolicy(failure_threshold=1, break_duration=10.0, slow_call_rate=1.0, slow_call_seconds=2.0)
    service = Recovery(clock=clock, when_open="wait", rng=lambda: 0.0)

    @service.recoverable("fetch", max_retries=0, breaker=breaker)
    async def fetch() -> str:
        clock.advance(2.0)
        return "done"

    async def all_calls() -> list[str]:
        service.circuits.open_for("fetch", 10.0)
        done: list[str] = []

        async def one() -> None:
            done.append(await fetch())

        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(one)
        return done

    assert clock.run(all_calls) == ["done"] * calls


def test_an_incident_of_a_circuit_forced_for_a_while_says_how_long() -> None:
    calls = Calls()
    calls.circuits.force("fetch", "open", seconds=60.0)
    calls.clock.advance(20.0)
    assert str(calls.service.incidents.open()[0]) == "fetch: forced open; no call waits, for 40 s"
    calls.clock.advance(40.0)
    calls.circuits.states()
    assert calls.service.incidents.open() == []


def test_a_circuit_that_is_forced_half_open_wakes_a_call_that_waits() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, when_open="wait", rng=lambda: 0.0)
    service.circuits.open_for("fetch", 3600.0)

    @service.recoverable("fetch")
    async def fetch() -> float:
        return clock()

    async def main() -> float:
        async def force() -> None:
            await anyio.sleep(5.0)
            service.circuits.force("fetch", "half_open")

        async with anyio.create_task_group() as group:
            group.start_soon(force)
            return await fetch()

    assert clock.run(main) == 5.0
