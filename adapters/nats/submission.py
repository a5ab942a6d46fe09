"""What is checked of a call before it is submitted. Pure."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from adapters.nats.errors import ClusterLimitError
from adapters.nats.names import PRIORITIES, Name, Priority, checked, name_of
from adapters.nats.record import MAX_PAYLOAD, CallRecord, Change, too_large
from adapters.nats.transitions import submitted
from events.callables import name_of as shown
from events.errors import CallRejectedError
from recovery.leased import LeasedOperation

RESERVED = ("idempotency_key", "affinity", "priority")
"""Keyword arguments that ``Cluster.submit`` takes for itself."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a program wants of a call, but for its arguments.

    Args:
        idempotency_key: Its key; None for what the operation makes of the arguments.
        affinity: The only node that may run it; None for any.
        priority: How urgent it is; None for "normal".
    """

    idempotency_key: str | None = None
    affinity: str | None = None
    priority: Priority | None = None


def check_clash(operation: LeasedOperation, wish: Wish) -> None:
    """Raise TypeError if it is unclear whether something of *wish* is meant for the function."""
    given = [name for name in RESERVED if getattr(wish, name) is not None]
    parameters = inspect.signature(operation.function).parameters
    clash = next((name for name in given if name in parameters), None)
    if clash is not None:
        raise TypeError(
            f"{clash!r} is a parameter of {shown(operation.function)} and an option of submit, so it is unclear which "
            f"is meant: use submit_call({operation.name!r}, args, kwargs, {clash}=...)"
        )


class NewCall(msgspec.Struct, frozen=True):
    """A call that is to be submitted, checked.

    Args:
        name: What it is called.
        data: Its arguments.
        digest: What tells them from others.
        operation: Its operation.
        wish: What is wanted of it.
    """

    name: Name
    data: bytes
    digest: str
    operation: LeasedOperation
    wish: Wish

    def change(self, now: float, by: str) -> Change:
        """What is written for it at the time *now*, *by* this node."""
        return submitted(
            self.name,
            self.data,
            now,
            digest=self.digest,
            version=self.operation.version,
            priority=self.wish.priority or "normal",
            affinity=self.wish.affinity or "",
            by=by,
        )

    def check_same(self, record: CallRecord) -> str:
        """A warning if *record*, with its key, has other arguments; "" if it has the same.

        Raises:
            CallRejectedError: It has others, and the operation says ``on_conflict="reject"``.
        """
        if record.digest == self.digest:
            return ""
        conflict = (
            f"{record.call} was submitted with other arguments (it stands at: {record.state}); its key belongs to it "
            "until seven days after its end"
        )
        if self.operation.on_conflict == "reject":
            raise CallRejectedError(self.operation.name, conflict)
        return f"{conflict}: its result is that of both"


def new_call(operation: LeasedOperation, args: tuple[Any, ...], kwargs: dict[str, Any], wish: Wish) -> NewCall:
    """The call of *operation* with these arguments.

    Raises:
        TypeError: The arguments do not fit the function, or an option has a wrong type.
        ValueError: The arguments cannot be written as JSON, or an option is not allowed.
        ClusterLimitError: The arguments are too large, or the key or a name is too long.
    """
    for option in ("idempotency_key", "affinity"):
        if not isinstance(value := getattr(wish, option), str | None):
            raise TypeError(f"{option} must be a text or None, not {value!r}")
    if wish.priority is not None and wish.priority not in PRIORITIES:
        raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {wish.priority!r}")
    data = operation.encode(args, kwargs)
    if len(data) > MAX_PAYLOAD:
        cure = "pass where the data is, not the data"
        raise ClusterLimitError(f"{operation.name}: {too_large('the arguments', len(data), MAX_PAYLOAD, cure)}")
    key = wish.idempotency_key
    try:
        name = name_of(operation.name, operation.key_of(args, kwargs) if key is None else key)
        if wish.affinity:
            checked("the name of the node", wish.affinity)
    except ValueError as error:
        raise ClusterLimitError(f"{operation.name}: {error}") from None
    return NewCall(name, data, operation.digest(args, kwargs), operation, wish)
