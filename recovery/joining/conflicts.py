"""Two calls with one idempotency key and different arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from events.errors import CallRejectedError
from recovery.joining.shared_call import SharedCall
from recovery.redact import brief

if TYPE_CHECKING:
    from recovery.serialization.arguments import ArgumentCodec

MOST_PRINTED = 300
"""Characters of a call's arguments in the error about a conflict."""


def has_other_arguments(
    shared: SharedCall, codec: ArgumentCodec, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether the arguments of *shared* are known, and others than *args* and *kwargs*."""
    if shared.args is None or shared.args is args:
        return False
    try:
        return codec.identity(args, kwargs) != codec.identity(shared.args, shared.kwargs)
    except (ValueError, TypeError):
        return False  # they cannot be compared


def conflict(
    shared: SharedCall, codec: ArgumentCodec, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CallRejectedError:
    """The error of a call with *args* and *kwargs* while *shared*, with its key, is under way with other arguments."""
    first, second = codec.named(shared.args or (), shared.kwargs), codec.named(args, kwargs)
    equal = [name for name in first if name in second and first[name] == second[name]]
    shown = [
        _printed({name: value for name, value in one.items() if (name in equal) is is_equal})
        for one, is_equal in ((first, False), (second, False), (second, True))
    ]
    return CallRejectedError(
        shared.name,
        f"another call for the same thing is under way with other arguments: {shared} has {shown[0]}, this one "
        f"{shown[1]}; wait for its end, or cancel it (both have {shown[2]})",
    )


def _printed(values: dict[str, Any]) -> str:
    return brief(", ".join(f"{name.lstrip('_')}={_text_of(value)}" for name, value in values.items()), MOST_PRINTED)


def _text_of(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # of a user's class
        return f"a {type(value).__name__}"
