"""Resource claims: which calls may begin with what they need of a disk, a GPU's memory and the like. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

Needs: TypeAlias = Mapping[str, float]
"""What a call still needs, by resource."""

Free: TypeAlias = Callable[[str], float | None]
"""How much of a resource is free, claims not counted; ``None`` if that is unknown now."""

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Shortage(msgspec.Struct, frozen=True):
    """Why a call does not fit.

    Args:
        resource: What is short.
        needed: How much the call needs of it.
        free: How much is free; None if that is unknown.
        claimed: How much of that the admitted calls still need.
        calls: How many calls these are.
        ahead: How many calls that wait for the same resource came earlier.
    """

    resource: str
    needed: float
    free: float | None
    claimed: float
    calls: int
    ahead: int

    def text(self, name: str = "", unit: str = "") -> str:
        """It in words: ``needs 14.2 GB of disk:models; 9.1 GB are free, 12 GB are claimed by 3 calls``.

        Args:
            name: What the resource is called; by default as it is claimed.
            unit: The unit of its amounts.
        """
        free = "how much is free is unknown" if self.free is None else f"{amount(self.free, unit)} are free"
        parts = [free]
        if self.calls:
            parts.append(f"{amount(self.claimed, unit)} are claimed by {_counted(self.calls)}")
        if self.ahead:
            parts.append(f"{_counted(self.ahead)} came earlier")
        return f"needs {amount(self.needed, unit)} of {name or self.resource}; {', '.join(parts)}"


class ResourceClaims:
    """What admitted calls still need of each resource, and the calls in line. First come, first served.

    At each admission all that the admitted calls need of a resource is at most what is free of it. A call in line lets
    no later call with a claim on one of its resources pass: many small calls do not starve a big one.
    """

    def __init__(self) -> None:
        self.admitted: dict[str, dict[str, float]] = {}
        """The needs of the admitted calls."""
        self.line: dict[str, Needs] = {}
        """The needs of the calls in line, the earliest first."""

    def claimed(self, resource: str) -> tuple[float, int]:
        """How much of *resource* the admitted calls still need, and how many calls claim it."""
        claims = [needs[resource] for needs in self.admitted.values() if resource in needs]
        return math.fsum(claims), len(claims)

    def ask(self, call: str, needs: Needs, free: Free) -> Shortage | None:
        """Admit *call*, or put it in line and say what is short. An admitted call stays admitted."""
        if call in self.admitted:
            return None
        shortage = self._shortage(call, needs, free)
        if shortage is None:
            self.force(call, needs)
        else:
            self.line.setdefault(call, needs)
        return shortage

    def _shortage(self, call: str, needs: Needs, free: Free) -> Shortage | None:
        for resource, needed in needs.items():
            left, (claimed, calls), ahead = free(resource), self.claimed(resource), self._ahead(call, resource)
            if ahead or left is None or claimed + needed > left:
                return Shortage(resource, needed, left, claimed, calls, ahead)
        return None

    def _ahead(self, call: str, resource: str) -> int:
        """How many calls in line came before *call* and claim *resource*."""
        earlier = itertools.takewhile(lambda other: other != call, self.line)
        return sum(resource in self.line[other] for other in earlier)

    def admit_next(self, free: Free) -> list[str]:
        """Admit every call in line that fits now, in order; their ids."""
        admitted: list[str] = []
        blocked: set[str] = set()  # by a call that stays in line
        for call, needs in list(self.line.items()):
            if blocked.isdisjoint(needs) and all(self._fits(resource, needs[resource], free) for resource in needs):
                self.force(call, needs)
                admitted.append(call)
            else:
                blocked.update(needs)
        return admitted

    def _fits(self, resource: str, needed: float, free: Free) -> bool:
        left = free(resource)
        return left is not None and self.claimed(resource)[0] + needed <= left

    def force(self, call: str, needs: Needs) -> None:
        """Admit *call*, whether it fits or not."""
        self.line.pop(call, None)
        self.admitted[call] = dict(needs)

    def reduce(self, call: str, resource: str, left: float) -> None:
        """Note that an admitted *call* still needs *left* of *resource*."""
        self.admitted[call][resource] = left

    def release(self, call: str) -> None:
        """Forget *call*: it has ended, or is no longer in line."""
        self.line.pop(call, None)
        self.admitted.pop(call, None)


def amount(number: float, unit: str = "") -> str:
    """*number* for people: ``14.2 GB``, ``3``."""
    for size, prefix in PREFIXES if unit else ():
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.6g} {unit}".rstrip()


def _counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"
