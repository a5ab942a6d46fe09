"""Whether two functions, and the configs of two definitions, are the same: functions by code and closure values.

A cell of a notebook that runs again, a module that is reloaded and a factory that is called again make new function
objects, which Python compares by identity.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import msgspec

from recovery.settings import OperationConfig

SETTINGS = {
    "classifiers": "classifier",
    "classification": "enable_classification",
    "logging": "enable_logging",
    "failure_threshold": "circuit_breaker_threshold",
    "break_duration": "circuit_breaker_timeout",
}
"""Fields of a config, or of its breaker, that are called otherwise as settings."""

PLAIN = frozenset({int, str, bytes, float, bool, type(None)})
"""Types whose values consist of no others."""

MOST_SHOWN = 80
"""Characters of a value in an error."""


def is_same(one: Any, other: Any, compared: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two values of settings do the same.

    Args:
        one: The first value; what it holds is compared, too.
        other: The second one.
        compared: The pairs that are being compared: a function may be in its own closure.
    """
    if one is other or (id(one), id(other)) in compared:
        return True
    try:
        if one == other:
            return True
    except Exception:  # an array has no truth value, and a class of the user's may raise anything
        return False
    if type(one) is not type(other) or type(one) in PLAIN:
        return False
    compared |= {(id(one), id(other))}
    return any(
        len(parts) == len(others) and all(is_same(*pair, compared) for pair in zip(parts, others, strict=True))
        for parts, others in zip(_parts(one), _parts(other), strict=True)
    )


def _parts(value: Any) -> Iterator[list[Any]]:
    """What *value* consists of, if it is of a kind that is compared by its parts."""
    match value:
        case FunctionType():
            # What tells closures apart comes first.
            closure = closure_of(value).values()
            yield [value.__code__, *closure, value.__module__, value.__defaults__, value.__kwdefaults__]
        case MethodType():
            yield [value.__func__, value.__self__]
        case functools.partial():
            yield [value.func, value.args, value.keywords]
        case list() | tuple():
            yield [*value]
        case dict():
            yield [*value, *value.values()]
        case msgspec.Struct():
            yield [getattr(value, name) for name in value.__struct_fields__]


def closure_of(function: FunctionType) -> dict[str, Any]:
    """The values in the closure of *function*, by name; those that have none yet are left out."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # it is assigned later
            continue
    return values


def differences(before: OperationConfig, after: OperationConfig) -> list[str]:
    """In words, each setting in which *after* differs from *before*."""
    found: list[str] = []
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if name in ("policy", "breaker") and type(old) is type(new) and old is not None:
            pairs = {part: (getattr(old, part), getattr(new, part)) for part in old.__struct_fields__}
        else:
            pairs = {name: (old, new)}
        found += [_told(SETTINGS.get(part, part), *pair) for part, pair in pairs.items() if not is_same(*pair)]
    return found


def _told(setting: str, old: Any, new: Any) -> str:
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new) == 1:  # one classifier
        (old,), (new,) = old, new
    if not (isinstance(old, FunctionType) and isinstance(new, FunctionType)):
        return f"{setting} was {old!r:.{MOST_SHOWN}} and is {new!r:.{MOST_SHOWN}}"
    if old.__code__ != new.__code__:
        return f"{setting} is another function"
    values, others = closure_of(old), closure_of(new)
    changed = [repr(name) for name in values if not is_same(values[name], others.get(name))]
    return f"{setting} is a function that holds another {' and '.join(changed) or 'default'}"


def code_of(function: Any) -> CodeType | None:
    """The code that a call of *function* runs, ``None`` if it is not written in Python."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004  # its code matters, not that it exists
    return function.__code__ if isinstance(function, FunctionType) else None


def home_of(function: object) -> str | None:
    """Where *function* was written: module and qualified name. ``None`` for one that each call makes, as a closure.

    They are those of its code: ``functools.wraps`` gives a function the names of another.
    """
    if not isinstance(function, FunctionType) or "<" in function.__code__.co_qualname:  # <locals>, <lambda>
        return None
    return f"{function.__globals__.get('__name__')}.{function.__code__.co_qualname}"
