"""A hypothesis strategy of exceptions that do all that an exception of a foreign library may do.

@given(hostile_errors())
def test_my_subscriber_bears_any_error(make):
    error = make()

It draws functions that make the exceptions: hypothesis looks at what is drawn, which such an exception does not bear.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeAlias

from events.errors import Permanent, Retryable
from recovery.installation import extra

with extra("testing"):
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy

RAISED = (AttributeError, KeyError, RuntimeError, RecursionError, TypeError, ZeroDivisionError, StopIteration)
"""What hostile attributes and methods raise."""

BASES = (
    Exception, OSError, ConnectionResetError, TimeoutError, RuntimeError, ValueError, LookupError, EOFError,
    UnicodeError, Permanent, Retryable, StopAsyncIteration,
)  # fmt: skip
"""The classes that hostile exceptions are derived from."""

NAMES = (
    "after", "args", "body", "bytes_done", "code", "detail", "details", "errno", "errors", "exit_code", "headers",
    "meta", "output", "partial", "pgcode", "reason", "request", "response", "retry_after", "returncode", "sqlstate",
    "status", "status_code", "stderr", "trailing_metadata", "__cause__", "__context__", "__notes__",
    "__suppress_context__", "__recovery_exhausted_by__", "__recovery_outcome__",
)  # fmt: skip
"""The attributes that a library may look at."""

HEADERS = ("Retry-After", "retry-after-ms", "RateLimit-Reset", "X-RateLimit-Remaining", "Date", 7, None)
"""The names of hostile headers."""

MakesError: TypeAlias = Callable[[], Exception]

METHODS = (
    "__str__",
    "__repr__",
    "__eq__",
    "__hash__",
    "__bool__",
    "__len__",
    "__reduce_ex__",
    "__setattr__",
    "__dir__",
)
"""The methods that hostile exceptions and values raise from."""


class Raising:
    """A value whose every attribute and method raises *kind*."""

    def __init__(self, kind: type[Exception]) -> None:
        object.__setattr__(self, "kind", kind)

    def __getattribute__(self, name: str) -> NoReturn:
        raise object.__getattribute__(self, "kind")(name)

    def _raise(self, *_: Any) -> NoReturn:
        raise object.__getattribute__(self, "kind")

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __getitem__ = __call__ = __int__ = __float__ = _raise
    __eq__ = __hash__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __index__ = __setattr__ = _raise


class Agreeing:
    """A value that has each attribute and item, can be called and compared, and is true; an endless mapping."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Itself."""
        return self

    def __getitem__(self, _: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Pairs without end."""
        while True:
            yield "Retry-After", self

    def __int__(self) -> int:
        return 503

    def __str__(self) -> str:
        return "yes"


def _raiser(kind: type[Exception]) -> Any:
    def hostile(*_: Any, **__: Any) -> NoReturn:
        raise kind("a hostile method")

    return hostile


TEXT_METHODS = ("strip", "lower", "split", "startswith", "encode", "__len__", "__format__", "__iter__")
Text: Any = type("Text", (str,), dict.fromkeys(TEXT_METHODS, _raiser(RuntimeError)))
"""A text whose methods raise."""


class Making:
    """A function that makes a hostile object, a new one each time; its repr says how."""

    def __init__(self, told: str, make: Callable[[], Any]) -> None:
        self._told = told
        self._make = make

    def __call__(self) -> Any:
        """The object."""
        return self._make()

    def __repr__(self) -> str:
        return self._told


def _is(value: Any) -> Making:
    return Making(ascii(value)[:60], lambda: value)


def texts() -> SearchStrategy[Making]:
    """Texts of messages and headers: secrets, control characters, lone surrogates, long ones; their methods raise."""
    odd = [
        "",
        "\x00\x1b[2J\u202e",
        "\ud800",
        "Bearer abc.def",
        "x" * 9000,
        "%s %d {0}",
        "9" * 400,
        "-1",
        "nan",
        "1e400",
    ]
    plain = st.one_of(st.sampled_from(odd), st.text(max_size=20))
    return st.builds(
        lambda text, hostile: Making(f"Text({ascii(text)[:60]})", lambda: Text(text)) if hostile else _is(text),
        plain,
        st.booleans(),
    )


@st.composite
def values(draw: DrawFn, *, depth: int = 2) -> Making:
    """Values of attributes: numbers out of range, containers that lie, objects that raise."""
    match draw(st.integers(0, 8 if depth else 3)):
        case 0:
            return _is(draw(st.sampled_from([None, True, 0, -1, 200, 404, 429, 503, 2**70, -(2**70), 1e300, 5.5])))
        case 1:
            return draw(st.one_of(texts(), st.sampled_from([math.nan, math.inf, b"\xff", b""]).map(_is)))
        case 2:
            kind = draw(st.sampled_from(RAISED))
            return Making(f"Raising({kind.__name__})", lambda: Raising(kind))
        case 3:
            return draw(st.sampled_from([Making("Agreeing()", Agreeing), Making("OSError()", OSError)]))
    inner = draw(values(depth=depth - 1))
    name = draw(st.sampled_from(HEADERS))
    match draw(st.integers(0, 4)):
        case 0:
            return Making(f"[{inner}]", lambda: [inner()])
        case 1:
            return Making(f"{{{name!r}: {inner}}}", lambda: {name: inner()})
        case 2:
            return Making(f"[({name!r}, {inner})]", lambda: [(name, inner())])
        case 3:
            return Making(f"a response with {inner}", lambda: _response(inner()))
    return Making(f"lambda: {inner}", lambda: lambda *_: inner())


def _response(value: Any) -> Any:
    return type("Response", (), {"status_code": 503, "headers": value, "code": value, "reason": value})()


@st.composite
def _single(draw: DrawFn) -> Making:
    base = draw(st.sampled_from(BASES))
    raised = st.sampled_from(RAISED)
    methods = draw(st.dictionaries(st.sampled_from((*METHODS, "__getattr__")), raised, max_size=2))
    properties = draw(st.dictionaries(st.sampled_from((*NAMES, "__class__")), raised, max_size=2))
    attributes = draw(st.dictionaries(st.sampled_from(NAMES), values(), max_size=3))
    args, said = draw(st.lists(values(), max_size=2)), draw(st.none() | texts())
    name = draw(st.sampled_from(["HostileError", "\x00", "x" * 2000, "a.b"]))

    def make() -> Exception:
        members: dict[str, Any] = {}
        if said is not None:
            members["__str__"] = lambda _, text=said: text()
        members |= {method: _raiser(kind) for method, kind in methods.items()}
        members |= {one: property(_raiser(kind)) for one, kind in properties.items()}
        kind: Any = type("HostileError", (base,), {"__qualname__": name, **members})
        try:
            error = base.__new__(kind, *(one() for one in args))  # without ``__init__``, which may set attributes
        except Exception:  # an OSError looks at them
            error = base.__new__(kind)
        for one, value in attributes.items():
            _set(error, one, value())
        return error  # type: ignore[no-any-return]  # its class is made here

    told = {"methods": methods, "properties": properties, "attributes": attributes, "args": args, "said": said}
    return Making(f"{base.__name__}({', '.join(f'{one}={value}' for one, value in told.items() if value)})", make)


def _set(error: Exception, name: str, value: Any) -> None:
    try:
        BaseException.__setattr__(error, name, (value,) if name == "args" else value)  # args are made a tuple
    except Exception:  # a property, or Python wants another type there
        return


@st.composite
def _of_a_process(draw: DrawFn) -> Making:
    code, command, stdout, stderr = draw(st.integers(-9, 300)), draw(values()), draw(values()), draw(values())
    return Making(
        f"CalledProcessError({code}, {command}, {stdout}, {stderr})",
        lambda: subprocess.CalledProcessError(code, command(), stdout(), stderr()),
    )


@st.composite
def _error(draw: DrawFn, *, depth: int = 2) -> Making:
    match draw(st.integers(0, 5 if depth else 2)):
        case 0 | 1:
            return draw(_single())
        case 2:
            return draw(_of_a_process())
        case 3:
            some = draw(st.lists(_error(depth=depth - 1), min_size=1, max_size=3))
            return Making(f"ExceptionGroup({some})", lambda: ExceptionGroup("several", [one() for one in some]))
    error, cause = draw(_error(depth=depth - 1)), draw(st.none() | _error(depth=depth - 1))  # none: itself
    name = draw(st.sampled_from(["__cause__", "__context__"]))

    def make() -> Exception:
        made: Exception = error()
        _set(made, name, made if cause is None else cause())
        return made

    return Making(f"{error} with the {name} {cause}", make)


def hostile_errors() -> SearchStrategy[MakesError]:
    """Functions that make exceptions whose attributes, texts, headers and methods lie, raise or have no end.

    There are groups and chains of causes among them. What such an exception raises is always an ``Exception``:
    ``KeyboardInterrupt`` and its like pass through any code.
    """
    return _error()
