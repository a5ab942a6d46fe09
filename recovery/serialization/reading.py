"""JSON with tags back to values, by a closed table and by annotations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from recovery.serialization.annotations import (
    Hints,
    element_hints,
    entry_hints,
    field_hints,
    field_names,
    fits,
    is_made,
    name_of,
    names_of,
)
from recovery.serialization.tags import CONTAINERS, LEAVES, is_tag

READERS = {tag: read for tag, _, read in LEAVES.values()}


def built(node: Any, hints: Hints) -> Any:
    """The value that was written as *node*. Raises ValueError for what fits no tag, or not the hints."""
    if type(node) is dict and is_tag(node):
        ((tag, content),) = node.items()
        try:
            return _tagged(tag, content, hints)
        except ValueError:
            raise
        except Exception as error:  # the content may be anything
            raise ValueError(f"{tag} cannot be read: {type(error).__name__}: {error}") from error
    if not fits(node, hints):
        raise ValueError(f"{name_of(node)} stands where {names_of(hints)} is annotated")
    if type(node) is dict:
        of_values = entry_hints(hints)[1]
        return {key: built(one, of_values) for key, one in node.items()}
    return _all_built(node, hints, list) if type(node) is list else node


def _all_built(nodes: Any, hints: Hints, kind: type) -> list[Any]:
    if type(nodes) is not list:
        raise ValueError(f"{name_of(nodes)} stands where a list is expected")
    return [built(one, each) for one, each in zip(nodes, element_hints(hints, kind, len(nodes)), strict=True)]


def _tagged(tag: str, content: Any, hints: Hints) -> Any:
    if tag == "$enum":
        plain_value = built(content, ())
        return _first(lambda kind: kind(plain_value), [hint for hint in hints if _is_enum(hint)], tag)
    if tag == "$object":
        classes = [hint for hint in hints if is_made(hint) and not _is_enum(hint)]
        classes.sort(key=lambda kind: field_names(kind) != tuple(content))  # the same fields come first
        return _first(functools.partial(_object, content), classes, tag)
    value: Any
    if tag in READERS:
        value = READERS[tag](content)
    elif tag in CONTAINERS:
        value = CONTAINERS[tag](_all_built(content, hints, type(CONTAINERS[tag](()))))
    elif tag == "$dict":
        of_keys, of_values = entry_hints(hints)
        value = {built(key, of_keys): built(one, of_values) for key, one in content}
    else:
        raise ValueError(f"the tag {tag} is unknown")
    if not fits(value, hints):
        raise ValueError(f"{name_of(value)} stands where {names_of(hints)} is annotated")
    return value


def _is_enum(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _object(content: dict[str, Any], kind: Any) -> Any:
    annotated = field_hints(kind)
    return kind(**{name: built(one, annotated.get(name, ())) for name, one in content.items()})


def _first(make: Callable[[Any], Any], classes: Sequence[Any], tag: str) -> Any:
    """What *make* makes of the first of *classes* that fits."""
    why = "no class for it is annotated"
    for kind in classes:
        try:
            return make(kind)
        except Exception as error:  # the next class may fit
            why = f"it is no {names_of((kind,))}: {error}"
    raise ValueError(f"{tag} cannot be read: {why}")
