"""Copies of a recoverable function whose calls decide otherwise, and the switch of a service."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from events import AwaitableResultError, CallRejectedError, Event, OperationStarted
from recovery import Log, Recovery, RetryPolicy, context, outcome_of, recovery_of
from recovery.testing import Script
from tests.recovery.execution.runtime import Runtime

FAST: dict[str, Any] = {"initial_delay": 0.0, "jitter": "none"}


@pytest.fixture
def plain() -> Recovery:
    return Recovery()


def test_a_copy_has_its_own_retries(plain: Recovery) -> None:
    script = Script(*[ConnectionError] * 99)
    fetch = plain.recoverable("fetch", max_retries=1, **FAST)(script)
    for function, attempts in ((recovery_of(fetch).but(max_retries=4), 5), (fetch, 2)):
        before = script.calls
        with pytest.raises(ConnectionError) as caught:
            function()
        found = outcome_of(caught.value)
        assert found is not None
        assert (script.calls - before, found.attempts, found.operation) == (attempts, attempts, "fetch")


def test_an_async_copy_has_its_own_retries(plain: Recovery) -> None:
    script = Script(*[ConnectionError] * 4)
    fetch = plain.recoverable("fetch", max_retries=1, **FAST)(script.as_async())
    assert anyio.run(recovery_of(fetch).but(policy=RetryPolicy(max_retries=4, backoff=[0.0]))) == "done"


def test_copies_share_the_circuit(plain: Recovery) -> None:
    script = Script(*[ConnectionError] * 99)
    fetch = plain.recoverable("fetch", max_retries=0)(script)
    copy = recovery_of(fetch).but(fallback="cached")
    assert [copy() for _ in range(5)] == ["cached"] * 5
    with pytest.raises(CallRejectedError):
        fetch()
    assert recovery_of(copy).operation is recovery_of(fetch).operation


def test_a_copy_of_a_copy_keeps_what_it_does_not_change(plain: Recovery) -> None:
    script = Script(*[KeyError] * 3)
    fetch = plain.recoverable("fetch", **FAST)(script)
    copy = recovery_of(recovery_of(fetch).but(retry_on=KeyError)).but(max_retries=2, fallback=None)
    assert copy() is None
    assert script.calls == 3


def test_the_settings_of_a_call_end_with_it(plain: Recovery) -> None:
    copy = recovery_of(plain.recoverable("fetch")(Script(ValueError("plain")))).but(max_retries=1)
    with pytest.raises(ValueError, match="plain"):
        copy()
    gone = weakref.ref(copy)
    del copy
    gc.collect()
    assert gone() is None


def test_a_copy_of_a_resumable_function_joins_and_is_journalled() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        script = Script(*[ConnectionError] * 3)
        copy = service.recoverable("copy", resumable=True, max_retries=0, **FAST)(lambda name: script(name))
        assert recovery_of(copy).but(max_retries=5)("a") == "done"
    assert script.calls == 4


def test_a_method_has_a_copy_that_takes_its_object(plain: Recovery) -> None:
    class Client:
        tries = 0

        @plain.recoverable("get", max_retries=0, **FAST)
        def get(self, path: str) -> str:
            self.tries += 1
            if self.tries < 3:
                raise ConnectionError
            return path

    client = Client()
    assert recovery_of(Client.get).but(max_retries=2)(client, "/") == "/"


@pytest.mark.parametrize("setting", ["key", "breaker", "durability", "version", "resumable", "budget", "when_open"])
def test_what_all_calls_share_cannot_be_changed(plain: Recovery, setting: str) -> None:
    fetch = plain.recoverable("fetch")(Script())
    settings: Any = {setting: None}
    with pytest.raises(TypeError, match=rf"but\(\) cannot change {setting}.*second name"):
        recovery_of(fetch).but(**settings)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"retries": 3}, TypeError, "max_retries"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"policy": 3}, TypeError, "policy must be a RetryPolicy"),
        ({"policy": RetryPolicy(), "max_retries": 3}, ValueError, "contradict"),
        ({"attempt_timeout": 3.0}, ValueError, "attempt_timeout"),
        ({"retry_exhausted": 3}, TypeError, "retry_exhausted"),
    ],
)
def test_a_wrong_setting_is_refused_as_at_definition(
    plain: Recovery, settings: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        recovery_of(plain.recoverable("fetch")(Script())).but(**settings)


def test_a_function_without_recovery_has_no_copy() -> None:
    with pytest.raises(TypeError, match="is not recoverable; decorate it"):
        recovery_of(len)


def test_a_service_switched_off_lets_failures_pass(runtime: Runtime, service: Recovery) -> None:
    error = ConnectionError("bare")
    script = Script(error, ConnectionError(), "page")
    fetch = runtime.decorate(service, script, "fetch", **FAST)
    seen: list[Event] = []
    service.bus.subscribe(Event, seen.append)
    service.configure(enabled=False)
    with pytest.raises(ConnectionError) as caught:
        fetch()
    assert caught.value is error
    assert (outcome_of(error), seen, getattr(error, "__notes__", [])) == (None, [], [])
    service.configure(enabled=True)
    assert fetch() == "page"


@pytest.mark.parametrize("settings", [{"key": lambda: "k"}, {"resumable": True}, {"retry_if": bool}])
def test_every_kind_of_function_can_be_switched_off(settings: Any) -> None:
    with Recovery(store=MemoryStore()) as service:
        script = Script(ConnectionError, "page")
        fetch = service.recoverable("fetch", **FAST, **settings)(lambda: script())
        service.bus.subscribe(OperationStarted, lambda _: None)
        service.configure(enabled=False)
        with pytest.raises(ConnectionError):
            fetch()
        assert fetch() == "page"


def test_an_unwanted_result_is_returned_while_switched_off(plain: Recovery) -> None:
    fetch = plain.recoverable("fetch", retry_if=lambda page: page == "busy")(Script("busy"))
    plain.configure(enabled=False)
    assert fetch() == "busy"


def test_every_body_knows_the_number_of_its_attempt(runtime: Runtime, service: Recovery) -> None:
    numbers: list[int] = []
    script = Script(ConnectionError, ConnectionError)

    def body() -> Any:
        numbers.append(context.attempt())
        return script()

    async def async_body() -> Any:
        await anyio.sleep(0)
        return body()

    function: Any = body if runtime.name == "plain" else async_body
    decorated = service.recoverable("fetch", **FAST)(function)
    assert (decorated() if runtime.name == "plain" else runtime.clock.run(decorated, backend=runtime.name)) == "done"
    assert numbers == [1, 2, 3]


def test_an_inner_call_has_the_number_of_its_own_attempt(plain: Recovery) -> None:
    numbers: list[tuple[str, int]] = []
    inner_script, outer_script = Script(ConnectionError), Script(ConnectionError)

    @plain.recoverable("inner", **FAST)
    def inner() -> object:
        numbers.append(("inner", context.attempt()))
        return inner_script()

    @plain.recoverable("outer", **FAST)
    def outer() -> object:
        inner()
        numbers.append(("outer", context.attempt()))
        return outer_script()

    outer()
    assert numbers == [("inner", 1), ("inner", 2), ("outer", 1), ("inner", 1), ("outer", 2)]


def test_a_log_with_tracebacks_has_them_redacted(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery(enable_logging=False)
    logger = logging.getLogger("test.tracebacks")
    service.bus.subscribe(Event, Log(logger=logger, exc_info=True))

    def fetch() -> None:
        raise ConnectionError("https://me:hunter2@host/")

    with caplog.at_level(logging.INFO, "test.tracebacks"), pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=1, **FAST)(fetch)()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.text.count("in fetch") == 2
    assert "hunter2" not in caplog.text


def test_a_log_without_tracebacks_has_none(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery(enable_logging=True)
    with pytest.raises(ValueError, match="plain"):
        service.recoverable("fetch")(Script(ValueError("plain")))()
    assert "Traceback" not in caplog.text


def test_switched_off_no_hook_and_no_fallback_acts(plain: Recovery) -> None:
    def raises(_: object) -> bool:
        raise ZeroDivisionError

    inner = Recovery().recoverable("inner", max_retries=0)(Script(ConnectionError, "page"))
    fetch = plain.recoverable("fetch", retry_if=raises, fallback="cached")(lambda: inner())
    plain.configure(enabled=False)
    with pytest.raises(ConnectionError):
        fetch()
    assert fetch() == "page"


@pytest.mark.parametrize("hook", ["retry_if", "before_retry", "fallback"])
def test_a_plain_hook_that_answers_with_a_coroutine_is_refused(plain: Recovery, hook: str) -> None:
    async def answer() -> bool:
        return True

    settings: Any = {hook: lambda _: answer()}
    outcomes = (
        [ConnectionError] if hook == "before_retry" else [PermissionError("denied")] if hook == "fallback" else []
    )
    with pytest.raises(AwaitableResultError, match=f"{hook} returned a coroutine"):
        plain.recoverable("fetch", **FAST, **settings)(Script(*outcomes))()


def test_a_log_keeps_no_exception_that_it_does_not_write(plain: Recovery) -> None:
    class BigError(Exception):
        pass

    plain.bus.subscribe(Event, Log(wanted=lambda _: False, exc_info=True))
    plain.bus.subscribe(Event, Log(logger=logging.getLogger("test.silent"), exc_info=True))
    logging.getLogger("test.silent").setLevel(logging.CRITICAL)
    gone = None
    try:
        plain.recoverable("fetch", max_retries=0)(Script(BigError()))()
    except BigError as error:
        gone = weakref.ref(error)
    gc.collect()
    assert gone is not None
    assert gone() is None
