"""What the annotations of parameters and fields say: which classes a value, and what it holds, may have."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeAlias, TypeVar, cast

import msgspec

T = TypeVar("T")

Hints: TypeAlias = tuple[Any, ...]
"""The alternatives that an annotation allows, without ``None``; empty where nothing is known."""

MORE_THAN_FIELDS = (str, int, float, bytes, list, dict, set, frozenset, BaseException)
"""Bases of classes whose objects hold more than their fields."""

UNRESOLVED = object()
"""Instead of an annotation that cannot be evaluated: a name that exists for type checkers only, say."""


def _cached(function: Callable[[Any], T]) -> Callable[[Any], T]:
    return functools.lru_cache(maxsize=512)(function)


def resolved(annotation: Any, names: Mapping[str, Any]) -> Any:
    """*annotation*, with the names in its text looked up in *names*; ``UNRESOLVED`` if that fails."""

    def probe() -> None: ...

    probe.__annotations__ = {"annotation": annotation}
    try:
        return typing.get_type_hints(probe, dict(names))["annotation"]
    except Exception:  # the text of an annotation may be any expression
        return UNRESOLVED


def hints_of(annotation: Any) -> Hints:
    """The alternatives of an evaluated *annotation*: members of unions, what a ``NewType`` or an alias stands for."""
    if any(annotation is one for one in (UNRESOLVED, inspect.Parameter.empty, None, NoneType)):
        return ()
    if isinstance(annotation, NewType):
        return hints_of(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        return _all_of(annotation.__constraints__ or (annotation.__bound__,))
    if hasattr(annotation, "__value__") and not isinstance(annotation, type):  # ``type Alias = ...``
        return hints_of(annotation.__value__)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        return _all_of(args)
    if origin is Literal:
        return tuple({type(one): None for one in args if one is not None})
    return (origin,) if is_made(origin) else (annotation,)


def _all_of(annotations: Sequence[Any]) -> Hints:
    return tuple(hint for one in annotations for hint in hints_of(one))


@_cached
def field_names(kind: Any) -> tuple[str, ...] | None:
    """What the constructor of a dataclass, a msgspec Struct or a NamedTuple takes; ``None`` for another class."""
    if issubclass(kind, MORE_THAN_FIELDS):
        return None
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    names: tuple[str, ...] | None = getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
    return names


def is_made(kind: object) -> bool:
    """Whether values of the class *kind* are made again from their fields (or an enum's value)."""
    return isinstance(kind, type) and (issubclass(kind, Enum) or field_names(kind) is not None)


def fits(value: object, hints: Hints) -> bool:
    """Whether *value* may stand where *hints* are annotated.

    Only annotations that name nothing but classes that are made again are enforced. A caller may pass an int for a
    float, or a text for a ``Path``: it comes back as it was passed.
    """
    return value is None or type(value) in hints or not (hints and all(map(is_made, hints)))


def names_of(hints: Hints) -> str:
    """*hints* in a message: "Job or Task"."""
    return " or ".join(getattr(hint, "__qualname__", str(hint)).rpartition("<locals>.")[2] for hint in hints)


def name_of(value: object) -> str:
    """What *value* is, in a message: "a Job", "a httpx.Client", "an int"."""
    kind = type(value)
    is_short = kind.__module__ in ("builtins", "__main__") or is_made(kind)
    name = names_of((kind,)) if is_short else f"{kind.__module__}.{names_of((kind,))}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def name_made(hints: Hints) -> bool:
    """Whether *hints*, or what their containers hold, name a class that is made again."""
    todo, seen = list(hints), list[Any]()
    while todo:
        hint = todo.pop()
        if is_made(hint):
            return True
        if hint not in seen:
            seen.append(hint)
            todo += _all_of(typing.get_args(hint))
    return False


@_cached
def field_hints(kind: Any) -> dict[str, Hints]:
    """The hints of the fields of the class *kind*, those of its bases included."""
    found: dict[str, Hints] = {}
    for base in reversed(kind.__mro__):
        names = {**vars(sys.modules.get(base.__module__, typing)), base.__name__: base, **vars(base)}
        with_annotations = inspect.get_annotations(base)
        found |= {name: hints_of(resolved(annotation, names)) for name, annotation in with_annotations.items()}
    return found


def element_hints(hints: Hints, kind: type, count: int) -> Sequence[Hints]:
    """The hints of each of the *count* elements of a *kind* of list, tuple or set."""
    shared: Hints = ()
    single: list[Sequence[Any]] = []
    for origin, args in _generic(hints, kind):
        if origin is tuple and args[-1] is not Ellipsis:
            single += [args] if len(args) == count else []
        else:
            shared += hints_of(args[0])
    if not single:
        return (shared,) * count
    return [shared + _all_of(column) for column in zip(*single, strict=True)]


def entry_hints(hints: Hints) -> tuple[Hints, Hints]:
    """The hints of the keys and of the values of a dict."""
    pairs = [args for _, args in _generic(hints, dict) if len(args) == 2]
    return _all_of([key for key, _ in pairs]), _all_of([value for _, value in pairs])


def _generic(hints: Hints, kind: type) -> Iterator[tuple[type, Sequence[Any]]]:
    """Origin and arguments of those *hints* that a container of that *kind* meets: ``Sequence[int]`` for a list."""
    for hint in hints:
        origin: Any = typing.get_origin(hint)
        args = typing.get_args(hint)
        try:
            if args and issubclass(kind, origin):
                yield origin, args
        except TypeError:  # some protocols refuse the question
            continue


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of *function*; ``(*args, **kwargs)`` for one that has none, as some builtins."""

    def unknown(*args: Any, **kwargs: Any) -> Any: ...

    try:
        return inspect.signature(function)
    except Exception:  # an object may say anything of itself
        return inspect.signature(unknown)


def names_around(function: Any) -> Mapping[str, Any]:
    """The global names that the annotations of *function* can use."""
    for _ in range(100):  # a wrapper may wrap itself
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "__globals__"):
            return cast("Mapping[str, Any]", function.__globals__)
        else:
            function = type(function).__call__
    return {}
