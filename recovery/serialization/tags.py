"""The tags of JSON: how values that are not JSON are marked.

A tag is an object with one key: ``{"$path": "/models"}``. The tags are a closed table. Objects of the caller's classes
carry their fields (``$object``) or an enum's value (``$enum``), never a class: annotations say which class it is. A
dict that looks like a tag, or has a key that is no text, is written as pairs (``$dict``).
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any
from uuid import UUID

from recovery.serialization.secret import MARK, Secret

TAG_START = b'"$'
"""JSON without it holds no tag."""


def _clock_reading(value: datetime | time) -> str | list[str]:
    """ISO 8601 has no ``fold``: the second of two equal readings, when clocks are set back, is a list."""
    return [value.isoformat()] if value.fold else value.isoformat()


def _from_clock_reading(kind: type[datetime | time], node: str | list[str]) -> datetime | time:
    return kind.fromisoformat(node) if isinstance(node, str) else kind.fromisoformat(node[0]).replace(fold=1)


CONTAINERS: dict[str, Callable[[Iterable[Any]], Any]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}

LEAVES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    type(Path()): ("$path", str, Path),
    datetime: ("$datetime", _clock_reading, functools.partial(_from_clock_reading, datetime)),
    date: ("$date", date.isoformat, date.fromisoformat),
    time: ("$time", _clock_reading, functools.partial(_from_clock_reading, time)),
    timedelta: ("$timedelta", lambda it: [it.days, it.seconds, it.microseconds], lambda parts: timedelta(*parts)),
    UUID: ("$uuid", str, UUID),
    Decimal: ("$decimal", str, Decimal),
    bytes: ("$bytes", lambda it: base64.b64encode(it).decode(), functools.partial(base64.b64decode, validate=True)),
    Secret: (MARK, attrgetter("reference"), Secret),
}
"""Types with a tag of their own: the tag, what writes the value as JSON, and what reads that."""

ATOMS: tuple[type, ...] = (str, int, float, bool, NoneType)
EXACT: tuple[type, ...] = (*ATOMS, list, dict, tuple, set, frozenset, *LEAVES)
"""Types that come back without an annotation. A subclass of one would come back as its base."""


def is_tag(node: dict[Any, Any]) -> bool:
    """Whether *node* is a tag, or looks like one."""
    (key,) = node if len(node) == 1 else ("",)
    return isinstance(key, str) and key.startswith("$")
