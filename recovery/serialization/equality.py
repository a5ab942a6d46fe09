"""Equality that looks at types, too: whether a value came back exactly."""

from __future__ import annotations

import dataclasses
import functools
from enum import Enum
from typing import Any

from recovery.serialization.annotations import field_names, is_made
from recovery.serialization.tags import ATOMS, LEAVES


def is_same(one: Any, other: Any) -> bool:
    """Whether two values, and all that they hold, are equal and of the same types."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in ATOMS:
        return bool(one == other)
    if kind is dict:
        if len(one) != len(other):
            return False
        return all(map(is_same, one, other)) and all(map(is_same, one.values(), other.values()))
    if kind in (list, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if kind in (set, frozenset):
        partners = {element: element for element in other}
        return len(one) == len(other) and all(each in partners and is_same(each, partners[each]) for each in one)
    if kind in LEAVES:
        return repr(one) == repr(other)  # tells 1.0 from 1.00, and one time zone or fold from another
    if issubclass(kind, Enum):
        return one is other
    return is_made(kind) and is_same(_state(one), _state(other))


def _state(value: Any) -> dict[str, Any]:
    kind = type(value)
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else field_names(kind)
    attributes = {
        name: one
        for name, one in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    return dict(sorted((attributes | {name: getattr(value, name, None) for name in names or ()}).items()))
