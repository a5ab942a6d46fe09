"""When a retry is right at all: refused results, calls that are not idempotent, and ``reconcile``."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp, OperationFailed
from recovery.policies.retry import Strategy
from recovery.service import Recovery
from recovery.settings import ABSENT
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of


def run(kind: str, service: Recovery, function: Any, *args: Any, **settings: Any) -> Any:
    """Call *function* once, recoverably, plain or as a coroutine function."""
    if kind == "plain":
        return service.recoverable("post", **settings)(function)(*args)

    async def coroutine(*given: Any) -> Any:
        return function(*given)

    return anyio.run(service.recoverable("post", **settings)(coroutine), *args, backend=kind)


KINDS = pytest.mark.parametrize("kind", ["plain", "asyncio", "trio"])


def quick(**settings: Any) -> Recovery:
    return Recovery(clock=VirtualClock(), rng=lambda: 0.0, **settings)


@KINDS
def test_a_refused_result_is_retried(kind: str) -> None:
    answers = ["", "", "page"]
    service = quick()
    failures = events_of(service, FailureClassified)
    assert run(kind, service, lambda: answers.pop(0), retry_on_result=lambda page: not page) == "page"
    assert [(event.rule, event.category) for event in failures] == [("retry_on_result", Category.TRANSIENT)] * 2  # type: ignore[attr-defined]


@KINDS
def test_after_the_last_attempt_the_caller_gets_the_refused_result(kind: str) -> None:
    service = quick()
    gave_up = events_of(service, GaveUp)
    assert run(kind, service, lambda: None, retry_on_result=lambda page: page is None, max_retries=2) is None
    assert len(gave_up) == 1


def test_a_refused_result_is_no_success() -> None:
    service = quick(breaker=None)
    run("plain", service, lambda: 0, retry_on_result=lambda n: n == 0)
    assert service.operation("post").successes == 0


def test_a_retry_on_result_that_raises_fails_the_attempt() -> None:
    with pytest.raises(ZeroDivisionError):
        run("plain", quick(), lambda: 0, retry_on_result=lambda n: 1 / n)


def test_retry_on_does_not_stop_the_retry_of_a_refused_result() -> None:
    answers = ["", "page"]
    settings = {"retry_on_result": lambda page: not page, "retry_on": OSError}
    assert run("plain", quick(), lambda: answers.pop(0), **settings) == "page"


def test_an_outer_call_gets_the_refused_result() -> None:
    service = quick()
    inner = service.recoverable("inner", retry_on_result=lambda page: not page, max_retries=1)(lambda: "")
    assert service.recoverable("outer")(inner)() == ""


@KINDS
@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionRefusedError(), 4),  # nothing was sent
        (ConnectionResetError(), 1),  # it may have been done
        (TimeoutError(), 1),
        (RuntimeError("anything"), 1),
    ],
)
def test_a_call_that_is_not_idempotent_is_retried_only_if_nothing_was_sent(
    kind: str, error: Exception, attempts: int
) -> None:
    script = Script(*[error] * 9)
    with pytest.raises(type(error)):
        run(kind, quick(), script, idempotent=False)
    assert script.calls == attempts


def test_the_note_says_why_a_call_was_not_retried() -> None:
    error = ConnectionResetError()
    with pytest.raises(ConnectionResetError):
        run("plain", quick(), Script(error), idempotent=False)
    assert error.__notes__ == ["recovery: post gave up after attempt 1: not idempotent, and may have had its effect"]


@KINDS
def test_an_absent_effect_is_done_again(kind: str) -> None:
    script = Script(ConnectionResetError())
    looked: list[str] = []

    def reconcile(order: str) -> Any:
        looked.append(order)
        return ABSENT

    def post(order: str) -> str:
        return script()

    assert run(kind, quick(), post, "order 7", reconcile=reconcile) == "done"
    assert (script.calls, looked) == (2, ["order 7"])


@KINDS
def test_a_reconciled_effect_is_the_result(kind: str) -> None:
    script = Script(TimeoutError())
    assert run(kind, quick(), script, reconcile=lambda: "receipt") == "receipt"
    assert script.calls == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_function_may_have_an_async_reconcile(backend: str) -> None:
    script = Script(TimeoutError())

    async def look() -> str:
        await anyio.lowlevel.checkpoint()
        return "receipt"

    fetch = quick().recoverable("post", reconcile=look)(script.as_async())
    assert (anyio.run(fetch, backend=backend), script.calls) == ("receipt", 1)


@KINDS
def test_a_reconcile_that_raises_fails_the_attempt(kind: str) -> None:
    script = Script(TimeoutError(), TimeoutError())
    answers = iter([ConnectionRefusedError(), ConnectionRefusedError(), "receipt"])

    def look() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert run(kind, quick(), script, reconcile=look) == "receipt"
    assert script.calls == 1


def test_a_first_attempt_is_not_reconciled() -> None:
    service = quick()
    looked: list[int] = []
    service.recoverable("post", reconcile=lambda: looked.append(1))(lambda: "done")()
    assert looked == []


def test_a_plain_function_cannot_have_an_async_reconcile() -> None:
    async def look() -> str:
        return ""

    with pytest.raises(TypeError, match=r"^reconcile must be a plain function"):
        quick().recoverable("post", reconcile=look)(lambda: "")


def test_reconcile_and_idempotent_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"reconcile and idempotent=True"):
        quick().recoverable("post", reconcile=print, idempotent=True)


@pytest.mark.parametrize("setting", ["retry_on_result", "reconcile", "stall_timeout"])
def test_a_setting_that_needs_a_function_is_refused_for_attempts_by_hand(setting: str) -> None:
    value: Any = 1.0 if setting == "stall_timeout" else bool
    with pytest.raises(ValueError, match=f"^{setting} needs a function"):
        quick().operation("post", **{setting: value})


def test_by_hand_a_call_that_may_have_had_its_effect_gives_up() -> None:
    attempt = quick().operation("post", idempotent=False).start()
    assert "not idempotent" in attempt.fail(TimeoutError()).reason  # type: ignore[union-attr]


class Crash(BaseException):
    """Stands for a process that dies: nothing of ours may run after it."""


def died_while_running(store: MemoryStore, **settings: Any) -> None:
    """A run that ends in the middle of the first attempt of a call."""
    service = Recovery(store=store, run="dead")
    with service:

        @service.recoverable("post", resumable=True, **settings)
        def post(order: str) -> str:
            assert service.journal is not None
            service.journal.seal()  # what comes after a crash is not written
            raise Crash

        with pytest.raises(Crash):
            post("order 7")


@pytest.mark.parametrize(("settings", "calls"), [({}, 1), ({"idempotent": False}, 0)])
def test_after_a_crash_in_an_attempt_only_idempotent_calls_are_resumed(settings: dict[str, Any], calls: int) -> None:
    store, done = MemoryStore(), []
    died_while_running(store, **settings)
    with Recovery(store=store) as service:
        service.recoverable("post", resumable=True, **settings)(done.append)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert len(done) == calls
    if not calls:
        assert "may have had its effect" in str(resumption.calls[0].error)


def test_after_a_crash_in_an_attempt_the_call_is_reconciled_first() -> None:
    store, done = MemoryStore(), []
    died_while_running(store, reconcile=lambda order: None)
    with Recovery(store=store) as service:
        service.recoverable("post", resumable=True, reconcile=lambda order: f"receipt for {order}")(done.append)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert (done, resumption.calls[0].result) == ([], "receipt for order 7")


def test_a_resumed_call_ends_with_the_refused_result() -> None:
    store = MemoryStore()
    died_while_running(store, retry_on_result=lambda result: result is None, initial_delay=0.0)
    with Recovery(store=store) as service:
        failed = events_of(service, OperationFailed)
        service.recoverable("post", resumable=True, retry_on_result=lambda result: result is None, initial_delay=0.0)(
            lambda order: None
        )
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert (resumption.calls[0].result, resumption.calls[0].error, len(failed)) == (None, None, 4)


def test_a_group_with_an_error_that_may_have_had_its_effect_gives_up() -> None:
    script = Script(*[ExceptionGroup("both", [TimeoutError(), ConnectionRefusedError()])] * 9)
    with pytest.raises(ExceptionGroup):
        run("plain", quick(), script, idempotent=False)
    assert script.calls == 1


def test_a_permanent_failure_keeps_its_reason() -> None:
    error = ValueError("wrong")
    with pytest.raises(ValueError, match="wrong"):
        run("plain", quick(), Script(error), idempotent=False)
    assert "permanent" in error.__notes__[0]


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (ValueError("wrong"), {}),
        (TimeoutError(), {"idempotent": False}),
        (ConnectionRefusedError(), {"per_category": {Category.UNREACHABLE: Strategy(max_retries=0)}}),
    ],
)
def test_a_hopeless_call_is_not_resumed(error: Exception, settings: dict[str, Any]) -> None:
    store = MemoryStore()
    with Recovery(store=store, run="dead") as service:
        service.bus.subscribe(FailureClassified, lambda _: service.journal.seal())  # type: ignore[union-attr]
        with pytest.raises(type(error)):
            service.recoverable("post", resumable=True, **settings)(Script(error))("order 7")
    assert [row.kind for row in store.rows][-1] == "FailureClassified"
    script = Script()
    with Recovery(store=store) as service:
        service.recoverable("post", resumable=True, **settings)(script)
        resumption = service.resume()
        assert resumption.wait(10.0)
    assert (len(resumption.calls), script.calls) == (1, 0)


def test_a_reconciled_result_may_be_refused() -> None:
    script = Script(TimeoutError(), "receipt")
    looked = iter(["pending", ABSENT])
    settings = {"reconcile": lambda: next(looked), "retry_on_result": lambda result: result == "pending"}
    assert run("plain", quick(), script, **settings) == "receipt"
    assert script.calls == 2


def test_after_a_second_crash_a_call_is_not_repeated_blindly() -> None:
    store, done = MemoryStore(), []
    settings: dict[str, Any] = {"resumable": True, "idempotent": False, "breaker": None, "initial_delay": 0.0}
    for run in range(3):
        with Recovery(store=store, run=f"run{run}") as service:
            journal = service.journal
            assert journal is not None

            @service.recoverable("pay", **settings)
            def pay(order: str) -> None:
                done.append(run)  # noqa: B023  # called within its run
                if run == 0:  # noqa: B023
                    raise ConnectionRefusedError
                journal.seal()  # noqa: B023  # in the middle of it, the process dies
                raise Crash

            if run == 0:
                service.bus.subscribe(FailureClassified, lambda _: journal.seal())  # noqa: B023
                with pytest.raises(ConnectionRefusedError):
                    pay("order 7")
            else:
                assert service.resume().wait(10.0)
    assert done.count(1) == 1
    assert done.count(2) == 0
