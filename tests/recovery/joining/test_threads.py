"""Start or join in threads: one body, one result, and what becomes of those who wait."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from adapters.memory import MemoryStore
from events.errors import CallRejectedError, RecoveryError, StaysPendingError
from events.operation_events import GaveUp, OperationCancelled, OperationInterrupted, OperationStarted
from recovery import context
from recovery.service import Recovery
from recovery.settings import Settings
from tests.recorded_events import events_of
from tests.recovery.joining.callers import Body, in_thread, joined


@pytest.fixture
def service() -> Any:
    with Recovery(store=MemoryStore()) as one:
        yield one


def test_d16_an_equal_call_joins_the_one_that_runs_and_gets_its_result(service: Recovery) -> None:
    body = Body({"a": 1})
    work = service.recoverable("work", resumable=True)(lambda number, upto=9: body(number, upto))
    first = in_thread(work, 1)
    body.begun.acquire()
    others = [in_thread(work, 1, 9), in_thread(lambda: work(number=1))]
    joined(service, 2)
    body.go_on.set()
    results = [one.result(10.0) for one in (first, *others)]
    assert (body.runs, body.side_by_side) == ([(1, 9)], 1)
    assert results[0] is results[1] is results[2]  # shared, not copied


@pytest.mark.parametrize("other", [2, 1.0, True, "1"])
def test_other_arguments_are_another_call(other: object, service: Recovery) -> None:
    body = Body()
    work = service.recoverable("work", resumable=True)(lambda number: body(number))
    first, second = in_thread(work, 1), in_thread(work, other)
    assert body.begun.acquire(timeout=10.0)
    assert body.begun.acquire(timeout=10.0)
    body.go_on.set()
    assert {first.result(10.0), second.result(10.0)} <= {1, 2}
    assert body.side_by_side == 2


def test_with_an_idempotency_key_the_key_alone_decides(service: Recovery, caplog: pytest.LogCaptureFixture) -> None:
    body = Body("paid")
    pay = service.recoverable("pay", idempotency_key=lambda order, _note: order)(lambda order, note: body(order, note))
    first = in_thread(pay, "o-1", "quick")
    body.begun.acquire()
    others = [in_thread(pay, "o-1", "slow") for _ in range(2)]
    joined(service, 2)
    body.go_on.set()
    assert [one.result(10.0) for one in (first, *others)] == ["paid"] * 3
    assert body.runs == [("o-1", "quick")]
    assert caplog.text.count("the idempotency key of a call with other arguments") == 1


def test_a_conflict_is_rejected_with_both_wishes_and_leaves_the_first_alone(service: Recovery) -> None:
    body = Body("made")
    settings: Settings = {"idempotency_key": lambda path, _: path, "on_conflict": "reject"}
    make = service.recoverable("make", **settings)(lambda path, size: body(path, size))
    first = in_thread(make, "model.bin", 1)
    body.begun.acquire()
    equal = in_thread(make, "model.bin", 1)
    joined(service, 1)
    with pytest.raises(CallRejectedError, match=r"has size=1, this one size=2; wait for .*'model.bin'\)"):
        make("model.bin", 2)
    assert service.calls.joining() == 1  # the rejected call does not wait
    body.go_on.set()
    assert first.result(10.0) == equal.result(10.0) == "made"
    assert len(body.runs) == 1


def test_join_false_runs_equal_calls_side_by_side(service: Recovery) -> None:
    body = Body()
    work = service.recoverable("work", resumable=True, join=False)(lambda number: body(number))
    calls = [in_thread(work, 1), in_thread(work, 1)]
    assert body.begun.acquire(timeout=10.0)
    assert body.begun.acquire(timeout=10.0)
    body.go_on.set()
    assert sorted(call.result(10.0) for call in calls) == [2, 2]


def test_a_call_that_is_over_is_never_joined(service: Recovery) -> None:
    body = Body()
    body.go_on.set()
    work = service.recoverable("work", resumable=True)(lambda: body())
    assert (work(), work()) == (1, 2)


def test_arguments_that_cannot_be_encoded_run_by_themselves_and_that_is_said_once(
    service: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body()
    body.go_on.set()
    work = service.recoverable("work", resumable=True)(lambda what: body(what))
    for _ in range(2):
        work(threading.Lock())
    assert (len(body.runs), caplog.text.count("no equal call can join it")) == (2, 1)


def test_an_error_of_the_key_function_reaches_the_caller_before_anything_is_journalled(service: Recovery) -> None:
    started = events_of(service, OperationStarted)
    work = service.recoverable("work", idempotency_key=lambda order: order["id"])(lambda order: None)
    with pytest.raises(KeyError):
        work({})
    assert started == []


def test_a_key_function_without_a_key_is_told_before_anything_is_journalled(service: Recovery) -> None:
    started = events_of(service, OperationStarted)
    work = service.recoverable("work", idempotency_key=lambda _: None)(lambda order: None)
    with pytest.raises(TypeError, match="work was not started: its idempotency_key returned None; return a text"):
        work("o-1")
    assert started == []


def test_arguments_that_do_not_fit_the_function_name_it(service: Recovery) -> None:
    def work(one: int) -> None: ...

    recoverable: Any = service.recoverable("work", resumable=True)(work)
    with pytest.raises(TypeError, match=r"work\(\) too many positional arguments"):
        recoverable(1, 2)


# Errors


def test_every_caller_gets_the_same_error_with_the_traceback_of_the_body(service: Recovery) -> None:
    error = ValueError("wrong")
    body = Body(error)
    gave_up = events_of(service, GaveUp)
    work = service.recoverable("work", resumable=True)(lambda: body())
    first = in_thread(work)
    body.begun.acquire()
    others = [in_thread(work) for _ in range(2)]
    joined(service, 2)
    body.go_on.set()
    assert all(one.exception(10.0) is error for one in (first, *others))
    assert (len(body.runs), len(gave_up)) == (1, 1)
    assert len([note for note in error.__notes__ if "gave up after 1 attempt" in note]) == 1
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "__call__"  # of the body, once
    assert names.count("__call__") == 1


def test_an_outer_call_of_each_caller_does_not_retry_what_the_joined_call_has_exhausted(service: Recovery) -> None:
    body = Body(*[ConnectionError("reset")] * 4)
    inner = service.recoverable("work", resumable=True, max_retries=1, initial_delay=0.0)(lambda: body())
    tries: list[str] = []

    def outer(name: str) -> None:
        tries.append(name)
        inner()

    outer = service.recoverable("work-outer", max_retries=3, initial_delay=0.0)(outer)
    first = in_thread(outer, "first")
    body.begun.acquire()
    other = in_thread(outer, "other")
    joined(service, 1)
    body.go_on.set()
    assert isinstance(first.exception(10.0), ConnectionError)
    assert isinstance(other.exception(10.0), ConnectionError)
    assert (sorted(tries), len(body.runs)) == (["first", "other"], 2)


# Cancellation


class Interrupt(BaseException):
    """Ends the caller that runs the body, as Ctrl-C does."""


def test_the_longest_waiting_caller_goes_on_if_the_one_that_runs_is_interrupted(service: Recovery) -> None:
    seen: list[tuple[int, Any, int]] = []
    begun, go_on, stop = threading.Semaphore(0), threading.Event(), threading.Event()

    def work() -> str:
        seen.append((context.attempt(), context.saved(), threading.get_ident()))
        begun.release()
        if len(seen) == 1:
            context.checkpoint(21)
            assert stop.wait(10.0)
            raise Interrupt
        assert go_on.wait(10.0)
        return "done"

    events = events_of(service, OperationInterrupted, OperationCancelled)
    recoverable = service.recoverable("work", resumable=True, max_retries=0)(work)
    first = in_thread(recoverable)
    begun.acquire()
    second = in_thread(recoverable)
    joined(service, 1)
    third = in_thread(recoverable)
    joined(service, 2)
    stop.set()
    assert isinstance(first.exception(10.0), Interrupt)
    begun.acquire()
    go_on.set()
    assert (second.result(10.0), third.result(10.0)) == ("done", "done")
    assert [one[:2] for one in seen] == [(1, None), (1, 21)]  # from the checkpoint, and no retry is charged
    assert seen[0][2] != seen[1][2]
    assert [type(event) for event in events] == [OperationInterrupted]


def test_a_call_is_cancelled_if_no_other_caller_waits(service: Recovery) -> None:
    events = events_of(service, OperationInterrupted, OperationCancelled)
    outcomes = [Interrupt(), "done"]

    def work() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    recoverable = service.recoverable("work", resumable=True)(work)
    with pytest.raises(Interrupt):
        recoverable()
    assert recoverable() == "done"
    assert [type(event) for event in events] == [OperationCancelled]


def test_an_attempt_that_may_have_had_its_effect_is_not_handed_over(service: Recovery) -> None:
    body = Body(Interrupt())
    pay = service.recoverable("pay", resumable=True, idempotent=False)(lambda: body())
    first = in_thread(pay)
    body.begun.acquire()
    second = in_thread(pay)
    joined(service, 1)
    body.go_on.set()
    assert isinstance(first.exception(10.0), Interrupt)
    with pytest.raises(RecoveryError, match="not idempotent"):
        second.result(10.0)
    assert len(body.runs) == 1


def test_closing_the_service_tells_those_who_wait_that_the_call_stays_pending() -> None:
    body = Body()
    store = MemoryStore()
    with Recovery(store=store) as service:
        work = service.recoverable("work", resumable=True)(lambda: body())
        first = in_thread(work)
        body.begun.acquire()
        second = in_thread(work)
        joined(service, 1)
    with pytest.raises(StaysPendingError, match=r"work \(call .*\) stays pending: the service has been closed"):
        second.result(10.0)
    with Recovery(store=store) as service:
        again = service.recoverable("work", resumable=True)(lambda: "again")
        assert [call.result for call in [*_wait(service.resume()).calls]] == ["again"]
        assert again() == "again"
    body.go_on.set()
    assert first.result(10.0) == 1


def _wait(resumption: Any) -> Any:
    assert resumption.wait(10.0)
    return resumption


# No deadlock


def test_an_equal_call_in_the_body_of_a_call_runs_as_a_nested_one(service: Recovery) -> None:
    depth: list[int] = []

    @service.recoverable("work", resumable=True)
    def work(number: int) -> int:
        depth.append(number)
        return work(number) + 1 if len(depth) < 3 else 0

    assert (work(7), depth) == (2, [7, 7, 7])


def test_a_join_that_would_close_a_circle_names_it(service: Recovery) -> None:
    inside = threading.Barrier(2)

    def body(name: str) -> object:
        inside.wait(10.0)
        return b() if name == "a" else a()

    a = service.recoverable("a", resumable=True, max_retries=0)(lambda: body("a"))
    b = service.recoverable("b", resumable=True, max_retries=0)(lambda: body("b"))
    errors = [call.exception(10.0) for call in (in_thread(a), in_thread(b))]
    assert all(isinstance(error, CallRejectedError) for error in errors)
    assert errors[0] is errors[1]  # the one that joined gets what the other raised
    assert "would close a circle of calls that wait" in str(errors[0])


def test_plain_and_async_functions_cannot_share_the_name_of_a_joinable_operation(service: Recovery) -> None:
    async def later() -> None: ...

    settings: Any = {"idempotency_key": str, "max_retries": 1}
    service.recoverable("work", **settings)(lambda: None)
    with pytest.raises(ValueError, match="has plain and async functions"):
        service.recoverable("work", **settings)(later)


def test_join_needs_something_that_tells_equal_calls_from_others(service: Recovery) -> None:
    with pytest.raises(ValueError, match="join=True needs resumable=True or an idempotency_key"):
        service.recoverable("work", join=True)
