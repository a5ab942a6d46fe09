"""``then="ask"``: a call whose retries have run out waits until a person says retry or give up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.journals.status import read_status
from adapters.sqlite.store import SQLiteStore
from events import CircuitOpened, Event, GaveUp, OperationStarted, Park, Parked, Retry, join
from recovery import BreakerPolicy, Recovery, RetryPolicy, recovery_of
from recovery.conditions import Condition
from recovery.policies.retry import ASK, Strategy
from recovery.testing import VirtualClock
from recovery.waiting.description import WaitingCall
from tests.recovery.resume.dead_process import Killed, kill_at
from tests.until import wait_until

DAY = 86400.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def events_of(service: Recovery, *kinds: type[Event]) -> list[Any]:
    """The events of *kinds*, as they come."""
    found: list[Any] = []
    service.bus.subscribe(kinds, found.append)
    return found


def failing(service: Recovery, *, works_at: int = 10**9, **settings: Any) -> tuple[Callable[[], Any], list[float]]:
    """A function that fails before its attempt *works_at*, and the times of its attempts."""
    attempts: list[float] = []

    @service.recoverable("fetch", initial_delay=1.0, jitter="none", **{"then": "ask", **settings})
    async def fetch() -> str:
        attempts.append(service.bus.clock())
        if len(attempts) < works_at:
            raise ConnectionError("down")
        return "done"

    return fetch, attempts


async def asked(service: Recovery, fetch: Callable[[], Any], steer: Callable[[WaitingCall], object]) -> Any:
    """What *fetch* returns or raises, where a day after it has begun *steer* is told of the call that waits."""
    ended: list[Any] = []

    async def run() -> None:
        try:
            ended.append(await fetch())
        except Exception as error:
            ended.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while not ended:
            await anyio.sleep(DAY)
            for call in service.calls.waiting():
                steer(call)
    return ended[0]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_retry_by_hand_is_one_attempt_and_then_it_asks_again(clock: VirtualClock, backend: str):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, attempts = failing(service, works_at=5, max_retries=2)
    parked = events_of(service, Parked)

    def retry(call: WaitingCall) -> None:
        assert (call.asks_person, call.left) == (True, float("inf"))
        assert call.failure is not None
        service.calls.retry_now(call.call)

    assert clock.run(asked, service, fetch, retry, backend=backend) == "done"
    assert attempts == [0.0, 1.0, 3.0, DAY, 2 * DAY]
    assert [(event.attempt, event.asks_person, event.error) for event in parked] == [
        (3, True, "ConnectionError: down"),
        (4, True, "ConnectionError: down"),
    ]


def test_a_call_that_asks_says_so_to_people(clock: VirtualClock, caplog: pytest.LogCaptureFixture):
    service = Recovery(clock=clock)
    fetch, _ = failing(service, max_retries=0)

    def look(call: WaitingCall) -> None:
        assert call.explain().step == "no retries are left: retry, or give up?"
        record = service.calls.find(call.call)
        assert record is not None
        assert (record.asks_person, record.due) == (True, None)
        assert record.explain().step == "has no retries left, and waits until a person says retry or give up"
        service.calls.give_up(call.call)

    clock.run(asked, service, fetch, look)
    [line, _] = [(one.levelname, one.getMessage()) for one in caplog.records if one.levelname == "ERROR"]
    assert "asks after 1 attempt, no retries are left: service.calls.retry_now, or give_up?" in line[1]


def test_a_call_that_is_told_to_give_up_raises_its_last_error(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, attempts = failing(service, max_retries=0)
    error = clock.run(asked, service, fetch, lambda call: service.calls.give_up(call.call, "useless"))
    assert isinstance(error, ConnectionError)
    assert any("given up by hand: useless" in note for note in error.__notes__)
    assert attempts == [0.0]


def test_max_elapsed_ends_no_call_that_asks_and_begins_again_with_the_retry(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, attempts = failing(service, works_at=3, max_retries=0, max_elapsed=60.0)
    assert clock.run(asked, service, fetch, lambda call: service.calls.retry_now(call.call)) == "done"
    assert attempts == [0.0, DAY, 2 * DAY]


def test_a_retry_by_hand_has_all_the_time_of_the_policy(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, attempts = failing(service, works_at=2, max_retries=0, max_elapsed=60.0)
    held: list[OperationStarted] = []

    def hold(event: OperationStarted) -> Park | None:
        held.append(event)
        return Park(5.0) if len(held) == 2 else None

    service.bus.subscribe(OperationStarted, hold)
    assert clock.run(asked, service, fetch, lambda call: service.calls.retry_now(call.call)) == "done"
    assert attempts == [0.0, DAY + 5.0]


@pytest.mark.parametrize("command", ["reset", "edit"])
def test_a_call_that_asks_still_asks_when_it_is_steered(clock: VirtualClock, command: str):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, attempts = failing(service, works_at=4, max_retries=0, max_elapsed=60.0)
    seen: list[str] = []

    def steer(call: WaitingCall) -> None:
        seen.append(call.call)
        match len(seen), command:
            case 1, "reset":
                assert service.calls.reset(call.call)
            case 1, "edit":
                assert service.calls.edit(call.call, max_retries=1, max_elapsed=30.0)
            case _:
                assert service.calls.retry_now(call.call)

    assert clock.run(asked, service, fetch, steer) == "done"
    assert attempts == (
        [0.0, 2 * DAY, 3 * DAY, 4 * DAY] if command == "reset" else [0.0, 2 * DAY, 2 * DAY + 1, 3 * DAY]
    )


def test_a_hopeless_failure_does_not_ask(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)

    @service.recoverable(then="ask")
    def broken() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # it has no text
        broken()


def test_a_park_that_does_not_help_asks_too(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    held = Strategy(wait_for=(Condition("room", lambda: True),))
    fetch, attempts = failing(service, max_retries=1, per_category={"transient": held})
    error = clock.run(asked, service, fetch, lambda call: service.calls.give_up(call.call))
    assert isinstance(error, ConnectionError)
    assert len(attempts) == 2


def test_a_block_asks(clock: VirtualClock):
    service, attempts = Recovery(clock=clock, enable_logging=False), []

    async def fetch() -> str:
        async for attempt in service.attempts("block", then="ask", max_retries=1):
            with attempt:
                attempts.append(clock())
                if len(attempts) < 4:
                    raise ConnectionError
        return "done"

    assert clock.run(asked, service, fetch, lambda call: service.calls.retry_now(call.call)) == "done"
    assert attempts[2:] == [DAY, 2 * DAY]


def test_calls_that_ask_open_the_circuit_as_calls_that_gave_up_do(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    breaker = BreakerPolicy(failure_threshold=4, counts="calls")
    fetch, _ = failing(service, max_retries=0, breaker=breaker)
    opened, gave_up = events_of(service, CircuitOpened), events_of(service, GaveUp)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(give_up_at_last)
            await anyio.sleep(1.0)
            for call in service.calls.waiting():
                service.calls.give_up(call.call)
            await anyio.sleep(1.0)
            assert [event.asked for event in gave_up] == [True] * 3
            assert opened == []
            group.start_soon(give_up_at_last)
            await anyio.sleep(1.0)
            assert len(opened) == 1
            service.calls.give_up(service.calls.waiting()[0].call)

    async def give_up_at_last() -> None:
        with pytest.raises(ConnectionError):
            await fetch()

    clock.run(main)


def test_the_circuit_that_a_call_has_opened_does_not_answer_for_the_person(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    breaker = BreakerPolicy(failure_threshold=1, counts="attempts", break_duration=30.0)
    fetch, attempts = failing(service, works_at=2, max_retries=0, breaker=breaker)
    assert clock.run(asked, service, fetch, lambda call: service.calls.retry_now(call.call)) == "done"
    assert attempts == [0.0, DAY]


def test_failed_probes_of_others_do_not_make_a_call_ask_again(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    breaker = BreakerPolicy(failure_threshold=1, counts="attempts", break_duration=30.0)

    @service.recoverable("fetch", breaker=breaker, when_open="wait", then="ask", max_retries=0)
    async def fetch() -> None:
        raise ConnectionError("down")

    parked = events_of(service, Parked)
    patient = recovery_of(fetch).but(max_retries=3)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fetch)
            await anyio.sleep(1.0)
            group.start_soon(patient)
            await anyio.sleep(DAY)
            group.cancel_scope.cancel()

    clock.run(main)
    calls = [event.call for event in parked if event.asks_person]
    assert len(calls) == len(set(calls)) == 2


def test_calls_that_an_incident_leaves_without_retries_ask(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    breaker = BreakerPolicy(failure_threshold=1, counts="attempts", break_duration=30.0)
    fetch, _ = failing(service, max_retries=2, breaker=breaker, when_open="wait")
    gave_up, errors = events_of(service, GaveUp), []

    async def make() -> None:
        try:
            await fetch()
        except Exception as error:
            errors.append(type(error))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(make)
                await anyio.sleep(1.0)
            await anyio.sleep(DAY)
            assert [call.asks_person for call in service.calls.waiting()] == [True] * 5
            assert gave_up == []
            for call in service.calls.waiting():
                service.calls.give_up(call.call)

    clock.run(main)
    assert sorted(kind.__name__ for kind in errors) == ["CallRejectedError"] * 2 + ["ConnectionError"] * 3


def test_a_call_that_asks_counts_once_as_given_up(clock: VirtualClock):
    service = Recovery(clock=clock, enable_logging=False)
    fetch, _ = failing(service, max_retries=0)
    with service.monitor() as monitor:
        seen: list[int] = []

        def give_up(call: WaitingCall) -> None:
            seen.append(monitor.snapshot().windows["all"].gave_up)
            service.calls.give_up(call.call)

        clock.run(asked, service, fetch, give_up)
        assert [*seen, monitor.snapshot().windows["all"].gave_up] == [1, 1]


def test_the_join_keeps_the_question():
    assert join(ASK, Retry(5.0)) == Park(ASK.after, ASK.until, ASK.within, True, True)
    assert join(Retry(5.0), ASK) == join(ASK, Retry(5.0))


def test_a_wrong_choice_is_refused():
    with pytest.raises(ValueError, match="then must be"):
        RetryPolicy(then="wait")  # type: ignore[arg-type]  # that is the point


# restarts


def fetch_with(service: Recovery, attempts: list[int], works_at: int) -> Callable[[int], str]:
    @service.recoverable("fetch", resumable=True, then="ask", max_retries=1, initial_delay=0.0)
    def fetch(number: int) -> str:
        attempts.append(number)
        if len(attempts) < works_at:
            raise ConnectionError
        return f"done {number}"

    return fetch


def leave_asking(path: Path, number: int) -> None:
    """Leave a call in the journal at *path*, as a process does that is killed when the call asks."""
    with Recovery(store=SQLiteStore(path), enable_logging=False) as service:
        kill_at(service, Parked)
        with pytest.raises(Killed):
            fetch_with(service, [], 10)(number)


def test_a_call_that_asks_still_asks_after_a_restart(tmp_path: Path):
    path, attempts = tmp_path / "journal.db", list[int]()
    leave_asking(path, 7)
    with Recovery(store=SQLiteStore(path), enable_logging=False) as service:
        fetch_with(service, attempts, 2)
        parked = events_of(service, Parked)
        found = service.resume()
        wait_until(service.calls.waiting)
        [call] = service.calls.waiting()
        record = service.calls.find(call.call)
        assert record is not None
        assert (record.state, record.asks_person, record.retries, attempts) == ("waiting", True, 1, [])
        assert "retry, or give up?" in call.explain().line
        assert service.journal is not None
        service.journal.receipt().wait()
        [shown] = anyio.run(read_status, path).calls
        assert (shown.state, shown.waits_for) == ("waiting", "a person to say retry or give up")
        assert service.calls.retry_now(call.call)
        wait_until(lambda: parked and service.calls.waiting())
        assert [event.asks_person for event in parked] == [True]
        assert service.calls.retry_now(call.call)
        assert found.wait(5.0)
    assert [one.result for one in found.calls] == ["done 7"]


def test_a_call_that_asks_after_a_restart_is_reset(tmp_path: Path):
    path, attempts = tmp_path / "journal.db", list[int]()
    leave_asking(path, 7)
    with Recovery(store=SQLiteStore(path), enable_logging=False) as service:
        fetch_with(service, attempts, 10)
        service.resume()
        wait_until(service.calls.waiting)
        [call] = service.calls.waiting()
        assert service.calls.reset(call.call)
        record = service.calls.find(call.call)
        assert record is not None
        assert (record.asks_person, record.retries) == (True, 0)
        assert service.calls.retry_now(call.call)
        wait_until(lambda: len(attempts) == 2 and service.calls.waiting())  # by hand, and its one retry


def test_calls_that_ask_leave_the_threads_of_the_resumption_to_others(tmp_path: Path):
    path = tmp_path / "journal.db"
    for number in range(5):
        leave_asking(path, number)
    with Recovery(store=SQLiteStore(path), enable_logging=False) as service:
        fetch_with(service, [], 0)
        found = service.resume()
        wait_until(lambda: len(service.calls.waiting()) == 5)
        for call in service.calls.waiting():
            service.calls.retry_now(call.call)
        assert found.wait(5.0)
    assert sorted(one.result for one in found.calls) == [f"done {number}" for number in range(5)]
