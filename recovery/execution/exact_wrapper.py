"""A wrapper with exactly the parameters of its function, generated from the code object of the function.

It calls the function with plain arguments, which Python does faster than ``*args, **kwargs``; and a call that does not
fit raises the TypeError of the function itself, before anything is recovered. Functions whose parameters have the same
names share one source, which tracebacks and debuggers find in ``linecache``.

The wrapper passes on only what a call gives, so the function fills in the defaults that it has then: the source has a
branch for each combination of parameters with a default. Functions with many of them have the general wrapper, and so
have those with ``*args`` or ``**kwargs``, which gain nothing (measured).
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Iterator
from keyword import iskeyword
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from events.operation import Operation
from recovery.call_stack import ROLES
from recovery.execution.attempts import cancel_first
from recovery.execution.runner import Runner
from recovery.operations import Switch

Factory: TypeAlias = Callable[..., Callable[..., Any]]

MAX_OPTIONAL = 3
"""Parameters with a default that a generated wrapper has: eight branches, 0.8 ms to generate."""

MAX_SHAPES = 4096
"""Shapes that are generated in one process; functions of further ones have the general wrapper."""

SOURCE = """\
def recoverable(original, first, operation~, detours~):
    def checked(*args, **kwargs):
        nonlocal function~
        function~ = original
        return first(*args, **kwargs)

    function~ = checked if first else original

    <def> recoverable_call(<parameters>):
        if not operation~.observed.is_on:
            try:
                <call>
            except Exception~ as raised~:
                if not detours~.switch.is_on:
                    raise
                error~ = raised~
            except:
                if detours~.switch.is_on:
                    cancel_first~(operation~)
                raise
            else:
                operation~.successes += 1
                return result~
        else:
            error~ = None
        <given>
        try:
            if error~ is None:
                return <await>detours~.observed(args~, kwargs~)
            return <await>detours~.runner.failed(error~, args~, kwargs~)
        finally:
            del error~  # its traceback holds this frame

    return recoverable_call
"""
"""What is generated: ``~`` becomes as many underscores as keep the names apart from the parameters."""

NAMES: dict[str, Any] = {"Exception": Exception, "OMITTED": None, "NO_KEYWORDS": {}, "cancel_first": cancel_first}
"""The global names in a source. No call changes the dictionary: it is only unpacked."""

OWN_NAMES = frozenset(re.findall(r"(\w+)~", SOURCE)) | NAMES.keys()


class Omitted:
    """The default of each parameter of a wrapper that has one: the real one is that of the function."""

    def __repr__(self) -> str:
        return "<default of the function>"

    def __reduce__(self) -> str:
        return "OMITTED"


OMITTED = NAMES["OMITTED"] = Omitted()


class Detours(msgspec.Struct, frozen=True):
    """Where a wrapper goes with a call that is not healthy.

    Args:
        switch: While it is off, failures pass.
        observed: Runs a call that is observed from its start: ``observed(args, kwargs)``, awaited if async.
        runner: Goes on after a failed first attempt: ``runner.failed(error, args, kwargs)``, likewise.
    """

    switch: Switch
    observed: Callable[..., Any]
    runner: Runner


class Shape(NamedTuple):
    """What the wrappers of one source have in common: the kind of function, and its parameters by name.

    Args:
        is_async: Whether the function is an ``async def``.
        positional: Names of the parameters that only a position gives.
        named: Names of those that a position or a name gives.
        keywords: Names of those that only a name gives.
        optional: Names of those that have a default.
    """

    is_async: bool
    positional: tuple[str, ...]
    named: tuple[str, ...]
    keywords: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the code object."""
        return self.positional + self.named + self.keywords


FACTORIES: dict[Shape, Factory | None] = {}
"""What makes the wrappers of a shape; ``None`` for a shape that has no source."""


def exact_wrapper(
    function: Callable[..., Any],
    operation: Operation,
    detours: Detours,
    first: Callable[..., Any] | None = None,
) -> Callable[..., Any] | None:
    """A wrapper with the parameters of *function*; ``None`` if it is not written in Python, or has none of its own.

    Args:
        function: What the wrapper calls.
        operation: Its operation, whose successes are counted.
        detours: Where calls go that are not healthy.
        first: What the first call runs instead of the function, ``None`` for the function itself.
    """
    factory = factory_of(function)
    if factory is None:
        return None
    wrapper = factory(function, first, operation, detours)
    wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__  # a TypeError tells them
    return wrapper


def factory_of(function: Callable[..., Any]) -> Factory | None:
    """What makes the wrapper of *function*; ``None`` if it has the general wrapper."""
    shape = shape_of(function)
    if shape is not None and shape not in FACTORIES:
        FACTORIES[shape] = _factory(shape) if len(FACTORIES) < MAX_SHAPES else None
    return None if shape is None else FACTORIES[shape]


def shape_of(function: Callable[..., Any]) -> Shape | None:
    """The shape of *function*; ``None`` if it has the general wrapper."""
    if type(function) is not FunctionType:
        return None
    code, defaults = function.__code__, function.__defaults__ or ()
    count, only = code.co_argcount, code.co_posonlyargcount
    names = code.co_varnames[: count + code.co_kwonlyargcount]
    with_default = {*names[count - len(defaults) : count], *(function.__kwdefaults__ or ())}
    optional = tuple(name for name in names if name in with_default)
    is_async = bool(code.co_flags & inspect.CO_COROUTINE)
    if (
        code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        or is_async is not inspect.iscoroutinefunction(function)
        or len(defaults) > count
        or len(optional) > MAX_OPTIONAL
        or not all(name.isidentifier() and not iskeyword(name) for name in names)
    ):
        return None
    return Shape(is_async, names[:only], names[only:count], names[count:], optional)


def _factory(shape: Shape) -> Factory | None:
    """What makes the wrappers of *shape*; ``None`` if Python refuses its source."""
    end = ""
    while any(own + end in shape.names for own in OWN_NAMES):
        end += "_"
    source, kind = _source(shape).replace("~", end), "async " if shape.is_async else ""
    file = f"<recoverable {kind}({_parameters(shape).replace('OMITTED~', '...')})>"
    made: dict[str, Any] = {"__name__": __name__} | {name + end: value for name, value in NAMES.items()}
    try:
        exec(compile(source, file, "exec"), made)  # what is foreign in it are names, which are checked
    except (SyntaxError, RecursionError, MemoryError):
        return None
    factory = cast("FunctionType", made["recoverable"])
    code = next(one for one in factory.__code__.co_consts if getattr(one, "co_name", "") == "recoverable_call")
    if code.co_varnames[: len(shape.names)] != shape.names:  # Python normalizes the names in a source
        return None
    ROLES[code] = "wrapper"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return factory


def _source(shape: Shape) -> str:
    """The source of the wrappers of *shape*."""
    wait = "await " if shape.is_async else ""
    source = SOURCE.replace("<def>", "async def" if shape.is_async else "def").replace("<await>", wait)
    source = source.replace("<parameters>", _parameters(shape))
    source = _filled(source, "<call>", _calls(shape, f"result~ = {wait}function~", (), shape.optional))
    return _filled(source, "<given>", _given(shape))


def _filled(source: str, place: str, lines: Iterator[str]) -> str:
    """*source* with *lines* instead of *place*, as far to the right."""
    before, _, after = source.partition(place)
    indent = "\n" + before[before.rindex("\n") + 1 :]
    return before + indent.join(lines) + after


def _parameters(shape: Shape) -> str:
    """The parameters of *shape*, as they stand in a definition."""
    spelt = [f"{name}=OMITTED~" if name in shape.optional else name for name in shape.names]
    first, last = len(shape.positional), len(shape.positional + shape.named)
    only, star = ["/"] if first else [], ["*"] if shape.keywords else []
    return ", ".join(spelt[:first] + only + spelt[first:last] + star + spelt[last:])


def _calls(shape: Shape, call: str, given: tuple[str, ...], undecided: tuple[str, ...]) -> Iterator[str]:
    """The lines that pass on what is required and *given*, for each combination of the *undecided* parameters."""
    if undecided:
        name, *others = undecided
        yield f"if {name} is not OMITTED~:"
        yield from (f"    {line}" for line in _calls(shape, call, (*given, name), tuple(others)))
        gone = shape.positional if name in shape.positional else ()  # no position can be given beyond it
        yield "else:"
        others = [one for one in others if one not in gone]
        yield from (f"    {line}" for line in _calls(shape, call, given, tuple(others)))
        return
    passed, is_position = [], True
    for name in shape.names:
        is_given = name in given or name not in shape.optional
        is_position = is_position and is_given and name not in shape.keywords
        if is_given:
            passed.append(name if is_position else f"{name}={name}")
    yield f"{call}({', '.join(passed)})"


def _given(shape: Shape) -> Iterator[str]:
    """The lines that collect what a call gives, as the function will be called again."""
    required = [name for name in shape.names if name not in shape.optional]
    pairs = ", ".join(f"{name!r}: {name}" for name in required if name in shape.keywords)
    by_position = "".join(f"{name}, " for name in required if name not in shape.keywords)
    yield f"args~ = ({by_position})"
    yield f"kwargs~ = {{{pairs}}}" if pairs or shape.optional else "kwargs~ = NO_KEYWORDS~"
    for name in shape.optional:
        yield f"if {name} is not OMITTED~:"
        yield f"    args~ += ({name},)" if name in shape.positional else f"    kwargs~[{name!r}] = {name}"
