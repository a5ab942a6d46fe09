"""Whether the healthy calls of an operation are observed: the operation knows it, and any number learn it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from events.parts import WeakParts
from events.signal import EventSignal


class Observed:
    """Whether starts or successes of the operations that share this may have a subscriber."""

    __slots__ = ("is_on",)

    def __init__(self, *, is_on: bool = False) -> None:
        self.is_on = is_on


NAMED = Observed(is_on=True)
"""For an operation whose starts or successes a subscription names."""


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
        # Shared, so that a subscription to all operations takes no walk over them.
        self._any, self._some = Observed(), Observed()
        self.all, self.of = self._members.all, self._members.of

    def add(self, operation: T) -> None:
        """Add *operation*, and tell it what says whether it is observed."""
        self._members.add((operation.name, operation.key), operation)
        operation.observed = self._observed_of(operation)

    def _observed_of(self, operation: T) -> Observed:
        """What tells whether starts or successes of *operation* have a subscriber.

        It is exact for an operation as a whole, whose healthy calls are fast. For a key it is on while there is any
        subscription to such events.
        """
        if operation.key:
            return self._some
        is_named = any(signal.names(operation.name) for signal in self._signals)
        return NAMED if is_named else self._any

    def look_again(self) -> None:
        """Note whether starts and successes have receivers now."""
        self._any.is_on = any(signal.reaches_any for signal in self._signals)
        self._some.is_on = any(signal.receivers for signal in self._signals)

    def changed(self, operation: str | None, key: str) -> None:
        """Note that a receiver of *operation* and *key* came or went: of all operations for None."""
        self.look_again()
        if operation is not None and not key:
            for one in self.of((operation, "")):
                one.observed = self._observed_of(one)
