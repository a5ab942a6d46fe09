"""``Overrides``: the circuits that are forced into a mode by hand, for a while or for good."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from recovery.operations import OperationKey
from recovery.subscribers.ranking import Ranking

Mode: TypeAlias = Literal["auto", "open", "half_open", "closed", "metrics_only"]
MODES: tuple[Mode, ...] = ("auto", "open", "half_open", "closed", "metrics_only")

Held: TypeAlias = Literal["open", "closed", "metrics_only"]
"""The modes that last."""


class Override(NamedTuple):
    """A circuit is in *mode* until that time on the bus's clock."""

    mode: Held
    until: float = math.inf


class Overrides:
    """Forced modes by operation and key. One of a whole operation covers each key without its own. Guard by a lock."""

    def __init__(self) -> None:
        self._overrides: dict[OperationKey, Override] = {}
        self._ends: Ranking[OperationKey, float] = Ranking()

    def __contains__(self, operation_key: OperationKey) -> bool:
        return operation_key in self._overrides

    def __iter__(self) -> Iterator[tuple[OperationKey, Override]]:
        return iter(self._overrides.items())

    def of(self, operation_key: OperationKey, now: float) -> Override | None:
        """What *operation_key* is forced into *now*."""
        if not self._overrides:
            return None
        for one in (operation_key, (operation_key[0], "")):
            found = self._overrides.get(one)
            if found is not None and now < found.until:
                return found
        return None

    def put(self, operation_key: OperationKey, override: Override) -> None:
        """Force *operation_key*."""
        self._overrides[operation_key] = override
        self._ends.put(operation_key, override.until)

    def pop(self, operation_key: OperationKey) -> Override | None:
        """Force *operation_key* no longer: what it was forced into."""
        self._ends.remove(operation_key)
        return self._overrides.pop(operation_key, None)

    def ended(self, now: float) -> list[OperationKey]:
        """Remove the overrides that have ended *now*, and return what they were of."""
        found = []
        while (one := self._ends.first_below(math.nextafter(now, math.inf))) is not None:
            self.pop(one)
            found.append(one)
        return found
