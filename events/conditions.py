"""What a parked call waits for: a named condition, polled until it holds."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from events.callables import is_async


class Condition(msgspec.Struct, frozen=True, eq=False):
    """A cause that can go away. Two conditions of one name are the same condition: one waiting call polls it for all.

    Args:
        name: What the cause is called.
        is_met: Says whether it has gone away; a plain function without arguments. If it raises, that means no.
        blocks: Whether *is_met* may take long (a connection, a network disk): it then runs in a thread of its own.
        every: Seconds between two polls.

    Raises:
        TypeError: A field has a wrong type, or *is_met* is a coroutine function.
        ValueError: The name is empty, or *every* is not positive and finite.
    """

    name: str
    is_met: Callable[[], object]
    blocks: bool = False
    every: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a str, not {self.name!r}")
        if not self.name:
            raise ValueError("name must not be empty")
        if not callable(self.is_met) or is_async(self.is_met):
            raise TypeError(f"is_met must be a plain function without arguments, not {self.is_met!r}")
        if isinstance(self.every, bool) or not isinstance(self.every, int | float):
            raise TypeError(f"every must be a number, not {self.every!r}")
        if not 0.0 < self.every < math.inf:
            raise ValueError(f"every must be greater than 0 and finite, not {self.every!r}")

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.name == other.name

    def __ne__(self, other: object) -> bool:  # the one of msgspec compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)
