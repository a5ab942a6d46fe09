"""A recoverable function takes the calls that the bare function takes, and answers them likewise."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.event import Event
from events.operation_events import OperationFailed
from recovery import context
from recovery.call_stack import ROLES
from recovery.outcome import outcome_of
from recovery.service import Recovery
from tests.recovery.execution.runtime import Runtime
from tests.slow import few

FAST: dict[str, Any] = {"initial_delay": 0.0, "max_retries": 2}

NAMES = (
    "a",
    "b",
    "self",
    "_",
    "match",
    "é",
    "function",
    "function_",
    "operation",
    "error",
    "result",
    "OMITTED",
    "args",
)
"""Names of parameters; some are those that a generated wrapper has for itself."""


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """The parameters of a function, as they stand in a definition."""
    names = draw(st.permutations(NAMES))
    positional, named, keywords = (draw(st.integers(0, most)) for most in (2, 3, 3))
    first_default = draw(st.integers(0, positional + named))
    spelt = [f"{name}={at}" if at >= first_default else name for at, name in enumerate(names[: positional + named])]
    if positional:
        spelt.insert(positional, "/")
    names = names[positional + named :]
    rest, more, *names = names
    star = f"*{rest}" if draw(st.integers(0, 3)) == 0 else "*" if keywords else ""
    spelt += [star] if star else []
    spelt += [f"{name}=9" if draw(st.booleans()) else name for name in names[:keywords]]
    spelt += [f"**{more}"] if draw(st.integers(0, 3)) == 0 else []
    return ", ".join(spelt)


calls = st.tuples(
    st.lists(st.integers(10, 19), max_size=5).map(tuple), st.dictionaries(st.sampled_from(NAMES), st.integers(20, 29))
)


def defined(parameters: str, *, is_async: bool = False, failures: int = 0) -> Any:
    """A function with these *parameters* that returns what it was given, after so many *failures*."""
    made: dict[str, Any] = {}
    body = "    given = dict(locals()) | {'': None}\n    fail()\n    return given\n"
    exec(f"{'async ' if is_async else ''}def function({parameters}):\n{body}", made)
    left = [ConnectionError() for _ in range(failures)]

    def fail() -> None:
        if left:
            raise left.pop()

    made["fail"] = fail
    return made["function"]


def answer(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a call returns, or the text of the TypeError that it raises."""
    try:
        result = function(*args, **kwargs)
        return asyncio.run(result) if inspect.isawaitable(result) else result
    except TypeError as error:
        return str(error)


@settings(max_examples=150)
@given(signatures(), st.lists(calls, min_size=1, max_size=6), st.booleans())
@example("a=0, b=1, *, self=2", [((), {"b": 20}), ((10,), {"self": 20}), ((), {"b": 20, "self": 21})], False)
def test_a_wrapped_function_answers_any_call_as_the_bare_one(parameters: str, made: Any, is_async: bool) -> None:
    bare = defined(parameters, is_async=is_async)
    wrapped = Recovery().recoverable(**FAST)(bare)
    for args, kwargs in [*made, ((), {}), ((1, 2), {})]:
        assert answer(wrapped, args, kwargs) == answer(bare, args, kwargs)
    bare.__defaults__ = tuple(f"new {one}" for one in bare.__defaults__ or ()) or None
    bare.__kwdefaults__ = dict.fromkeys(bare.__kwdefaults__ or (), "new") or None
    for args, kwargs in made:
        assert answer(wrapped, args, kwargs) == answer(bare, args, kwargs)


@settings(max_examples=200)
@given(signatures(), calls, st.booleans())
@pytest.mark.slow
def test_a_retry_gets_what_the_call_gave(parameters: str, call: Any, is_async: bool) -> None:
    wrapped = Recovery().recoverable(**FAST)(defined(parameters, is_async=is_async, failures=2))
    observed = Recovery()
    observed.bus.subscribe(Event, lambda _: None)
    rewrapped = observed.recoverable(**FAST)(defined(parameters, is_async=is_async, failures=1))
    expected = answer(defined(parameters, is_async=is_async), *call)
    assert isinstance(expected, str) or answer(rewrapped, *call) == expected
    assert answer(wrapped, *call) == expected


def fitted(a: int, /, b: int = 0, *, c: int) -> None: ...


def many(a: int, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> None: ...


@pytest.mark.parametrize("settings", [{}, {"fallback": None}], ids=["", "fallback"])
@pytest.mark.parametrize("function", [fitted, many, defined("a", is_async=True), defined("a, *args", is_async=True)])
def test_a_call_that_does_not_fit_is_no_failure(function: Any, settings: Any) -> None:
    service = Recovery()
    seen: list[Event] = []
    service.bus.subscribe(Event if function is fitted else OperationFailed, seen.append)
    wrapped = service.recoverable(**FAST, **settings)(function)
    for call in (((), {}), ((1, 2, 3, 4, 5, 6), {"x": 1}), ((), {"a": 1, "x": 2})):
        with pytest.raises(TypeError) as misfit:
            asyncio.run(wrapped(*call[0], **call[1]))
        assert (outcome_of(misfit.value), getattr(misfit.value, "__notes__", [])) == (None, [])
        with pytest.raises(TypeError) as bare:
            asyncio.run(function(*call[0], **call[1]))
        assert str(misfit.value) == str(bare.value)
    assert seen == []


@pytest.mark.parametrize("function", [lambda: int(None), lambda a=0, b=0, c=0, d=0: int(None)])
def test_a_type_error_of_the_body_is_a_failure(function: Any) -> None:
    with pytest.raises(TypeError) as raised:
        Recovery().recoverable(**FAST)(function)()
    assert outcome_of(raised.value) is not None


@pytest.mark.slow
def test_functions_with_parameters_of_the_same_names_share_their_code() -> None:
    service = Recovery()

    def make(number: int) -> Callable[[int], int]:
        return service.recoverable("same")(lambda value: value + number)

    first, before = make(0), len(ROLES)
    wrapped = [make(number) for number in range(1000)]
    assert [one(1) for one in wrapped] == [*range(1, 1001)]
    assert ({one.__code__ for one in wrapped}, len(ROLES)) == ({first.__code__}, before)  # type: ignore[attr-defined]


def test_one_wrapper_is_made_for_each_kind_of_default() -> None:
    service = Recovery()
    with_default, without = service.recoverable(lambda value=3: value), service.recoverable(lambda value: value)
    assert with_default() == 3
    with pytest.raises(TypeError, match="missing 1 required"):
        without()  # type: ignore[call-arg]


@pytest.mark.parametrize("name", [".0", "class", "a b", "ﬁ"])
def test_parameters_that_cannot_be_spelt_have_the_general_wrapper(name: str) -> None:
    code = (lambda value: value).__code__
    function = FunctionType(code.replace(co_varnames=(name,)), {}, "odd")
    wrapped = Recovery().recoverable(**FAST)(function)
    assert (wrapped(3), wrapped(**{name: 4})) == (3, 4)
    with pytest.raises(TypeError, match="missing 1 required"):
        wrapped()


def test_three_hundred_parameters_are_passed_on() -> None:
    names = [f"p{number}" for number in range(300)]
    wrapped = Recovery().recoverable(**FAST)(defined(", ".join(names), failures=1))
    assert wrapped(*range(300)) == dict(zip([*names, ""], [*range(300), None], strict=True))


def test_a_replaced_code_is_called() -> None:
    def function(value: int) -> int:
        return value

    wrapped = Recovery().recoverable(**FAST)(function)
    assert wrapped(3) == 3
    function.__code__ = (lambda value: value * 2).__code__
    assert wrapped(3) == 6
    function.__code__ = (lambda: 0).__code__
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        wrapped(3)


def test_a_default_that_is_taken_away_is_missing() -> None:
    def function(value: int = 3) -> int:
        return value

    wrapped = Recovery().recoverable(**FAST)(function)
    function.__defaults__ = None
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        wrapped()


def test_a_traceback_shows_the_line_of_the_wrapper() -> None:
    @Recovery().recoverable(max_retries=0)
    def sick(url: str, *, timeout: float = 3.0) -> None:
        raise ConnectionError(url, timeout)

    with pytest.raises(ConnectionError) as raised:
        sick("example.org")
    linecache.checkcache()
    shown = "".join(traceback.format_exception(raised.value))
    assert 'File "<recoverable (url, *, timeout=...)>"' in shown
    assert "result = function(url)\n" in shown
    assert "detours.runner.failed(error, args, kwargs)\n" in shown


def test_a_debugger_steps_through_the_wrapper() -> None:
    wrapped = Recovery().recoverable(lambda value: value)
    wrapped(1)
    lines: list[str] = []

    def trace(frame: Any, event: str, _: object) -> Any:
        code = frame.f_code
        if event == "line" and code.co_filename.startswith("<recoverable"):
            lines.append(linecache.getline(code.co_filename, frame.f_lineno).strip())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        wrapped(2)
    finally:
        sys.settrace(before)
    assert [lines[0], lines[-1]] == ["if not operation.observed.is_on:", "return result"]
    assert "result = function(value)" in lines


def test_the_wrapper_shows_the_parameters_of_the_function() -> None:
    async def fetch(url: str, /, retries: int = 3, *, timeout: float = 1.0) -> None:
        """Fetch it."""

    wrapped: Any = Recovery().recoverable(fetch)
    assert inspect.signature(wrapped) == inspect.signature(fetch)
    own = inspect.signature(wrapped, follow_wrapped=False)
    assert [(one.name, one.kind) for one in own.parameters.values()] == [
        (one.name, one.kind) for one in inspect.signature(fetch).parameters.values()
    ]
    assert "retries: 'int' = <default of the function>" in str(own)
    assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__) == (
        fetch.__name__,
        fetch.__qualname__,
        "Fetch it.",
    )
    assert (wrapped.__module__, wrapped.__wrapped__) == (__name__, fetch)
    assert inspect.iscoroutinefunction(wrapped)


def test_a_body_knows_its_attempt_and_its_nesting(runtime: Runtime, service: Recovery) -> None:
    numbers: list[int | None] = []

    def body() -> None:
        numbers.append(context.attempt())
        if len(numbers) < 3:
            raise ConnectionError

    runtime.decorate(service, body, **FAST)()
    assert numbers == [1, 2, 3]


class OwnError(ConnectionError):
    """An error that no other test raises."""


@pytest.mark.parametrize("is_on", few([True, False], True))
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.slow
def test_a_failed_call_with_arguments_leaves_no_cycle(is_async: bool, is_on: bool) -> None:
    service = Recovery(breaker=None)

    def fail(text: str, *, other: int = 0) -> None:
        raise OwnError(text)

    async def fail_async(text: str, *, other: int = 0) -> None:
        raise OwnError(text)

    wrapped: Any = service.recoverable(**FAST)(fail_async if is_async else fail)
    service.configure(enabled=is_on)

    async def main() -> None:
        for _ in range(20):
            with contextlib.suppress(OwnError):
                await wrapped("reset") if is_async else wrapped("reset", other=1)

    asyncio.run(main())
    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        left = [one for one in gc.get_objects() if type(one) is OwnError]
    finally:
        gc.enable()
    assert left == []


def test_a_reconcile_gets_each_argument_as_it_was_given() -> None:
    given: list[Any] = []

    def reconcile(*args: int, **kwargs: int) -> str:
        given.append((args, kwargs))
        return "found"

    @Recovery().recoverable(reconcile=reconcile, **FAST)
    def send(first: int, second: int) -> str:
        raise ConnectionError

    assert (send(1, second=2), given) == ("found", [((1,), {"second": 2})])


def test_a_recursion_through_the_wrapper_ends() -> None:
    @Recovery().recoverable(**FAST)
    def dive(depth: int, step: int = 1) -> int:
        return dive(depth - step) + 1 if depth else 0

    assert dive(50) == 50
