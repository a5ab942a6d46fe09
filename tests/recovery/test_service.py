from __future__ import annotations

import inspect
import logging
import threading
from typing import Any

import pytest

import recovery
from adapters.memory import MemoryStore
from events.errors import CallRejectedError
from events.operation_events import OperationFailed, OperationRecovered
from events.verdicts import GiveUp, Park, Retry
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of

FAST: dict[str, Any] = {"initial_delay": 0.0}


def test_by_hand_a_few_lines_are_a_complete_driver() -> None:
    service = Recovery()
    script = Script(ConnectionError(), ConnectionError())
    received = events_of(service, OperationRecovered)
    attempt = service.operation("render", **FAST).start()
    while True:
        try:
            script()
            break
        except ConnectionError as error:
            match attempt.fail(error):
                case Retry() | Park():
                    attempt = attempt.next()
                case GiveUp():
                    raise
    attempt.succeed()
    assert (attempt.number, len(received)) == (3, 1)


def test_by_hand_a_permanent_failure_is_given_up() -> None:
    verdict = Recovery().operation("render").start().fail(ValueError())
    assert verdict == GiveUp("permanent (ValueError)")


def test_by_hand_an_open_circuit_rejects_the_start() -> None:
    service = Recovery()
    operation = service.operation("render", max_retries=0, circuit_breaker_threshold=1)
    operation.start().fail(ConnectionError())
    with pytest.raises(CallRejectedError):
        operation.start()


def test_asking_for_an_operation_again_gives_the_same_one() -> None:
    service = Recovery()
    first = service.operation("render", max_retries=1)
    assert service.operation("render") is first
    assert service.operation("render", max_retries=1) is first


@pytest.mark.parametrize("settings", [{"attempt_timeout": 1.0}, {"key": str}])
def test_settings_that_need_a_wrapper_are_refused_by_hand(settings: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Recovery().operation("render", **settings)


def test_a_disabled_service_gives_up_at_once_by_hand() -> None:
    switched_off = GiveUp("recovery is switched off")
    assert Recovery(enabled=False).operation("render").start().fail(ConnectionError()) == switched_off


@pytest.mark.parametrize(("outcomes", "settings"), [([], {}), ([ConnectionError()], {"enable_logging": False})])
def test_a_success_and_an_operation_without_logging_are_not_logged(
    outcomes: list[Any], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "recovery"):
        Recovery(enable_logging=True).recoverable("fetch", **FAST, **settings)(Script(*outcomes))()
    assert caplog.records == []


def test_a_failure_is_logged_where_logging_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery()
    with caplog.at_level(logging.INFO, "recovery"):
        for name, settings in (("loud", {}), ("quiet", {"enable_logging": False})):
            script = Script(ConnectionError("reset"))
            service.recoverable(name, **FAST, **settings)(lambda script=script: script())()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["loud", "loud"]


def test_configure_changes_the_service_in_place() -> None:
    service = Recovery()
    script = Script(ConnectionError())
    call = service.recoverable("fetch", **FAST)(lambda: script())
    store = MemoryStore()
    service.configure(store=store)
    with service:
        call()
    assert [row.kind for row in store.rows] == ["FailureClassified", "RetryScheduled", "OperationRecovered"]


def test_a_second_store_is_refused() -> None:
    service = Recovery(store=MemoryStore())
    with pytest.raises(ValueError, match="already has a store"):
        service.configure(store=MemoryStore())


def test_persistence_without_a_store_is_refused_at_definition() -> None:
    with pytest.raises(ValueError, match="needs a service with a store"):
        recovery.recoverable(enable_persistence=True)(lambda: None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("store", "recovery.db"), ("policy", {"max_retries": 3}), ("breaker", "x"), ("clock", None), ("rng", 0.5)],
)
def test_what_a_service_cannot_be_made_of_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be"):
        Recovery(**{name: value})


def test_a_service_shows_what_it_has() -> None:
    service = Recovery(store=MemoryStore())
    service.operation("fetch")
    assert repr(service) == f"<Recovery: 1 operations, 0 calls waiting, {service.journal}>"
    assert repr(Recovery()) == "<Recovery: 0 operations, 0 calls waiting, no journal>"
    assert repr(Recovery(enabled=False)) == "<Recovery: switched off>"
    service.close()


@pytest.mark.parametrize("name", [name for name in vars(Recovery) if inspect.isfunction(vars(Recovery)[name])])
def test_the_annotations_of_every_method_can_be_evaluated(name: str) -> None:
    inspect.signature(getattr(Recovery, name), eval_str=True)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        recovery.recoverable("")(lambda: None)


@pytest.mark.anyio
async def test_an_error_in_the_body_leaves_the_service_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with Recovery(store=MemoryStore()):
            raise KeyError


@pytest.mark.anyio
async def test_closing_takes_no_worker_thread_of_the_loop() -> None:
    async with Recovery(store=MemoryStore()):
        pass
    assert [thread for thread in threading.enumerate() if thread.name.startswith("AnyIO")] == []


@pytest.mark.anyio
async def test_a_closed_service_is_not_opened_again() -> None:
    service = Recovery(store=MemoryStore())
    call = service.recoverable("fetch")(lambda: "page")
    with service:
        service.close()
    with pytest.raises(RuntimeError, match=r"this service was closed.*make a new service"), service:
        pass
    with pytest.raises(RuntimeError, match=r"this service was closed"):
        async with service:
            pass
    assert call() == "page"


def test_a_service_without_a_store_may_be_opened_again() -> None:
    service = Recovery()
    for _ in range(2):
        with service:
            assert service.recoverable(lambda: "page")() == "page"


def test_a_subscriber_that_knows_some_errors_alone_still_ends_a_call_after_many_others() -> None:
    class AnswerError(Exception):
        code = 404

    def give_up_404(failed: OperationFailed) -> GiveUp | None:
        return GiveUp("404") if failed.error.code == 404 else None  # type: ignore[attr-defined]  # most errors have none

    service = Recovery()
    service.bus.subscribe(OperationFailed, give_up_404)
    fetch = service.recoverable("fetch", initial_delay=0.0, max_retries=None)
    assert fetch(Script(*[ConnectionError] * 12))() == "done"
    script = Script(*[AnswerError] * 99)
    with pytest.raises(AnswerError):
        fetch(script)()
    assert script.calls == 1


@pytest.mark.anyio
async def test_a_service_that_is_entered_twice_is_closed_by_the_outer_one() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        async with service:
            async with service:
                pass
            assert service.operation("a", durability="journal").start().succeed() is None
        service.operation("b", durability="journal").start().succeed()
        assert service.journal is not None
        service.journal.receipt().wait()
    with pytest.raises(RuntimeError, match="closed"):
        service.__enter__()
