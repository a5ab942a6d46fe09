"""The subscribers of the events of one kind, ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from events.subscription import Subscription

Subscriber: TypeAlias = Callable[[Any], object]
Ready: TypeAlias = tuple[tuple[Subscriber, Subscription | None], ...]
ReadyPair: TypeAlias = tuple[Ready, Ready]
"""The subscribers while the log wants no details, and those while it does."""


class ReadyParts:
    """The subscribers of the parts of operations that a subscription names. Guard it by a lock; ``get`` needs none."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, ReadyPair]] = {}

    def get(self, operation: str, key: str) -> ReadyPair | None:
        """What is ready for exactly that part; ``None`` if nothing is."""
        keys = self._parts.get(operation)
        return None if keys is None else keys.get(key)

    def keep(self, operation: str, key: str, ready: ReadyPair) -> None:
        """Keep what is ready for that part."""
        self._parts.setdefault(operation, {})[key] = ready

    def drop(self, operation: str, key: str) -> None:
        """Forget the part, and all keys of the operation for ""."""
        keys = self._parts.get(operation, {})
        if key:
            keys.pop(key, None)
        if not (key and keys):
            self._parts.pop(operation, None)

    def clear(self) -> None:
        """Forget all parts."""
        self._parts.clear()
