"""The parts of operations that a change concerns, found without a walk over all others."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

Part: TypeAlias = tuple[str, str]
"""The name of an operation, and one of its keys; the key "" for what has none."""


class Parts:
    """A set of parts. Guard it by a lock."""

    def __init__(self) -> None:
        self._keys: dict[str, set[str]] = {}

    def add(self, part: Part) -> None:
        """Add *part*; idempotent."""
        self._keys.setdefault(part[0], set()).add(part[1])

    def discard(self, part: Part) -> None:
        """Remove *part*, if it is there."""
        keys = self._keys.get(part[0], set())
        keys.discard(part[1])
        if not keys:
            self._keys.pop(part[0], None)

    def within(self, operation: str | None, key: str = "") -> list[Part]:
        """The parts that are of *operation* and *key*: of all keys for "", of all operations for None."""
        # Copies: the collector may run a finalizer here that adds a part.
        if operation is None:
            return [(name, one) for name in list(self._keys) for one in list(self._keys.get(name, ()))]
        keys = self._keys.get(operation, set())
        if key:
            return [(operation, key)] if key in keys else []
        return [(operation, one) for one in list(keys)]


class Reference(weakref.ref[T]):
    """A weak reference that knows the part: ``weakref.KeyedRef`` takes three times as long to make."""

    __slots__ = ("part",)
    part: Part


class WeakParts(Generic[T]):
    """Objects by their part, each for as long as it is referenced elsewhere. Guard it by a lock."""

    def __init__(self) -> None:
        self._references: dict[Part, set[Reference[T]]] = {}
        # The collector may end an object anywhere, also where the lock is held: its reference is removed later.
        self._gone: deque[Reference[T]] = deque()

    def add(self, part: Part, one: T) -> None:
        """Add *one*; idempotent."""
        while self._gone:
            self._remove(self._gone.popleft())
        reference = Reference(one, self._gone.append)
        reference.part = part
        self._references.setdefault(part, set()).add(reference)

    def _remove(self, gone: Reference[T]) -> None:
        references = self._references[gone.part]
        references.discard(gone)
        if not references:
            del self._references[gone.part]

    def of(self, part: Part) -> list[T]:
        """The objects of *part*."""
        # A copy: the collector may run a finalizer here that adds a part.
        found = [reference() for reference in list(self._references.get(part, ()))]
        return [one for one in found if one is not None]

    def all(self) -> list[T]:
        """All objects."""
        return [one for part in list(self._references) for one in self.of(part)]
