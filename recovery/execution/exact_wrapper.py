"""A wrapper with exactly the parameters of its function, generated from the code object of the function.

It calls the function with plain arguments, which Python does faster than ``*args, **kwargs``; and a call that does not
fit raises the TypeError of the function itself, before anything is recovered. Functions whose parameters have the same
names share one source, which tracebacks and debuggers find in ``linecache``.

A parameter that has a default, or ``*args`` or ``**kwargs``, is *optional*: only what a call gives is passed on, so the
function fills in the defaults that it has then. Up to ``MAX_BRANCHED`` of them, there is a branch for each combination.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator
from keyword import iskeyword
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from recovery.execution.attempts import cancel_first
from recovery.execution.runner import Runner

Wrapper: TypeAlias = Callable[..., Any]

MAX_BRANCHED = 3
"""Optional parameters that are passed on without a dictionary: eight branches at most."""

MAX_SHAPES = 4096
"""Shapes that are generated in one process; functions of further ones have the general wrapper."""

SOURCE = """\
def recoverable(original, first, runner~, operation~, switch~, observed~):
    def checked(*args, **kwargs):
        nonlocal function~
        function~ = original
        return first(*args, **kwargs)

    function~ = checked if first else original

    <def> recoverable_call(<parameters>):
        <given>
        if operation~.is_observed:
            <observed>
        try:
            <call>
        except Exception~ as raised~:
            if not switch~.is_on:
                raise
            error~ = raised~
        except:
            if switch~.is_on:
                cancel_first~(operation~)
            raise
        else:
            operation~.successes += 1
            return result~
        try:
            <failed>
        finally:
            del error~  # its traceback holds this frame

    return recoverable_call
"""
"""What is generated: ``~`` becomes as many underscores as keep the names apart from the parameters."""

OWN_NAMES = frozenset(re.findall(r"(\w+)~", SOURCE)) | {"OMITTED", "NO_KEYWORDS", "args", "kwargs"}


class Omitted:
    """The default of each optional parameter of a wrapper: the function has the real one."""

    def __repr__(self) -> str:
        return "<default of the function>"

    def __reduce__(self) -> str:
        return "OMITTED"


OMITTED = Omitted()


class Shape(NamedTuple):
    """What the wrappers of one source have in common: the kind of function, and its parameters by name.

    Args:
        is_async: Whether the function is an ``async def``.
        positional: Names of the parameters that only a position gives.
        named: Names of those that a position or a name gives.
        keywords: Names of those that only a name gives.
        rest: The name of ``*args``, "" for none.
        more: The name of ``**kwargs``, "" for none.
        with_default: Names of those that have a default.
    """

    is_async: bool
    positional: tuple[str, ...]
    named: tuple[str, ...]
    keywords: tuple[str, ...]
    rest: str
    more: str
    with_default: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the code object."""
        return (*self.positional, *self.named, *self.keywords, *filter(None, (self.rest, self.more)))

    @property
    def by_position(self) -> tuple[str, ...]:
        """The parameters that a position can give."""
        return self.positional + self.named

    @property
    def optional(self) -> list[str]:
        """The parameters that a call may leave out."""
        ordered = (*self.by_position, self.rest, *self.keywords, self.more)
        return [one for one in ordered if one and (one in self.with_default or one in (self.rest, self.more))]


FACTORIES: dict[Shape, Callable[..., Wrapper] | None] = {}
"""What makes the wrappers of a shape; ``None`` for a shape that has no source."""


def exact_wrapper(
    function: Callable[..., Any],
    runner: Runner,
    *,
    observed: Callable[..., Any],
    first: Callable[..., Any] | None,
) -> Wrapper | None:
    """A wrapper with the parameters of *function*; ``None`` if it is not written in Python, or cannot be spelt.

    Args:
        function: What the wrapper calls.
        runner: Goes on after a failed first attempt, and knows the operation and the switch.
        observed: Runs a call that is observed from its start: ``observed(args, kwargs)``, awaited for an async one.
        first: What the first call runs instead of the function, ``None`` for the function itself.
    """
    shape = shape_of(function)
    if shape is None:
        return None
    if shape not in FACTORIES:
        FACTORIES[shape] = _factory(shape) if len(FACTORIES) < MAX_SHAPES else None
    factory = FACTORIES[shape]
    if factory is None:
        return None
    definition = runner.definition
    wrapper: Any = factory(function, first, runner, definition.operation, definition.switch, observed)
    if wrapper.__code__.co_varnames[: len(shape.names)] != shape.names:  # Python normalizes the names in a source
        return None
    wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__  # a TypeError tells them
    made: Wrapper = wrapper
    return made


def shape_of(function: Callable[..., Any]) -> Shape | None:
    """The shape of *function*; ``None`` if it is not written in Python, or its parameters cannot be written in it."""
    if type(function) is not FunctionType:
        return None
    code, defaults = function.__code__, function.__defaults__ or ()
    is_async = bool(code.co_flags & inspect.CO_COROUTINE)
    if is_async is not inspect.iscoroutinefunction(function) or len(defaults) > code.co_argcount:
        return None
    names, count = iter(code.co_varnames), code.co_argcount
    by_position = tuple(next(names) for _ in range(count))
    keywords = tuple(next(names) for _ in range(code.co_kwonlyargcount))
    shape = Shape(
        is_async,
        by_position[: code.co_posonlyargcount],
        by_position[code.co_posonlyargcount :],
        keywords,
        next(names) if code.co_flags & inspect.CO_VARARGS else "",
        next(names) if code.co_flags & inspect.CO_VARKEYWORDS else "",
        frozenset(by_position[count - len(defaults) :]) | (set(keywords) & {*(function.__kwdefaults__ or ())}),
    )
    return shape if all(name.isidentifier() and not iskeyword(name) for name in shape.names) else None


def _factory(shape: Shape) -> Callable[..., Wrapper] | None:
    """What makes the wrappers of *shape*; ``None`` if Python refuses its source."""
    end = ""
    while any(own + end in shape.names for own in OWN_NAMES):
        end += "_"
    source, name = _source(shape).replace("~", end), f"<recoverable {len(FACTORIES)}: {', '.join(shape.names):.60}>"
    known = {"Exception": Exception, "OMITTED": OMITTED, "NO_KEYWORDS": {}, "cancel_first": cancel_first}
    made: dict[str, Any] = {"__name__": __name__} | {own + end: value for own, value in known.items()}
    try:
        exec(compile(source, name, "exec"), made)  # its only foreign part are the names, which are checked
    except (SyntaxError, RecursionError, MemoryError):
        return None
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    factory: Callable[..., Wrapper] = made["recoverable"]
    return factory


def _source(shape: Shape) -> str:
    """The source of the wrappers of *shape*."""
    wait = "await " if shape.is_async else ""
    uses = {
        "observed": f"return {wait}observed~(<args>, <kwargs>)",
        "call": f"result~ = {wait}function~(<passed>)",
        "failed": f"return {wait}runner~.failed(error~, <args>, <kwargs>)",
    }
    if len(shape.optional) <= MAX_BRANCHED:
        lines = {use: [*_branches(shape, text, (), shape.optional)] for use, text in uses.items()} | {"given": []}
    else:
        filled = {"<args>": "args~", "<kwargs>": "kwargs~", "<passed>": "*args~, **kwargs~"}
        lines = {use: [_filled(text, filled)] for use, text in uses.items()} | {"given": [*_collected(shape)]}
    lines |= {"def": ["async def" if shape.is_async else "def"], "parameters": [_parameters(shape)]}
    source = ""
    for line in SOURCE.splitlines(keepends=True):
        if (found := re.fullmatch(r"( +)<(\w+)>\n", line)) is not None:
            source += "".join(f"{found[1]}{one}\n" for one in lines[found[2]])
        else:
            source += re.sub(r"<(\w+)>", lambda part: lines[part[1]][0], line)
    return source


def _parameters(shape: Shape) -> str:
    """The parameters of *shape*, as they stand in a definition."""
    spelt = {name: f"{name}=OMITTED~" if name in shape.with_default else name for name in shape.names}
    parts = [spelt[name] for name in shape.positional]
    parts += ["/"] if parts else []
    parts += [spelt[name] for name in shape.named]
    parts += [f"*{shape.rest}"] if shape.rest or shape.keywords else []
    parts += [spelt[name] for name in shape.keywords]
    parts += [f"**{shape.more}"] if shape.more else []
    return ", ".join(parts)


def _branches(shape: Shape, use: str, given: tuple[str, ...], undecided: list[str]) -> Iterator[str]:
    """The lines of *use* for each combination of *undecided* parameters, where those in *given* are given."""
    if not undecided:
        yield _filled(use, _passed(shape, given))
        return
    name, *others = undecided
    yield f"if {name}:" if name in (shape.rest, shape.more) else f"if {name} is not OMITTED~:"
    yield from _indented(_branches(shape, use, (*given, name), others))
    yield "else:"
    gone = {shape.rest} if name in shape.by_position else set()  # no position can be given beyond one left out
    gone |= {*shape.positional} if name in shape.positional else set()
    yield from _indented(_branches(shape, use, given, [one for one in others if one not in gone]))


def _passed(shape: Shape, given: Iterable[str]) -> dict[str, str]:
    """How a call passes on what it requires and what is in *given*."""
    passed = [name for name in shape.names if name in given or name not in {*shape.optional}]
    positions: list[str] = []
    for one, name in zip(shape.by_position, passed, strict=False):
        if one != name:
            break
        positions.append(name)
    keywords = [one for one in passed if one not in (*positions, shape.rest, shape.more)]
    rest = [f"*{shape.rest}"] if shape.rest in passed else []
    more = [f"**{shape.more}"] if shape.more in passed else []
    pairs = ", ".join([*(f"{name!r}: {name}" for name in keywords), *more])
    return {
        "<args>": "(" + "".join(f"{one}, " for one in positions + rest) + ")",
        "<kwargs>": f"{{{pairs}}}" if pairs else "NO_KEYWORDS~",
        "<passed>": ", ".join([*positions, *rest, *(f"{name}={name}" for name in keywords), *more]),
    }


def _collected(shape: Shape) -> Iterator[str]:
    """The lines that collect the arguments of a call, where branches would be too many."""
    required = _passed(shape, (shape.more,))
    yield f"args~ = {required['<args>']}"
    yield "kwargs~ = {}" if required["<kwargs>"] == "NO_KEYWORDS~" else f"kwargs~ = {required['<kwargs>']}"
    optional = [one for one in shape.optional if one in shape.with_default]
    for name in optional:
        if name in shape.positional:
            yield from (f"if {name} is not OMITTED~:", f"    args~ += ({name},)")
    named = [one for one in optional if one in shape.named]
    if shape.rest:
        yield from (
            f"if {shape.rest}:",
            f"    args~ += ({''.join(f'{one}, ' for one in named)}*{shape.rest},)",
            "else:",
        )
        yield from _indented([*_kept(named)] or ["pass"])
    else:
        yield from _kept(named)
    yield from _kept(one for one in optional if one in shape.keywords)


def _kept(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (f"if {name} is not OMITTED~:", f"    kwargs~[{name!r}] = {name}")


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _filled(text: str, parts: dict[str, str]) -> str:
    return re.sub("<(args|kwargs|passed)>", lambda part: parts[part[0]], text)
