"""The circuits of all operations, on a real bus."""

from __future__ import annotations

from typing import Any

import pytest

from events.attempt import Attempt, request_start
from events.bus import Bus
from events.call import Call
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.errors import CallRejectedError
from events.event import FOREVER, Event
from events.evidence import Category, Evidence
from events.operation import Operation
from events.operation_events import FailureClassified, GaveUp, OperationStarted
from events.runner_api import park
from events.verdicts import GiveUp, Park, Verdict
from recovery.circuits import Circuits
from recovery.journal.circuit_history import replay_circuits
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_states import Closed, Forced, HalfOpen, Open, Reopened
from recovery.policies.retry import RetryPolicy
from recovery.registry import Registry
from recovery.settings import OperationConfig
from recovery.subscribers.circuit_breaker import Break
from recovery.testing import VirtualClock

FEW = 64
TWICE = BreakerPolicy(failure_threshold=2, break_duration=10.0, lease=5.0)
HOST = BreakerPolicy(
    failure_threshold=2, break_duration=10.0, counts="attempts", categories=frozenset({Category.UNREACHABLE})
)


class Service:
    """A bus with a registry and its circuits, on a virtual clock, and the circuit events so far."""

    def __init__(self, breaker: BreakerPolicy | None = TWICE, **config: Any) -> None:
        self.clock = VirtualClock()
        self.bus = Bus(clock=self.clock, run="run")
        self.registry = Registry(self.bus, max_keys=FEW)
        self.released: list[tuple[str, str]] = []
        config_of, operation_of = self.registry.config_of, self.registry.operation_of
        self.breaks = Break(self.bus, config_of, operation_of, self, max_keys=FEW)
        self.circuits = Circuits(self.breaks)
        self.events: list[Event] = []
        self.bus.subscribe((CircuitOpened, CircuitHalfOpened, CircuitClosed), self.events.append)
        self.definition = self.registry.define(
            "fetch", OperationConfig(policy=RetryPolicy(), breaker=breaker, **config), explicit=True
        )

    def may_probe(self, operation: str, key: str) -> None:
        self.released.append((operation, key))

    circuit_closed = may_probe

    def keyed(self, key: str = "") -> Operation:
        return self.definition.keyed(key)

    def give_up(self, *, times: int = 1, key: str = "", **given: Any) -> None:
        """Calls that began before the circuit opened, and give up now."""
        for _ in range(times):
            self.bus.publish(GaveUp(**{**self.about(key), "category": Category.TRANSIENT, **given}))

    def fail(self, category: Category = Category.UNREACHABLE, key: str = "", **given: Any) -> Verdict | None:
        evidence = Evidence(type="builtins.OSError")
        return self.bus.publish(
            FailureClassified(**{**self.about(key), "category": category, "evidence": evidence, **given})
        )

    def about(self, key: str) -> dict[str, Any]:
        return {"at": self.clock(), "operation": "fetch", "key": key, "call": self.bus.new_call_id()}

    def opened(self) -> Service:
        self.give_up(times=2)
        return self

    def half_opened(self) -> tuple[Service, Attempt]:
        """With a probe under way."""
        self.opened().clock.advance(10.0)
        return self, self.keyed().start()

    @property
    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]


def asked(service: Service, attempt: int = 1, key: str = "", *, again: bool = False) -> Verdict | None:
    """The verdict on the start of an attempt."""
    return service.bus.publish(OperationStarted(**service.about(key), attempt=attempt, again=again))


def test_calls_in_a_row_that_gave_up_open_the_circuit() -> None:
    service = Service().opened()
    assert service.events == [CircuitOpened(at=0.0, operation="fetch", after=10.0, failures=2)]
    assert service.keyed().is_observed
    service.circuits.states().clear()  # a copy
    assert service.circuits.states() == {("fetch", ""): Open(10.0, 2)}


def test_noise_that_retries_absorb_never_opens_it() -> None:
    service = Service()
    for _ in range(50):
        service.fail(Category.TRANSIENT)
    assert service.circuits.states() == {}


def test_a_success_in_between_breaks_the_row() -> None:
    service = Service()
    service.give_up()
    service.keyed().successes += 1
    service.give_up()
    assert service.circuits.states() == {("fetch", ""): Closed(1, successes=1)}


def test_what_succeeded_before_the_first_failure_breaks_no_row() -> None:
    service = Service()
    service.keyed().successes += 7
    assert service.opened().kinds == [CircuitOpened]


@pytest.mark.parametrize("breaker", [TWICE, HOST], ids=["calls", "attempts"])
def test_a_closed_circuit_does_not_observe_the_hot_path(breaker: BreakerPolicy) -> None:
    service = Service(breaker)
    service.give_up()
    service.fail()
    assert not service.keyed().is_observed


def test_an_open_circuit_rejects_a_call_and_says_when_to_come_back() -> None:
    service = Service().opened()
    service.clock.advance(4.0)
    with pytest.raises(CallRejectedError, match=r"circuit open: fetch; come back in 6\.0 s"):
        service.keyed().start()


@pytest.mark.parametrize(
    ("when_open", "attempt", "again", "is_rejected"),
    [
        ("reject", 1, False, True),
        ("reject", 2, True, False),
        ("reject", 1, True, False),  # a dead process began it
        ("wait", 1, False, False),
        ("wait", 2, True, False),
    ],
)
def test_only_a_call_that_has_not_begun_is_rejected(
    when_open: str, attempt: int, again: bool, is_rejected: bool
) -> None:
    verdict = asked(Service(when_open=when_open).opened(), attempt, again=again)
    why = "circuit open: fetch"
    assert verdict == (GiveUp(why, 10.0) if is_rejected else Park(10.0, until=(why,)))


@pytest.mark.parametrize(("now", "verdict"), [(4.0, Park(6.0, ("circuit open: fetch",))), (10.0, None)])
def test_a_call_under_way_that_fails_waits_for_the_circuit(now: float, verdict: Verdict | None) -> None:
    service = Service().opened()
    service.clock.advance(now)
    assert service.fail(Category.TRANSIENT) == verdict


def test_a_late_failure_does_not_extend_the_break() -> None:
    service = Service().opened()
    service.clock.advance(9.0)
    service.give_up(times=5)
    assert service.circuits.states() == {("fetch", ""): Open(10.0, 2)}


def test_after_the_break_one_probe_may_pass() -> None:
    service, _ = Service().half_opened()
    assert (service.kinds, asked(service)) == ([CircuitOpened, CircuitHalfOpened], GiveUp("circuit open: fetch", 1.0))


def test_a_probe_that_succeeds_closes_the_circuit_which_then_unsubscribes() -> None:
    service, probe = Service().half_opened()
    probe.succeed()
    assert (service.kinds[-1], service.circuits.states(), asked(service)) == (CircuitClosed, {}, None)
    assert not service.keyed().is_observed


def test_a_probe_that_gave_up_opens_the_circuit_again_for_a_longer_break() -> None:
    service, probe = Service().half_opened()
    service.clock.advance(2.0)
    service.give_up(call=probe.call.id)
    assert service.events[-1] == CircuitOpened(at=12.0, operation="fetch", after=20.0, failures=1, times=2)


def test_a_circuit_that_opened_again_subscribes_once() -> None:
    service, probe = Service().half_opened()
    service.give_up(call=probe.call.id)
    service.clock.advance(20.0)
    service.keyed().start().succeed()
    assert not service.keyed().is_observed


def test_a_probe_that_is_cancelled_frees_its_permit_and_that_is_reported() -> None:
    service, probe = Service().half_opened()
    probe.cancel()
    assert (asked(service), service.released) == (None, [("fetch", "")])


def test_a_lost_probe_frees_its_permit_when_its_lease_is_over() -> None:
    service, _ = Service().half_opened()
    service.clock.advance(5.0)
    assert asked(service) is None


def test_a_late_answer_from_before_the_break_decides_nothing() -> None:
    service = Service()
    late = service.keyed().start()
    service.half_opened()
    late.succeed()
    assert isinstance(service.circuits.states()["fetch", ""], HalfOpen)


def test_an_operation_without_a_breaker_and_one_of_no_service_have_no_circuit() -> None:
    without, service = Service(None).opened(), Service()
    service.give_up(times=9, operation="foreign")
    assert (without.circuits.states(), service.circuits.states()) == ({}, {})


def test_every_key_has_a_circuit_of_its_own() -> None:
    service = Service()
    service.give_up(times=2, key="sick")
    verdicts = [(asked(service, key=key), service.keyed(key).is_observed) for key in ("sick", "well", "")]
    assert verdicts == [(GiveUp("circuit open: fetch[sick]", 10.0), True), (None, False), (None, False)]


def test_an_operation_and_its_key_may_be_open_at_once() -> None:
    service = Service().opened()
    service.give_up(times=2, key="host")
    service.clock.advance(10.0)
    assert (asked(service, key="host"), asked(service, key="host")) == (None, GiveUp("circuit open: fetch[host]", 1.0))


def test_a_circuit_of_a_host_opens_when_attempts_do_not_reach_it() -> None:
    service = Service(HOST)
    assert (service.fail(), service.fail()) == (None, Park(10.0, ("circuit open: fetch",)))


def test_another_kind_of_failure_resets_the_row() -> None:
    service = Service(HOST)
    for category in (Category.UNREACHABLE, Category.TRANSIENT, Category.UNREACHABLE, Category.PERMANENT):
        service.fail(category)
    assert (service.events, service.circuits.states()) == ([], {})


def test_of_many_keys_only_some_are_remembered_the_open_ones_first() -> None:
    service = Service()
    service.give_up(times=2, key="sick")
    for number in range(FEW + 100):
        service.give_up(key=str(number))
    assert len(service.circuits.states()) <= FEW
    assert asked(service, key="sick") == GiveUp("circuit open: fetch[sick]", 10.0)


# Forced by hand


def test_a_circuit_that_is_forced_open_rejects_its_key_alone() -> None:
    service = Service()
    service.circuits.force("fetch", "open", key="host")
    service.clock.advance(10_000.0)
    assert asked(service, key="host") == GiveUp("circuit open: fetch[host]")
    assert asked(service, key="host", again=True) == Park(FOREVER, ("circuit open: fetch[host]",))
    assert asked(service) is None


def test_a_circuit_that_is_forced_closed_lets_calls_begin_at_once_and_never_opens() -> None:
    service = Service().opened()
    service.circuits.force("fetch", "closed")
    assert (asked(service), service.keyed().is_observed, service.released) == (None, False, [("fetch", "")])
    service.give_up(times=10)
    assert (asked(service), service.kinds) == (None, [CircuitOpened, CircuitClosed])


def test_for_metrics_only_a_circuit_publishes_marked_events_and_defers_no_call() -> None:
    service = Service()
    service.circuits.force("fetch", "metrics_only")
    service.opened()
    assert (asked(service), service.circuits.closed("fetch").is_met()) == (None, True)
    service.clock.advance(10.0)
    probe = service.keyed().start()
    assert asked(service) is None
    probe.succeed()
    assert service.kinds == [CircuitOpened, CircuitHalfOpened, CircuitClosed]
    assert [event.metrics_only for event in service.events if isinstance(event, CircuitOpened)] == [True]
    assert replay_circuits({}, "run", service.events[:1]) == {}


def test_for_metrics_only_a_failure_is_not_deferred() -> None:
    service = Service(HOST)
    service.circuits.force("fetch", "metrics_only")
    assert (service.fail(), service.fail(), service.kinds) == (None, None, [CircuitOpened])


def test_a_circuit_that_is_forced_or_has_a_row_takes_the_general_path() -> None:
    service = Service()
    service.circuits.force("fetch", "metrics_only", key="forced")
    service.give_up(key="failed")
    assert set(service.breaks.known) == {("fetch", "forced"), ("fetch", "failed")}
    service.circuits.force("fetch", "auto", key="forced")
    service.circuits.force("fetch", "auto", key="failed")
    assert set(service.breaks.known) == set()


def test_a_circuit_that_is_auto_again_starts_closed() -> None:
    service = Service()
    service.circuits.force("fetch", "open")
    service.circuits.force("fetch", "auto")
    assert (asked(service), service.keyed().is_observed) == (None, False)
    assert service.opened().kinds == [CircuitOpened, CircuitClosed, CircuitOpened]


@pytest.mark.parametrize("is_open", [False, True], ids=["closed before", "open before"])
def test_every_transition_by_hand_is_one_event(is_open: bool) -> None:
    service = Service().opened() if is_open else Service()
    service.events.clear()
    opened, closed = (
        CircuitOpened(at=0.0, operation="fetch", after=FOREVER, forced=True),
        CircuitClosed(at=0.0, operation="fetch", why="forced"),
    )
    for mode in ("open", "open", "closed", "metrics_only", "open", "metrics_only", "auto", "open", "auto"):
        service.circuits.force("fetch", mode)  # type: ignore[arg-type]  # each is a mode
    assert service.events == [opened, closed, opened, closed, opened, closed]


def test_a_circuit_that_is_forced_open_is_listed_and_closed_for_the_next_run() -> None:
    service = Service().opened()
    service.circuits.force("fetch", "open")
    service.circuits.force("fetch", "metrics_only", key="host")
    service.give_up(key="host")
    assert service.circuits.states() == {
        ("fetch", ""): Forced("open"),
        ("fetch", "host"): Forced("metrics_only", Closed(1)),
    }
    assert replay_circuits({}, "run", service.events) == {}


def test_an_operation_without_a_breaker_can_be_forced_open_but_into_no_unknown_mode() -> None:
    service = Service(breaker=None)
    service.circuits.force("fetch", "open")
    with pytest.raises(ValueError, match=r"^mode must be one of"):
        service.circuits.force("fetch", "ajar")  # type: ignore[arg-type]
    assert asked(service) == GiveUp("circuit open: fetch")


@pytest.mark.parametrize("permits", [1, 2])
def test_the_condition_of_a_closed_circuit_holds_when_a_call_may_begin_if_only_to_probe(permits: int) -> None:
    service = Service(BreakerPolicy(failure_threshold=2, break_duration=10.0, lease=5.0, half_open_permits=permits))
    closed = service.circuits.closed("fetch")
    service.give_up()
    assert closed.is_met()  # one failure is not a row
    service.give_up()
    assert not closed.is_met()
    service.clock.advance(10.0)
    for _ in range(permits):
        assert closed.is_met()
        service.keyed().start()  # a probe
    assert not closed.is_met()
    service.clock.advance(5.0)  # the probes are lost
    assert closed.is_met()
    service.circuits.force("fetch", "open")
    assert not closed.is_met()


# Restored from an earlier run


def test_a_restored_circuit_is_open_for_the_rest_of_its_break_and_keeps_growing() -> None:
    service = Service()
    service.breaks.restore({("fetch", ""): Reopened(Open(until=6.0, failures=1, times=3))})
    assert asked(service) == GiveUp("circuit open: fetch", 6.0)
    service.clock.advance(6.0)
    probe = service.keyed().start()
    service.give_up(call=probe.call.id)
    assert service.events[-1] == CircuitOpened(at=6.0, operation="fetch", after=80.0, failures=1, times=4)


def test_a_known_circuit_is_not_restored() -> None:
    service = Service().opened()
    service.breaks.restore({("fetch", ""): Reopened(Open(until=600.0))})
    assert asked(service) == GiveUp("circuit open: fetch", 10.0)


@pytest.mark.parametrize(("age", "is_restored"), [(3600.0, True), (3601.0, False)])
def test_an_open_circuit_older_than_the_policy_says_is_not_restored(age: float, is_restored: bool) -> None:
    service = Service()
    service.breaks.restore({("fetch", ""): Reopened(Open(until=-age, failures=2))})
    opened = CircuitOpened(at=-age, operation="fetch", after=0.0, failures=2)  # as old as it was
    closed = CircuitClosed(at=0.0, operation="fetch", why="forgotten")
    assert service.events == ([opened] if is_restored else [closed])
    assert (service.circuits.states() != {}) is is_restored


def test_no_more_circuits_are_restored_than_are_remembered() -> None:
    service = Service()
    service.breaks.restore({("fetch", f"host {number}"): Reopened(Open(until=600.0)) for number in range(FEW + 10)})
    assert len(service.circuits.states()) == FEW
    assert asked(service, key="host 0") is None


@pytest.mark.parametrize("mode", ["closed", "auto"])
def test_a_circuit_that_was_dropped_by_hand_is_closed_for_the_journal_too(mode: Any) -> None:
    service = Service().opened()
    service.circuits.force("fetch", mode)
    assert service.kinds == [CircuitOpened, CircuitClosed]


def test_a_forced_operation_covers_the_keys_that_are_not_forced() -> None:
    service = Service()
    service.circuits.force("fetch", "open")
    service.circuits.force("fetch", "closed", key="well")
    assert [asked(service, key=key) for key in ("", "host", "well")] == [
        GiveUp("circuit open: fetch"),
        GiveUp("circuit open: fetch"),
        None,
    ]


def test_a_restored_circuit_of_an_operation_without_a_breaker_is_dropped() -> None:
    service = Service(breaker=None)
    service.breaks.restore({("fetch", ""): Reopened(Open(until=600.0))})
    assert service.circuits.closed("fetch").is_met()
    assert asked(service) is None
    assert (service.keyed().is_observed, service.kinds) == (False, [CircuitOpened, CircuitClosed])


@pytest.mark.parametrize(("taken", "seconds"), [(0.0, 1.0), (0.5, 1.0), (2.0, 2.0), (3.0, 2.0), (4.5, 0.5)], ids=str)
def test_a_call_beside_a_probe_is_told_to_come_back_after_as_long_as_the_probe_has_taken(
    taken: float, seconds: float
) -> None:
    service, _ = Service().half_opened()
    service.clock.advance(taken)
    assert asked(service) == GiveUp("circuit open: fetch", seconds)  # never beyond the lease of 5 s
    assert asked(service, again=True) == Park(5.0 - taken, ("circuit open: fetch",))  # it is woken earlier


def test_a_probe_that_takes_longer_than_its_lease_still_closes_the_circuit() -> None:
    service, probe = Service().half_opened()
    service.clock.advance(5.0)
    service.keyed().start()  # another takes its place
    probe.succeed()
    assert service.circuits.states() == {}


@pytest.mark.parametrize("verdict", [GiveUp("not now"), Park(60.0)])
def test_a_probe_that_another_subscriber_rejects_or_parks_frees_its_permit(verdict: Verdict) -> None:
    service = Service().opened()
    service.clock.advance(10.0)
    attempt = Attempt(Call(service.keyed(), "a"))
    with service.bus.subscribe(OperationStarted, lambda _: verdict):
        if isinstance(verdict, Park):
            held = request_start(attempt)
            assert held is not None
            park(attempt, held)
        else:
            with pytest.raises(CallRejectedError):
                service.keyed().start()
    assert asked(service) is None


def test_a_failure_that_is_judged_twice_is_counted_once() -> None:
    service = Service(HOST)
    attempt = service.about("")
    assert (service.fail(**attempt), service.fail(**attempt), service.events) == (None, None, [])


def test_the_number_of_open_circuits_is_bounded() -> None:
    service = Service(BreakerPolicy(failure_threshold=1, break_duration=10.0))
    for number in range(FEW + 50):
        service.clock.advance(0.001)
        service.give_up(key=f"host {number}")
    assert len(service.circuits.states()) == FEW
    assert sum(service.keyed(f"host {number}").is_observed for number in range(FEW + 50)) == FEW
    assert asked(service, key="host 0") is None  # whose break ends first
    assert asked(service, key=f"host {FEW + 49}") is not None


def test_the_circuit_of_a_host_counts_on_though_very_many_others_were_asked_meanwhile() -> None:
    service = Service()
    for _ in range(6):
        service.give_up(key="flaky")
        service.keyed("flaky").successes += 1
        for number in range(FEW + 10):
            service.keyed(f"host {number}")
    assert service.events == []


def test_an_open_circuit_that_is_forgotten_for_another_is_closed_by_an_event() -> None:
    service = Service(BreakerPolicy(failure_threshold=1, break_duration=10.0))
    for number in range(FEW + 1):
        service.give_up(key=f"host {number}")
        service.clock.advance(0.001)
    closed = [event.key for event in service.events if isinstance(event, CircuitClosed)]
    assert closed == ["host 0"]
    assert len(replay_circuits({}, "run", service.events)) == FEW == len(service.circuits.states())


def test_a_row_that_a_success_has_ended_is_not_shown() -> None:
    service = Service()
    service.give_up()
    service.keyed().start().succeed()
    assert (service.circuits.states(), repr(service.circuits)) == ({}, "<Circuits: all closed>")


def test_a_rate_shows_the_failures_that_are_still_in_the_window() -> None:
    service = Service(BreakerPolicy(failure_rate=0.5, window=10))
    service.give_up(times=3)
    service.keyed().successes += 9
    assert service.circuits.states() == {("fetch", ""): Closed(3, 0, (3,), 0)}
    service.keyed().successes += 1
    assert service.circuits.states() == {}


def test_what_succeeded_before_the_first_failure_counts_for_a_rate() -> None:
    service = Service(BreakerPolicy(failure_rate=0.5, window=100))
    service.keyed().successes = 1000
    service.give_up(times=49)
    assert service.events == []
    service.give_up()
    assert service.kinds == [CircuitOpened]


def test_a_rate_starts_over_when_the_circuit_has_closed() -> None:
    service = Service(BreakerPolicy(failure_rate=0.5, window=10, break_duration=10.0))
    service.give_up(times=10)
    service.clock.advance(10.0)
    service.keyed().start().succeed()
    service.give_up(times=9)
    assert service.kinds == [CircuitOpened, CircuitHalfOpened, CircuitClosed]


def test_any_other_failure_counts_as_none_of_a_rates() -> None:
    service = Service(BreakerPolicy(failure_rate=0.5, window=10, categories=frozenset({Category.UNREACHABLE})))
    for _ in range(50):
        service.give_up(times=4)
        service.give_up(category=Category.UNREACHABLE)
    assert service.events == []


def test_the_circuits_and_forced_modes_of_a_reused_name_are_forgotten() -> None:
    service = Service().opened()
    service.circuits.force("fetch", "open", key="host")
    service.breaks.forget("fetch")
    assert service.circuits.states() == {}
    for key in ("", "host"):
        assert (asked(service, key=key), service.keyed(key).is_observed) == (None, False)


def test_a_call_that_the_policy_parks_is_not_deferred_again() -> None:
    service = Service(BreakerPolicy(failure_threshold=1, counts="attempts"))
    assert service.fail(Category.RATE_LIMITED, retry_after=60.0) is None
    assert service.kinds == [CircuitOpened]


def test_the_circuits_show_what_is_open_and_what_is_forced() -> None:
    service = Service()
    assert repr(service.circuits) == "<Circuits: all closed>"
    service.give_up(key="a")
    service.give_up(times=2, key="b")
    service.circuits.force("fetch", "closed", key="c")
    assert repr(service.circuits) == "<Circuits: fetch[a] closed, 1 failed; fetch[b] open; fetch[c] forced closed>"
    service.clock.advance(10.0)
    service.keyed("b").start()
    assert "fetch[b] half-open" in repr(service.circuits)
