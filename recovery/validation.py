"""Checks of values at definition: one clear error that names the field."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import UnionType

from events.evidence import Category


def number(field: str, value: object, *, least: float = 0.0, above: float | None = None) -> float:
    """*value* as a float, if it is a finite number.

    Args:
        field: The name of the value in errors.
        value: The value.
        least: The smallest value that is allowed.
        above: A bound that the value must exceed; it replaces *least*.

    Raises:
        TypeError: The value is no int or float; a bool is neither.
        ValueError: The value is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number, not {value!r}")
    if not abs(value) <= sys.float_info.max:  # infinite, a NaN, or an int that no float can hold
        raise ValueError(f"{field} must be finite, not {value!r:.40}")
    if above is not None and value <= above:
        raise ValueError(f"{field} must be greater than {above:g}, not {value!r}")
    if above is None and value < least:
        raise ValueError(f"{field} must be at least {least:g}, not {value!r}")
    return float(value)


def whole(field: str, value: object, *, least: int = 0) -> int:
    """*value*, if it is an int of at least *least*. Raises TypeError or ValueError as ``number`` does."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{field} must be at least {least}, not {value!r}")
    return value


def choice(field: str, value: object, choices: tuple[str, ...]) -> str:
    """*value*, if it is one of *choices*; otherwise ValueError, with the one that was meant."""
    if value not in choices:
        import difflib  # here, for the error alone

        close = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else ()
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{field} must be one of {', '.join(map(repr, choices))}, not {value!r}{meant}")
    return str(value)


def category(field: str, value: object) -> Category:
    """The category of that name; otherwise ValueError."""
    return Category(choice(field, value, tuple(map(str, Category))))


def items(field: str, value: object, *, single: type | UnionType | tuple[()] = ()) -> tuple[object, ...]:
    """The items of *value*, if it is a collection and no text; otherwise TypeError.

    A value of the type *single* is the only item.
    """
    if isinstance(value, single):
        return (value,)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{field} must be a collection, not {value!r}")
    return tuple(value)


def flags(given: Mapping[str, object]) -> None:
    """Raise TypeError for a value that is neither True nor False nor ``None``."""
    for field, value in given.items():
        if not isinstance(value, bool | None):
            raise TypeError(f"{field} must be True or False, not {value!r}")
