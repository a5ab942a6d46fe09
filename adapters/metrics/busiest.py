"""Which keys have series of their own: the busiest ones. The others are counted together. Pure.

A counter of Prometheus must never fall, though keys come and go. So what a key has counted while it was shown stays in
its own series, and what it has counted otherwise stays in that of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from recovery.monitoring.windows import OTHER
from recovery.operations import OperationKey

S = TypeVar("S", bound=Hashable)

MOST_KEYS = 20
"""Keys with series of their own."""

HALF_LIFE = 3600.0
"""Seconds after which the activity of a key counts half."""

LEAD = 2.0
"""How many times as busy as a shown key another one must be to take its place: series that come and go show gaps."""


class _Key(msgspec.Struct, Generic[S], eq=False):
    """One key: how busy it is, the *latest* counts, and those from while it was shown."""

    activity: float = 0.0
    latest: dict[S, float] = msgspec.field(default_factory=dict)
    own: defaultdict[S, float] = msgspec.field(default_factory=lambda: defaultdict(float))


class Busiest(Generic[S]):
    """Shares counts out between the busiest keys and "other", so that each share only grows.

    An operation as a whole, with the key "", always has counts of its own.

    Args:
        most: How many keys are shown.
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self.shown: frozenset[OperationKey] = frozenset()
        """The keys that have counts of their own."""
        self._most = most
        self._at: float | None = None
        self._keys: defaultdict[OperationKey, _Key[S]] = defaultdict(lambda: _Key())
        self._others: defaultdict[str, defaultdict[S, float]] = defaultdict(lambda: defaultdict(float))

    def name_of(self, key: OperationKey) -> OperationKey:
        """The key as it is shown: itself, or the others of its operation."""
        return key if self._has_own(key) else (key[0], OTHER)

    def _has_own(self, key: OperationKey) -> bool:
        return not key[1] or key in self.shown

    def share(
        self, counts: Mapping[OperationKey, Mapping[S, float]], activity: Iterable[S], now: float
    ) -> dict[OperationKey, Mapping[S, float]]:
        """The counts of each key that is shown, and of the others of each operation.

        Args:
            counts: Everything that each key has counted so far.
            activity: The counts whose sum tells how busy a key is.
            now: The time in seconds.
        """
        activity = tuple(activity)
        fade = 1.0 if self._at is None else 0.5 ** (max(now - self._at, 0.0) / HALF_LIFE)
        self._at = now
        grown = {key: self._grown(key, of) for key, of in counts.items()}
        for key, more in grown.items():
            one = self._keys[key]
            one.activity = one.activity * fade + sum(more.get(name, 0.0) for name in activity)
        self.shown = self._choose()
        for key, more in grown.items():
            into = self._keys[key].own if self._has_own(key) else self._others[key[0]]
            for name, number in more.items():
                into[name] += number
        shown: dict[OperationKey, Mapping[S, float]] = {
            (operation, OTHER): of for operation, of in self._others.items()
        }
        return shown | {key: one.own for key, one in self._keys.items() if self._has_own(key)}

    def _grown(self, key: OperationKey, counts: Mapping[S, float]) -> dict[S, float]:
        """By how much each of *counts* has grown since last time. One that fell counts on from its greatest value."""
        latest = self._keys[key].latest
        grown = {name: max(number - latest.get(name, 0.0), 0.0) for name, number in counts.items()}
        latest.update({name: max(number, latest.get(name, 0.0)) for name, number in counts.items()})
        return grown

    def _choose(self) -> frozenset[OperationKey]:
        keys = {key: one for key, one in self._keys.items() if key[1] not in ("", OTHER)}
        lead = {key: one.activity * (LEAD if key in self.shown else 1.0) for key, one in keys.items()}
        return frozenset(sorted(lead, key=lambda key: (-lead[key], key))[: self._most])
