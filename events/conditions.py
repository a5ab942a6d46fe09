"""What a parked call waits for: a named question to the world, asked again until the answer is yes."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from events.callables import is_async


class Condition(msgspec.Struct, frozen=True, eq=False):
    """A cause that can go away, named *name*; *is_met* says whether it has.

    *is_met* takes no argument, and anything true means yes; if it raises, that counts as no. One that may take long (a
    connection, a disk of the network) *blocks*: it is then asked in a thread of its own. It is asked *every* so many
    seconds by one of those who wait, whoever they are: two conditions of one name are the same condition.

    Raises TypeError or ValueError, naming the field, for what cannot be asked.
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

    def __hash__(self) -> int:
        return hash(self.name)
