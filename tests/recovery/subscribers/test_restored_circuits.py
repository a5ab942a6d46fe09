"""A circuit outlives its process: from the journal of one run into the next, in memory and on a real disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitClosed, CircuitOpened
from events.errors import CallRejectedError
from events.evidence import Category
from recovery.journal.circuit_history import OpenCircuit, reopened, replay_circuits
from recovery.journal.history import Run
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.circuit_states import Open, Reopened
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock

BREAKER = BreakerPolicy(failure_threshold=1, break_duration=600.0)


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kept = MemoryStore()
    return lambda: kept if request.param == "memory" else SQLiteStore(tmp_path / "journal.db")


def run_that_opens(store: Any, *, then_closes: bool = False) -> None:
    clock = VirtualClock(start=time.monotonic())
    with Recovery(store=store, clock=clock, run="first") as service:
        call = service.recoverable("fetch", breaker=BREAKER, max_retries=0)(Script(ConnectionError()))
        with pytest.raises(ConnectionError):
            call()
        if then_closes:
            clock.advance(600.0)
            call()


def test_a_circuit_that_was_open_is_open_after_a_restart(make_store: Any) -> None:
    run_that_opens(make_store())
    with Recovery(store=make_store(), run="second") as service:
        assert service.journal is not None
        service.journal.pending(10.0)
        script = Script()
        with pytest.raises(CallRejectedError) as caught:
            service.recoverable("fetch", breaker=BREAKER)(script)()
    assert script.calls == 0
    assert caught.value.retry_after is not None
    assert caught.value.retry_after <= 600.0


def test_a_circuit_that_was_closed_again_is_not_restored(make_store: Any) -> None:
    run_that_opens(make_store(), then_closes=True)
    with Recovery(store=make_store(), run="second") as service:
        assert service.journal is not None
        service.journal.pending(10.0)
        assert service.recoverable("fetch", breaker=BREAKER)(Script())() == "done"
        assert service.circuits.states() == {}


def test_the_incident_of_a_circuit_that_was_open_names_the_cause_after_each_restart(make_store: Any) -> None:
    run_that_opens(make_store())
    for run in ("second", "third"):
        with Recovery(store=make_store(), run=run) as service:
            assert service.journal is not None
            service.journal.pending(10.0)
            (incident,) = service.incidents.open()
    assert (incident.category, incident.cause) == (Category.TRANSIENT, "transient: ConnectionError")


def test_a_circuit_that_was_opened_again_by_hand_keeps_its_cause() -> None:
    first = CircuitOpened(at=1.0, operation="fetch", after=30.0, category=Category.UNREACHABLE, cause="no route")
    circuits = replay_circuits({}, "r", [first, CircuitOpened(at=2.0, operation="fetch", after=90.0)])
    assert circuits["fetch", ""] == OpenCircuit("r", 92.0, 90.0, 0, 1, Category.UNREACHABLE, "no route")


def opened(at: float, times: int = 1, key: str = "") -> CircuitOpened:
    return CircuitOpened(at=at, operation="fetch", key=key, after=30.0, failures=5, times=times)


def test_the_latest_opening_counts_and_a_closing_ends_it() -> None:
    circuits: dict[tuple[str, str], OpenCircuit] = {}
    replay_circuits(circuits, "r", [opened(1.0), opened(40.0, times=2), opened(1.0, key="host")])
    replay_circuits(circuits, "r", [CircuitClosed(at=50.0, operation="fetch", key="host")])
    assert circuits == {("fetch", ""): OpenCircuit("r", 70.0, 30.0, 5, 2)}


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (Run(id="2", boot="b", monotonic=45.0, wall=0.0, pid=1), 70.0),  # one boot: one monotonic clock
        (Run(id="2", boot="b", monotonic=99.0, wall=0.0, pid=1), 99.0),  # over: the first call may probe
        (Run(id="2", boot="c", monotonic=5.0, wall=1030.0, pid=1), 15.0),  # another boot: by the wall clock
        (Run(id="2", boot="c", monotonic=5.0, wall=10.0, pid=1), 35.0),  # which is trusted for no more than the break
    ],
)
def test_what_is_left_of_a_break_is_waited_for(now: Run, until: float) -> None:
    then = Run(id="1", boot="b", monotonic=0.0, wall=970.0, pid=1)
    circuit = OpenCircuit("1", 70.0, 30.0, 5, 2)
    assert reopened(circuit, {"1": then}, now) == Reopened(Open(until, 5, 2))
