"""The jobs of a program that is killed and asks again: each is a call with units of work and a known result."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec

OPERATIONS = ("count", "pay", "send")


class Job(msgspec.Struct, eq=False):
    """A call that the program asks for. What it does follows from its number; the rest is state of one process."""

    operation: str
    number: int
    callers: dict[str, anyio.CancelScope | None] = {}
    """The callers that are inside the call; tasks with their scopes."""
    wants_others: Callable[[], object] = lambda: None
    """Has further callers ask."""
    has_met: bool = False
    """They were asked to."""
    have_joined: anyio.Event | None = None
    """For tasks: all callers have joined, or the call is over."""

    def __str__(self) -> str:
        return f"{self.operation}-{self.number}"

    @property
    def units(self) -> int:
        return 3 + self.number % 4

    @property
    def others(self) -> int:
        """How many callers ask while the body runs."""
        return (0, 2, 3, 1)[self.number // 3 % 4]

    @property
    def fails_after(self) -> int | None:
        """The unit after which the first attempt fails, and is retried."""
        return self.number % 3 if self.number % 5 < 3 else None

    @property
    def has_part(self) -> bool:
        """Whether its body calls another operation that is resumed as well. Then no caller is cut off."""
        return self.operation == "count" and self.number % 2 == 0

    @property
    def result(self) -> str:
        """What each caller must get, as a note."""
        if self.number % 7 == 5 and self.operation != "part":
            return f"ValueError:{self}"
        part = Job("part", self.number)
        return str(sum(map(self.value, range(self.units))) + (int(part.result) if self.has_part else 0))

    def value(self, unit: int) -> int:
        """What a unit of its work is worth."""
        return (self.number + 1) * 100 + unit


def job(number: int) -> Job:
    """The job of that number."""
    return Job(OPERATIONS[number % 3], number)
