"""The flag that a healthy call tests: whether starts or successes of its operation have a subscriber.

Many operations share one flag, so a subscription to all of them sets one, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from events.parts import WeakParts
from events.signal import EventSignal


class Observed:
    """A flag that operations share: whether their starts or successes may have a subscriber."""

    __slots__ = ("is_on",)

    def __init__(self, *, is_on: bool = False) -> None:
        self.is_on = is_on


NAMED = Observed(is_on=True)
"""The flag of operations that a subscription to starts or successes names: it is always on."""


class Member(Protocol):
    """What ``Members`` needs of an operation."""

    name: str
    key: str
    observed: Observed


T = TypeVar("T", bound=Member)


class Members(Generic[T]):
    """The operations on one bus, each for as long as it is referenced elsewhere. Guard it by a lock.

    Args:
        signals: Those of starts and successes.
    """

    def __init__(self, signals: Sequence[EventSignal]) -> None:
        self._signals = signals
        self._members: WeakParts[T] = WeakParts()
        # Of operations that no subscription names, and of keys.
        self._any, self._some = Observed(), Observed()
        self.all, self.of = self._members.all, self._members.of

    def add(self, operation: T) -> None:
        """Add *operation*, and give it its flag."""
        self._members.add((operation.name, operation.key), operation)
        operation.observed = self._observed_of(operation)

    def _observed_of(self, operation: T) -> Observed:
        """The flag of *operation*.

        It is exact for an operation as a whole, whose healthy calls must be fast. For a key it is on while there is any
        subscription to starts or successes, also to those of others.
        """
        if operation.key:
            return self._some
        is_named = any(signal.names(operation.name) for signal in self._signals)
        return NAMED if is_named else self._any

    def look_again(self) -> None:
        """Set the shared flags, by the receivers of starts and successes that there are now."""
        self._any.is_on = any(signal.reaches_any for signal in self._signals)
        self._some.is_on = any(signal.receivers for signal in self._signals)

    def changed(self, operation: str | None, key: str) -> None:
        """Set the flags after a receiver of *operation* and *key* came or went; None: of all operations."""
        self.look_again()
        if operation is not None and not key:
            for one in self.of((operation, "")):
                one.observed = self._observed_of(one)
