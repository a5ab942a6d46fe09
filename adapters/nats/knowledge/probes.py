"""``Probes``: the right of this node to probe a circuit, asked of the cluster by compare-and-set. From any thread."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

LEASE = 10.0
"""Seconds for which a node that probes is believed to live, unless it says so again."""

UNUSED = 2.0
"""Seconds after which the right to probe is given back if no call probes."""

ANSWER = 1.0
"""Seconds for which a call waits for the right to probe; then it probes all the same: the servers do not answer."""


class Claim(msgspec.Struct):
    """The right to probe: asked for at *asked*; granted at *granted*, None before, and held until *until*."""

    asked: float
    granted: float | None = None
    until: float = 0.0


class Probes:
    """The claims of one node, by operation and key.

    Args:
        clock: Reads monotonic seconds.
        claim: Asks the cluster for the right to probe, and does not wait for the answer.
    """

    def __init__(self, clock: Callable[[], float], claim: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._claim = claim
        self._claims: dict[tuple[str, str], Claim] = {}

    def ask(self, operation: str, key: str) -> float:
        """Seconds for which a call waits before it asks again whether it may probe; 0.0 if it may."""
        now, claim = self._clock(), self._claims.get((operation, key))
        if claim is not None and claim.granted is None:
            return max(claim.asked + ANSWER - now, 0.0)
        if claim is not None and now < claim.until:
            return 0.0
        self._claims[operation, key] = Claim(now)
        self._claim(operation, key)
        return ANSWER

    def granted(self, operation: str, key: str) -> bool:
        """Note that this node may probe, from now on for a lease. Returns whether it could not before."""
        now, claim = self._clock(), self._claims.get((operation, key))
        since = None if claim is None else claim.granted
        self._claims[operation, key] = Claim(now, now if since is None else since, now + LEASE)
        return since is None

    def end(self, operation: str, key: str) -> bool:
        """Note that this node may not probe, or has probed. Returns whether it had asked."""
        return self._claims.pop((operation, key), None) is not None

    def is_unused(self, operation: str, key: str) -> bool:
        """Whether a call that was to probe has had the time to begin."""
        claim = self._claims.get((operation, key))
        return claim is None or claim.granted is None or claim.granted + UNUSED < self._clock()
