"""Events of calls that a cluster owns: a leg handed back, an outcome held, delivered or superseded."""

from __future__ import annotations

from typing import ClassVar

from events.event import CallEvent


class CallHandedBack(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A leg of a cluster's call is over on this node, and the call is not: any node may begin the next leg.

    Args:
        reason: Why: what the call waits for, or how the node lost it.
        after: Seconds from *at* until the next leg may begin.
    """

    ends: ClassVar[bool] = True

    reason: str = ""
    after: float = 0.0

    @property
    def words(self) -> str:
        """What happened, for people."""
        return f"handed back to the cluster: {self.reason or 'no reason given'}"


class OutcomeHeld(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of a cluster's call is kept in this journal, since the servers have not taken it.

    Its *call* names the outcome: the id of the leg, and " outcome".

    Args:
        of: The id of the call in the cluster.
        fence: The number of the claim under which it ran.
        data: The outcome, as the cluster is to get it.
    """

    of: str
    fence: int
    data: bytes

    @property
    def words(self) -> str:
        """What happened, for people."""
        return "the servers have not taken its outcome: it is kept in this journal"


class OutcomeDelivered(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster has taken an outcome that was held."""

    ends: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What happened, for people."""
        return "the cluster has taken its outcome"


class OutcomeSuperseded(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster does not take an outcome that was held: another claim came after the one under which it ran.

    Args:
        reason: Why, in words.
    """

    ends: ClassVar[bool] = True

    reason: str = ""

    @property
    def words(self) -> str:
        """What happened, for people."""
        return f"the cluster does not take its outcome: {self.reason or 'another claim came later'}"
