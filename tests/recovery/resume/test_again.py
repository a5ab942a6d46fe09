"""``service.again``: calls that have ended badly are run again, from the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events import CallRejectedError, Category, OperationRepeated, OperationStarted
from recovery import BreakerPolicy, Recovery, context
from recovery.journal.history import CallRecord, replay
from recovery.journal.store import Store
from recovery.resume.repetition import Repetition
from tests.recorded_events import events_of
from tests.until import wait_until

SETTINGS: dict[str, Any] = {"resumable": True, "max_retries": 0, "breaker": None}


@pytest.fixture(params=["memory", "sqlite"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the same store again and again, as one process after another does."""
    kept = MemoryStore()
    return lambda: kept if request.param == "memory" else SQLiteStore(tmp_path / "journal.db")


class Host:
    """A function "fetch" that fails while the host is down."""

    def __init__(self, service: Recovery, **settings: Any) -> None:
        self.service = service
        self.is_up = False
        self.seen: list[tuple[str, Any]] = []
        self.error: Exception = ConnectionError("down")
        self.fetch = service.recoverable("fetch", **{**SETTINGS, **settings})(self._fetch)

    def _fetch(self, url: str) -> str:
        self.seen.append((url, context.saved()))
        context.checkpoint(len(self.seen))
        if not self.is_up:
            raise self.error
        return f"page {url}"

    def fail(self, url: str) -> str:
        """Make a call that gives up, and return its id."""
        started = events_of(self.service, OperationStarted)
        with pytest.raises(type(self.error)):
            self.fetch(url)
        return started[-1].call


def service_on(store: Store) -> Recovery:
    return Recovery(store=store, enable_logging=False)


def settled(repetition: Repetition) -> Repetition:
    assert repetition.wait(10.0)
    return repetition


def found(service: Recovery, call: str) -> CallRecord:
    record = service.calls.find(call)
    assert record is not None
    return record


def test_a_call_that_gave_up_runs_again_as_a_new_call_with_a_link(any_store: Callable[[], Store]):
    with service_on(any_store()) as service:
        call = Host(service).fail("a")
    with service_on(any_store()) as service:
        host, repeated = Host(service), events_of(service, OperationRepeated)
        host.is_up = True
        [again] = settled(service.again(call)).calls
        assert (again.result, again.error, again.record.call) == ("page a", None, call)
        assert host.seen == [("a", 1)]
        new = found(service, again.call)
        assert (new.state, new.former, new.by) == ("succeeded", call, "")
        old = found(service, call)
        assert (old.state, old.by, old.former) == ("gave up", again.call, "")
        assert {(event.call, event.former, event.by) for event in repeated} == {
            (again.call, call, ""),
            (call, "", again.call),
        }
    with service_on(any_store()) as service:  # both links are in the journal
        assert (found(service, again.call).former, found(service, call).by) == (call, again.call)


def test_the_checkpoint_is_kept_unless_it_is_not_wanted(any_store: Callable[[], Store]):
    with service_on(any_store()) as service:
        host = Host(service)
        one, other = host.fail("a"), host.fail("b")
        settled(service.again(one))
        settled(service.again(other, keep_checkpoint=False))
        assert host.seen[2:] == [("a", 1), ("b", None)]


def test_a_call_that_is_run_again_is_resumed_after_a_restart_with_its_checkpoint(any_store: Callable[[], Store]):
    stop = threading.Event()
    with service_on(any_store()) as service:
        host = Host(service)
        call = host.fail("a")
        host.service.bus.subscribe(OperationStarted, lambda event: stop.wait(10.0) and None)
        service.again(call)
        wait_until(lambda: found(service, call).by)
        new = found(service, call).by
        assert found(service, new).saved == b"1"
    stop.set()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"resumable": False, "durability": "journal"}, "its arguments were not journalled"),
        ({"version": "2"}, "journalled under version '2', defined as version ''"),
    ],
)
def test_a_call_that_cannot_be_run_again_is_refused_with_the_reason(spoil: dict[str, Any], why: str):
    store = MemoryStore()
    with service_on(store) as service:
        call = Host(service, **spoil).fail("a")
    with service_on(store) as service:
        host = Host(service)
        repetition = settled(service.again(call))
        assert repetition.calls == []
        assert repetition.refused[call].startswith(why)
        assert host.seen == []


def test_a_call_of_an_operation_that_is_not_defined_is_refused():
    store = MemoryStore()
    with service_on(store) as service:
        call = Host(service).fail("a")
    with service_on(store) as service:
        assert settled(service.again(call)).refused == {call: "no operation of that name is defined"}
        assert "no such call is found" in settled(service.again("unknown")).refused["unknown"]


def test_a_success_is_not_run_again_and_neither_is_what_succeeded_since():
    with service_on(MemoryStore()) as service:
        host = Host(service)
        call = host.fail("a")
        host.is_up = True
        [again] = settled(service.again(call)).calls
        assert settled(service.again(again.call)).refused == {again.call: "it has succeeded"}
        assert settled(service.again(call)).refused == {call: f"call {again.call} runs it again, and has succeeded"}
        assert settled(service.again(state="gave up")).calls == []
        assert len(host.seen) == 2


def test_a_repetition_that_gave_up_is_run_again_from_its_own_checkpoint():
    with service_on(MemoryStore()) as service:
        host = Host(service)
        call = host.fail("a")
        [second] = settled(service.again(call)).calls
        assert isinstance(second.error, ConnectionError)
        [third] = settled(service.again(call)).calls
        assert host.seen[2] == ("a", 2)
        assert found(service, third.call).former == second.call


def test_a_call_that_waits_or_runs_is_refused():
    with service_on(MemoryStore()) as service:
        host = Host(service, max_retries=1, initial_delay=3600.0)
        thread = threading.Thread(target=lambda: host.fail("a"))
        thread.start()
        wait_until(service.calls.waiting)
        [waiting] = service.calls.waiting()
        assert settled(service.again(waiting.call)).refused == {waiting.call: "it is waiting"}
        service.calls.give_up(waiting.call)
        thread.join()


def test_an_equal_call_under_way_is_joined():
    with service_on(MemoryStore()) as service:
        host, may_end = Host(service), threading.Event()
        call = host.fail("a")
        host.is_up = True
        started = events_of(service, OperationStarted)
        service.bus.subscribe(OperationStarted, lambda event: may_end.wait(10.0) and None)
        thread = threading.Thread(target=host.fetch, args=("a",))
        thread.start()
        wait_until(lambda: started)
        repetition = service.again(call)
        wait_until(lambda: service.calls.joining() == 1)
        may_end.set()
        [again] = settled(repetition).calls
        thread.join()
        assert (again.result, len(host.seen)) == ("page a", 2)
        assert found(service, call).by == again.call != ""
        assert found(service, again.call).former == ""


def test_a_call_is_not_run_again_twice_at_a_time():
    with service_on(MemoryStore()) as service:
        host, may_end = Host(service, join=False), threading.Event()
        call = host.fail("a")
        host.is_up = True
        repeated = events_of(service, OperationRepeated)
        service.bus.subscribe(OperationRepeated, lambda event: may_end.wait(10.0) and None)
        first = service.again(call)
        wait_until(lambda: repeated)  # and the journal does not know yet
        assert settled(service.again(call)).refused == {call: "it is run again already"}
        may_end.set()
        assert len(settled(first).calls) == 1
        assert len(host.seen) == 2


def test_calls_that_ask_leave_the_threads_to_others():
    store = MemoryStore()
    with service_on(store) as service:
        host = Host(service)
        for number in range(6):
            host.fail(str(number))
    with service_on(store) as service:
        host = Host(service, then="ask")
        found = service.again(state="gave up")
        wait_until(lambda: len(service.calls.waiting()) == 6)
        for call in service.calls.waiting():
            assert service.calls.give_up(call.call)
        settled(found)
        assert len(host.seen) == 6


def test_a_call_whose_turn_comes_after_the_end_of_the_service_is_not_run():
    store, began, may_end = MemoryStore(), threading.Event(), threading.Event()
    with service_on(store) as service:
        host = Host(service)
        for number in range(6):
            host.fail(str(number))
    with service_on(store) as service:
        seen: list[str] = []

        def fetch(url: str) -> None:
            seen.append(url)
            began.set()
            assert may_end.wait(10.0)

        service.recoverable("fetch", **SETTINGS)(fetch)
        found = service.again(state="gave up")
        assert began.wait(5.0)
    may_end.set()
    settled(found)
    assert len(seen) <= 4
    left = [str(call.error) for call in found.calls if call.error is not None]
    assert len(left) == 6 - len(seen)
    assert all("the service has ended" in why for why in left)


def test_a_call_that_was_rejected_runs_for_the_first_time():
    with service_on(MemoryStore()) as service:
        host = Host(service, breaker=BreakerPolicy(failure_threshold=1))
        host.fail("a")
        started = events_of(service, OperationStarted)
        with pytest.raises(CallRejectedError):
            host.fetch("b")
        host.is_up = True
        service.circuits.force("fetch", "closed")
        [again] = settled(service.again(state="rejected")).calls
        assert (again.result, again.record.call) == ("page b", started[0].call)


def test_a_filter_chooses_by_state_category_operation_and_time(any_store: Callable[[], Store]):
    with service_on(any_store()) as service:
        host = Host(service)
        calls = {url: host.fail(url) for url in ("a", "b")}
        host.error = ValueError("wrong")
        calls["c"] = host.fail("c")
        host.error = KeyboardInterrupt()  # type: ignore[assignment]  # the call is cancelled
        calls["d"] = host.fail("d")
        host.error = ConnectionError("down")

        def chosen(**selection: Any) -> set[str]:
            repetition = settled(service.again(**selection))
            assert repetition.refused == {}
            urls = {url for url, call in calls.items() if call in [one.record.call for one in repetition.calls]}
            calls.update({url: found(service, calls[url]).by for url in urls})
            return urls

        assert chosen(state="cancelled") == {"d"}
        assert chosen(category="transient") == {"a", "b", "d"}
        assert chosen(category=[Category.PERMANENT], operation="fetch") == {"c"}
        assert chosen(operation="other") == set()
        assert chosen(state=("gave up", "cancelled"), since=60.0, limit=2) <= {"a", "b", "c", "d"}
        assert len(chosen(state="gave up")) == 4
        assert chosen(state="gave up", since=0.0) <= {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        ({}, TypeError),
        ({"call": "x", "state": "gave up"}, TypeError),
        ({"call": 7}, TypeError),
        ({"state": "succeeded"}, ValueError),
        ({"since": -1.0}, ValueError),
        ({"category": "unheard of"}, ValueError),
        ({"state": "gave up", "limit": 0}, ValueError),
    ],
)
def test_a_wrong_selection_is_refused(selection: dict[str, Any], error: type[Exception]):
    with service_on(MemoryStore()) as service, pytest.raises(error):
        service.again(**selection)


def test_without_a_store_there_is_nothing_to_run_again():
    with pytest.raises(ValueError, match="without a store"):
        Recovery().again("7f3a-2")


def test_several_calls_start_staggered():
    with Recovery(store=MemoryStore(), rng=lambda: 0.9, enable_logging=False) as service:
        host = Host(service)
        for url in "abcdef":
            host.fail(url)
        host.is_up = True
        times, asked = events_of(service, OperationStarted), service.bus.clock()
        settled(service.again(state="gave up"))
        assert max(event.at for event in times) - asked >= 0.09  # 0.9 of the spread of six calls


@pytest.mark.anyio
async def test_async_calls_run_again_as_tasks_of_the_service(anyio_backend_name: str):
    store, is_up = MemoryStore(), False

    async def fetch(url: str) -> str:
        await anyio.sleep(0)
        if not is_up:
            raise ConnectionError
        return url

    async with service_on(store) as service:
        started = events_of(service, OperationStarted)
        recoverable = service.recoverable("fetch", **SETTINGS)(fetch)
        for url in "ab":
            with pytest.raises(ConnectionError):
                await recoverable(url)
        is_up = True
        repetition = await service.again(state="gave up")
        assert sorted(call.result for call in repetition.calls) == ["a", "b"]
    with service_on(store) as service:
        service.recoverable("fetch", **SETTINGS)(fetch)
        is_up = False
        call = started[0].call
        assert "runs it again" in settled(service.again(call)).refused[call]


def test_an_async_call_needs_a_loop():
    store = MemoryStore()

    async def fetch() -> None:
        raise ConnectionError

    async def main() -> str:
        async with service_on(store) as service:
            started = events_of(service, OperationStarted)
            with pytest.raises(ConnectionError):
                await service.recoverable("fetch", **SETTINGS)(fetch)()
            call: str = started[0].call
            return call

    call = anyio.run(main)
    with service_on(store) as service:
        service.recoverable("fetch", **SETTINGS)(fetch)
        assert "async with" in settled(service.again(call)).refused[call]


def test_a_call_that_runs_again_can_be_resumed_from_its_first_event_on():
    with service_on(MemoryStore()) as service:
        host, repeated = Host(service, version="2"), events_of(service, OperationRepeated)
        settled(service.again(host.fail("a")))
    first = next(event for event in repeated if event.former)
    [record] = replay({}, "r", [first]).values()
    assert (record.state, record.arguments, record.version) == ("waiting", b'[["a"],{}]', "2")
