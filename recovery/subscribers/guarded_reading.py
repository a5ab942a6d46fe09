"""Guarded reading of foreign objects: nothing that an attribute, a property, a mapping or a method raises gets out.

Each function answers with a value of a built-in type, or with ``None`` if there is none, if reading it raises, or if it
is something else. The type of a value is ``type(value)``: its ``__class__`` may lie (those of mocks do) or raise.

What is no ``Exception`` gets out: a signal may raise ``KeyboardInterrupt`` or ``SystemExit`` at any moment.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeGuard  # Any: every parameter of that type is a foreign object

from events.event import FOREVER

MAX_ITEMS = 256
"""Items of a foreign list or mapping that are looked at: it may have no end."""

MAX_VALUE = 4096
"""Characters of a foreign value that are read."""

MAX_WHOLE = 2**63 - 1
"""The largest whole number that a journal can keep."""


def attribute_of(holder: Any, name: str) -> Any:
    """The attribute of that name, ``None`` if there is none or if reading it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # a property may raise anything (httpx's ``request`` does)
        return None


def has_attribute(holder: Any, name: str) -> bool:
    """Whether there is an attribute of that name, ``None`` included."""
    try:
        return hasattr(holder, name)
    except Exception:
        return True


def value_at(holder: Any, *path: str) -> Any:
    """The value at *path*: each step is a key of a dictionary, or an attribute of any other object; or ``None``."""
    for step in path:
        if holder is None:
            return None
        if issubclass(type(holder), dict):
            try:
                holder = dict.get(holder, step)
            except Exception:  # the comparison of a foreign key
                return None
        else:
            holder = attribute_of(holder, step)
    return holder


def called(method: Any) -> Any:
    """What *method* returns, called without arguments; *method* itself if it is a plain value; or ``None``."""
    if not callable(method) or issubclass(type(method), type):
        return method
    try:
        answer = method()
        if inspect.iscoroutine(answer):
            answer.close()
    except Exception:
        return None
    return answer


def is_exception(value: Any) -> TypeGuard[BaseException]:
    """Whether *value* really is an exception."""
    return issubclass(type(value), BaseException)


def whole_number(value: Any) -> int | None:
    """A whole number of at most 64 bits; a truth value is none."""
    if value is None or not issubclass(type(value), int) or type(value) is bool:
        return None
    number = int.__int__(value)  # a plain int, not a subclass
    return number if -MAX_WHOLE <= number <= MAX_WHOLE else None


def seconds(value: Any, *, most: float, now: float = 0.0) -> float | None:
    """Seconds from 0 to *most*: a number, a ``timedelta``, or a ``datetime`` as counted from *now*; or ``None``."""
    kind = type(value)
    try:
        if issubclass(kind, int) and kind is not bool:
            number = float(min(max(int.__int__(value), 0), int(FOREVER)))  # no float can hold some ints
        elif issubclass(kind, float):
            number = float.__float__(value)
        elif issubclass(kind, timedelta):
            number = timedelta.total_seconds(value)
        elif issubclass(kind, datetime):
            number = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() - now
        else:
            return None
        return None if number != number else float(min(max(number, 0.0), most))  # NaN
    except Exception:  # a foreign time zone
        return None


def plain_text(value: Any) -> str | None:
    """The text of a text, of bytes or of a number, at most ``MAX_VALUE`` characters; or ``None``."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)[:MAX_VALUE]  # a plain str, not a subclass
    if issubclass(kind, bytes):
        return bytes.__getitem__(value, slice(MAX_VALUE)).decode("latin-1")
    if kind is float or (kind is int and abs(value) <= MAX_WHOLE):
        return str(value)
    return None


def items_of(value: Any) -> list[Any]:
    """The first items of a list or tuple, or the first values of a dictionary; of any other object none."""
    if issubclass(type(value), dict):
        return listed(dict.values(value))
    return listed(value) if issubclass(type(value), list | tuple) else []


def listed(value: Any) -> list[Any]:
    """The first items of *value*, which may be iterated without harm; or none."""
    try:
        return list(islice(value, MAX_ITEMS))
    except Exception:
        return []


def texts_of(headers: Any, names: frozenset[str]) -> dict[str, str]:
    """The headers that are in *names*, by name in lower case; of several alike the first.

    A body that can be iterated (that of a ``requests`` response) is none, and is not read.

    Args:
        headers: Any object with ``items``, or a list or tuple of pairs; of texts or bytes.
        names: The names that are wanted, in lower case.
    """
    found: dict[str, str] = {}
    try:
        is_plain = issubclass(type(headers), list | tuple)
        for pair in islice(headers if is_plain else called(attribute_of(headers, "items")) or (), MAX_ITEMS):
            name, text = map(plain_text, pair)
            if name is not None and text is not None and (name := name.lower()) in names:
                found.setdefault(name, text)
    except Exception:  # those that were read count
        return found
    return found
