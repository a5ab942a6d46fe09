"""While recovery is switched off, a program runs as it does with it, for as long as nothing fails."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import pytest

import recovery
from adapters.memory import MemoryStore
from events import Event
from recovery import Recovery, Settings, context
from recovery.testing import Script

Decorate: TypeAlias = Callable[..., Any]
Body: TypeAlias = Callable[..., Any]


@contextmanager
def never_on(_: pytest.MonkeyPatch) -> Iterator[Decorate]:
    with Recovery(store=MemoryStore(), enabled=False) as service:
        yield lambda body, **settings: service.recoverable("copy", **settings)(body)


@contextmanager
def off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decorate]:
    monkeypatch.setenv("RECOVERY_DISABLED", "1")
    with Recovery(store=MemoryStore()) as service:
        yield lambda body, **settings: service.recoverable("copy", **settings)(body)


@contextmanager
def switched_off_later(_: pytest.MonkeyPatch) -> Iterator[Decorate]:
    numbers = itertools.count()
    with Recovery(store=MemoryStore()) as service:

        def decorate(body: Body, **settings: Any) -> Body:
            service.configure(enabled=True)
            function = service.recoverable(f"copy {next(numbers)}", **settings)(body)
            service.configure(enabled=False)
            return function

        yield decorate


WAYS = pytest.mark.parametrize("way", [never_on, off_by_the_environment, switched_off_later])
WITH_CONTEXT: list[Settings] = [
    {"resumable": True},
    {"durability": "journal"},
    {"durability": "strict"},
    {"progress_resets": 3},
    {"resumable": True, "idempotency_key": lambda source: f"copy-{source}"},
    {"claims": {"memory": 1}},
]


def all_answers() -> dict[str, Any]:
    before = context.saved(default=0)
    context.progress(7)
    context.checkpoint({"offset": 7})
    return {
        "before": before,
        "after": context.saved(),
        "attempt": context.attempt(),
        "cancelled": context.cancelled(),
        "is_running": context.is_running(),
        "has_key": bool(context.key()) and context.key() == context.key(),
    }


ANSWERS = {
    "before": 0, "after": {"offset": 7}, "attempt": 1, "cancelled": False, "is_running": True, "has_key": True,
}  # fmt: skip


@WAYS
@pytest.mark.parametrize("settings", WITH_CONTEXT)
def test_a_body_has_its_context_while_recovery_is_off(monkeypatch: pytest.MonkeyPatch, way: Any, settings: Any) -> None:
    with way(monkeypatch) as decorate:
        copy = decorate(lambda source: (source, all_answers()), **settings)
        assert copy("a.bin") == ("a.bin", ANSWERS)
        assert not context.is_running()


@WAYS
@pytest.mark.parametrize("settings", [*WITH_CONTEXT, {"stall_timeout": 60.0}])
@pytest.mark.anyio
async def test_an_async_body_has_its_context_while_recovery_is_off(
    monkeypatch: pytest.MonkeyPatch, way: Any, settings: Any
) -> None:
    async def copy(source: str) -> list[dict[str, Any]]:
        await anyio.sleep(0)
        return [all_answers(), await anyio.to_thread.run_sync(context.key) == context.key()]  # type: ignore[list-item]

    with way(monkeypatch) as decorate:
        assert await decorate(copy, **settings)("a.bin") == [ANSWERS, True]
        assert not context.is_running()


@WAYS
def test_the_key_of_a_call_is_its_idempotency_key_while_off(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    with way(monkeypatch) as decorate:
        copy = decorate(lambda source: context.key(), resumable=True, idempotency_key=lambda source: f"copy-{source}")
        assert copy("a") == "copy-a"
        copy = decorate(lambda source: context.key(), resumable=True)
        assert copy("a") != copy("a")


@WAYS
def test_wrong_arguments_are_refused_while_off(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    with way(monkeypatch) as decorate:
        for wrong in (lambda: context.checkpoint(object()), lambda: context.progress("half")):  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                decorate(wrong, resumable=True)()


@WAYS
def test_a_failure_passes_at_once_while_off(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    script = Script(ConnectionError("bare"))
    with way(monkeypatch) as decorate, pytest.raises(ConnectionError, match="bare") as caught:
        decorate(lambda: script(), resumable=True)()
    assert not hasattr(caught.value, "__notes__")
    assert not context.is_running()


@WAYS
def test_every_body_is_attempt_1_while_off(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    class Fetch:
        def __call__(self, _: str = "") -> int:
            return context.attempt()

        def page(self) -> int:
            return context.attempt()

    with way(monkeypatch) as decorate:
        for body in (lambda: context.attempt(), Fetch(), Fetch().page, functools.partial(Fetch(), "")):
            assert decorate(body)() == 1
        with pytest.raises(LookupError):
            context.attempt()
        with pytest.raises(LookupError, match="declare the operation"):  # as with recovery
            decorate(lambda: context.saved())()


def test_the_default_service_switched_off_has_attempts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOVERY_DISABLED", "1")

    def fetch() -> int:
        return context.attempt()

    assert recovery.recoverable(fetch) is fetch
    assert fetch() == 1


@pytest.mark.anyio
async def test_an_async_body_is_attempt_1_while_off() -> None:
    async def fetch() -> int:
        await anyio.sleep(0)
        return context.attempt()

    assert Recovery(enabled=False).recoverable(fetch) is fetch
    assert await fetch() == 1


def test_a_body_of_two_services_has_the_attempts_of_the_one_that_is_on() -> None:
    numbers: list[int] = []
    script = Script(ConnectionError)

    def body() -> object:
        numbers.append(context.attempt())
        return script()

    Recovery(enabled=False).recoverable(body)
    Recovery().recoverable("fetch", initial_delay=0.0)(body)()
    assert numbers == [1, 2]


@pytest.mark.parametrize("durability", ["journal", "off"])
def test_a_block_has_its_context_while_recovery_is_off(durability: Any) -> None:
    with Recovery(store=MemoryStore(), enabled=False) as service:
        for attempt in service.attempts("block", durability=durability):
            with attempt:
                assert context.attempt() == 1
                assert context.is_running() is (durability == "journal")
                if durability == "journal":
                    assert all_answers() == ANSWERS
        assert not context.is_running()


def test_a_checkpoint_of_a_block_is_not_published_while_off() -> None:
    seen: list[object] = []
    with Recovery(store=MemoryStore(), enabled=False) as service:
        service.bus.subscribe(Event, seen.append)
        for attempt in service.attempts("block", durability="journal"):
            with attempt:
                context.checkpoint(1)
    assert seen == []


def test_a_function_in_a_thread_is_as_off_as_any() -> None:
    found: list[int] = []
    service = Recovery(enabled=False)
    thread = threading.Thread(target=service.recoverable("fetch")(lambda: found.append(context.attempt())))
    thread.start()
    thread.join()
    assert found == [1]
