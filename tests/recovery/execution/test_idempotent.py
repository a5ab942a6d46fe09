"""When a retry is right at all: refused results, calls that are not idempotent, and ``reconcile``."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp
from recovery.policies.retry import Strategy
from recovery.service import Recovery
from recovery.settings import ABSENT
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import die_again, leave, leave_at, resume


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
    assert run(kind, service, lambda: answers.pop(0), retry_if=lambda page: not page) == "page"
    assert [(event.rule, event.category) for event in failures] == [("retry_if", Category.TRANSIENT)] * 2  # type: ignore[attr-defined]


@KINDS
def test_after_the_last_attempt_the_caller_gets_the_refused_result(kind: str) -> None:
    service = quick()
    gave_up = events_of(service, GaveUp)
    assert run(kind, service, lambda: None, retry_if=lambda page: page is None, max_retries=2) is None
    assert (len(gave_up), service.operation("post").successes) == (1, 0)


def test_retry_on_does_not_stop_the_retry_of_a_refused_result() -> None:
    answers = ["", "page"]
    settings = {"retry_if": lambda page: not page, "retry_on": OSError}
    assert run("plain", quick(), lambda: answers.pop(0), **settings) == "page"


def test_an_outer_call_gets_the_refused_result() -> None:
    service = quick()
    inner = service.recoverable("inner", retry_if=lambda page: not page, max_retries=1)(lambda: "")
    assert service.recoverable("outer")(inner)() == ""


def test_a_retry_if_that_raises_fails_the_attempt() -> None:
    with pytest.raises(ZeroDivisionError):
        run("plain", quick(), lambda: 0, retry_if=lambda n: 1 / n)


NOT_REPEATED = "not idempotent, and may have had its effect"


@KINDS
@pytest.mark.parametrize(
    ("error", "attempts", "why"),
    [
        (ConnectionRefusedError(), 4, ", out of retries (3)"),  # nothing was sent
        (ConnectionResetError(), 1, f", {NOT_REPEATED}"),
        (TimeoutError(), 1, f", {NOT_REPEATED}"),
        (RuntimeError("anything"), 1, f", {NOT_REPEATED}"),
        (ExceptionGroup("both", [TimeoutError(), ConnectionRefusedError()]), 1, f", {NOT_REPEATED}"),
        (ValueError("wrong"), 1, ""),  # its category says why
    ],
)
def test_a_call_that_is_not_idempotent_is_retried_only_if_nothing_was_sent(
    kind: str, error: Exception, attempts: int, why: str
) -> None:
    script = Script(*[error] * 9)
    with pytest.raises(type(error)):
        run(kind, quick(), script, idempotent=False)
    assert script.calls == attempts
    tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    assert error.__notes__[0].startswith(f"recovery: post gave up after {tried}{why}: ")


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


@pytest.mark.parametrize("is_async", [False, True])
@KINDS
def test_a_reconciled_effect_is_the_result(kind: str, is_async: bool) -> None:
    script = Script(TimeoutError())

    async def look() -> str:
        await anyio.lowlevel.checkpoint()
        return "receipt"

    if is_async and kind == "plain":
        with pytest.raises(TypeError, match=r"^reconcile must be a plain function"):
            run(kind, quick(), script, reconcile=look)
    else:
        assert run(kind, quick(), script, reconcile=look if is_async else lambda: "receipt") == "receipt"
        assert script.calls == 1


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


@pytest.mark.parametrize("setting", ["retry_if", "reconcile", "stall_timeout"])
def test_a_setting_that_needs_a_function_is_refused_for_attempts_by_hand(setting: str) -> None:
    value: Any = 1.0 if setting == "stall_timeout" else bool
    with pytest.raises(ValueError, match=f"^{setting} needs a function"):
        quick().operation("post", **{setting: value})


def test_by_hand_a_call_that_may_have_had_its_effect_gives_up() -> None:
    attempt = quick().operation("post", idempotent=False).start()
    assert "not idempotent" in attempt.fail(TimeoutError()).reason  # type: ignore[union-attr]


def test_reconcile_and_idempotent_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"reconcile and idempotent=True"):
        quick().recoverable("post", reconcile=print, idempotent=True)


@pytest.mark.parametrize(("settings", "calls"), [({}, 1), ({"idempotent": False}, 0)])
def test_after_a_crash_in_an_attempt_only_idempotent_calls_are_resumed(settings: dict[str, Any], calls: int) -> None:
    store, script = MemoryStore(), Script()
    leave(store, **settings)
    [resumed] = resume(store, script, **settings).calls
    assert script.calls == calls
    assert ("may have had its effect" in str(resumed.error)) is (calls == 0)


def test_after_a_crash_in_an_attempt_the_call_is_reconciled_first() -> None:
    store, script = MemoryStore(), Script()
    leave(store, "order 7", reconcile=lambda order: None)
    [resumed] = resume(store, script, reconcile=lambda order: f"receipt for {order}").calls
    assert (script.calls, resumed.result) == (0, "receipt for order 7")


def test_a_resumed_call_ends_with_the_refused_result() -> None:
    store, script = MemoryStore(), Script(*[None] * 9)
    settings: dict[str, Any] = {"retry_if": lambda result: result is None}
    leave(store, **settings)
    [resumed] = resume(store, script, **settings).calls
    assert (resumed.result, resumed.error, script.calls) == (None, None, 3)  # the death cost a retry


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (ValueError("wrong"), {}),
        (TimeoutError(), {"idempotent": False}),
        (ConnectionRefusedError(), {"per_category": {Category.UNREACHABLE: Strategy(max_retries=0)}}),
    ],
)
def test_a_hopeless_call_is_not_resumed(error: Exception, settings: dict[str, Any]) -> None:
    store, script = MemoryStore(), Script()
    leave_at(FailureClassified, store, error, **settings)
    assert (len(resume(store, script, **settings).calls), script.calls) == (1, 0)


def test_a_reconciled_result_may_be_refused() -> None:
    script = Script(TimeoutError(), "receipt")
    looked = iter(["pending", ABSENT])
    settings = {"reconcile": lambda: next(looked), "retry_if": lambda result: result == "pending"}
    assert run("plain", quick(), script, **settings) == "receipt"
    assert script.calls == 2


def test_after_a_second_crash_a_call_is_not_repeated_blindly() -> None:
    store, first, second = MemoryStore(), Script(), Script()
    leave_at(FailureClassified, store, ConnectionRefusedError(), idempotent=False)
    die_again(store, first, idempotent=False)
    resume(store, second, idempotent=False)
    assert (first.calls, second.calls) == (1, 0)
