"""Functions that give something to await: recognised before the call, or refused at the first awaitable result."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from events.errors import AwaitableResultError
from events.operation_events import GaveUp
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of

FAST: dict[str, Any] = {"initial_delay": 0.0}
SETTINGS = [{}, {"max_elapsed": 60.0}, {"key": lambda *_: "host"}, {"retry_if": lambda _: False}]


class Client:
    """An object whose call is async, as those of many clients are."""

    def __init__(self, *outcomes: Any) -> None:
        self.script = Script(*outcomes)

    async def __call__(self, *_: object) -> Any:
        return self.script()

    async def fetch(self, *_: object) -> Any:
        return self.script()

    def stream(self) -> Iterator[int]:
        yield 1

    async def astream(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function_of",
    [
        lambda client: client,
        lambda client: client.fetch,
        lambda client: functools.partial(client, "a"),
        lambda client: functools.partial(functools.partial(client.fetch, "a"), "b"),
        lambda client: functools.partial(Client.fetch, client),
    ],
    ids=["object", "method", "partial of object", "partial of partial", "partial of function"],
)
@pytest.mark.anyio
async def test_what_is_async_below_objects_and_partials_is_retried(function_of: Callable[[Client], Any]) -> None:
    client = Client(ConnectionError(), ConnectionError(), "page")
    assert await Recovery().recoverable("fetch", **FAST)(function_of(client))() == "page"
    assert client.script.calls == 3


@pytest.mark.parametrize("name", ["stream", "astream"])
def test_a_generator_below_a_partial_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="is a generator"):
        Recovery().recoverable(functools.partial(getattr(Client(), name)))


def hidden(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


def as_task(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda: asyncio.ensure_future(function())


class Lazy:
    """An awaitable that is neither a coroutine nor a task, as those of HTTP clients are."""

    def __await__(self) -> Any:
        yield


PLAIN_FUNCTIONS = [
    lambda client: lambda: client.fetch(),
    lambda client: hidden(client.fetch),
    lambda client: as_task(client.fetch),
    lambda client: lambda: asyncio.get_running_loop().create_future(),
    lambda _: Lazy,
]
IDS = ["lambda", "other decorator", "task", "future", "own awaitable"]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "runner", "keyed", "judged"])
@pytest.mark.parametrize("function_of", PLAIN_FUNCTIONS, ids=IDS)
def test_an_awaitable_result_of_a_plain_function_is_refused_by_name(function_of: Any, settings: Any) -> None:
    async def main() -> None:
        service, client = Recovery(), Client(*["page"] * 9)
        ended = events_of(service, GaveUp)
        made = function_of(client)
        call = service.recoverable("fetch", **FAST, **settings)(lambda: made())
        with pytest.raises(AwaitableResultError, match="Make the function an async def"):
            call()
        assert (len(ended), service.operation("fetch").successes) == (1, 0)
        assert client.script.calls == 0
        await asyncio.sleep(0)

    asyncio.run(main())


def test_an_awaitable_is_refused_after_retries_too_and_is_never_retried() -> None:
    service, script = Recovery(enable_classification=False), Script(ConnectionError(), *[Lazy()] * 9)
    with pytest.raises(AwaitableResultError):
        service.recoverable("fetch", **FAST)(lambda: script())()
    assert script.calls == 2


def test_results_that_only_look_like_awaitables_pass() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda: None

    assert isinstance(Recovery().recoverable(lambda: Anything())(), Anything)
