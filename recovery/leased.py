"""Calls that a cluster owns: run one leg of a call under a lease, and keep outcomes that cannot be delivered.

operation = leased.operation(service, "render")
ending = await operation.run(leased.LeasedCall(id="render/job-7", fence=12, arguments=data))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from recovery.leased_calls import (
    Cancelled,
    Ending,
    Failed,
    LeasedCall,
    Postponed,
    Succeeded,
    after_death,
    later,
    retried,
)

if TYPE_CHECKING:
    from recovery.service import Recovery

__all__ = [
    "Cancelled",
    "Ending",
    "Failed",
    "HeldOutcome",
    "LeasedCall",
    "LeasedOperation",
    "Postponed",
    "Succeeded",
    "after_death",
    "hand_back",
    "held",
    "hold",
    "later",
    "operation",
    "retried",
    "settle",
    "why_quarantined",
]

KEEP = 2.0
"""Seconds of a wait that a leg waits itself, by default."""


class HeldOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that the cluster has not taken yet.

    Args:
        call: The id of the call in the cluster.
        fence: The fence under which it ran.
        data: The outcome, as it was given to ``hold``.
    """

    call: str
    fence: int
    data: bytes


class LeasedOperation:
    """An operation of a service, for the legs of its calls. Made by ``operation``."""

    name: str
    version: str
    is_async: bool
    cluster: str
    """The setting ``cluster``: "optional" or "required"."""

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments of a call as JSON. Raises TypeError or ValueError."""
        raise NotImplementedError

    def decode(self, arguments: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What ``encode`` was given. Raises ValueError."""
        raise NotImplementedError

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The idempotency key of a call with these arguments; "" for none."""
        raise NotImplementedError

    def encode_result(self, result: object) -> bytes:
        """A result as JSON. Raises ValueError."""
        raise NotImplementedError

    def decode_result(self, data: bytes) -> Any:
        """What ``encode_result`` was given. Raises ValueError."""
        raise NotImplementedError

    async def run(self, call: LeasedCall, *, keep: float = KEEP) -> Ending:
        """Run one leg of *call*; waits of at most *keep* seconds are waited for here."""
        raise NotImplementedError


def operation(service: Recovery, name: str) -> LeasedOperation:
    """The operation *name* of *service*. Raises LookupError, which lists the names that it has."""
    raise NotImplementedError


def why_quarantined(operation: LeasedOperation, call: LeasedCall, came_further: bool = False) -> str | None:
    """Why a person must look at *call* first, whose node died in a leg that began as *call* says; None if it goes on."""
    raise NotImplementedError


def hand_back(service: Recovery, local_id: str, reason: str) -> bool:
    """End the leg soon, without an outcome: its ending is Postponed(after=0, why=reason). Returns whether it runs.

    An async body is cancelled; a plain one sees ``context.cancelled()``. From any thread.
    """
    raise NotImplementedError


def hold(service: Recovery, call: str, fence: int, data: bytes) -> HeldOutcome:
    """Keep the outcome of *call* until the cluster takes it; in the service's journal, if it has a store."""
    raise NotImplementedError


def held(service: Recovery) -> list[HeldOutcome]:
    """The outcomes that the cluster has not taken, those of dead processes of this journal included."""
    raise NotImplementedError


def settle(service: Recovery, outcome: HeldOutcome, superseded: str | None = None) -> None:
    """*outcome* was delivered; or it is not accepted, and *superseded* says why."""
    raise NotImplementedError
