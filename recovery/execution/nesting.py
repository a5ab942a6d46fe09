"""Whether a recoverable call runs inside another one: read from the stack when a call has given up.

A count that is kept on the way in would burden every call that succeeds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

Role = Literal["wrapper", "runner"]

_roles: dict[CodeType, Role] = {}


def has_role(role: Role, function: F) -> F:
    """*function*, whose frames are known from now on as those of a wrapper, or of a runner's loop."""
    _roles[function.__code__] = role
    return function


def is_nested() -> bool:
    """Whether another recoverable call is around the one that runs: a second frame of one role is on the stack."""
    seen: set[Role] = set()
    frame = inspect.currentframe()
    while frame is not None:
        role = _roles.get(frame.f_code)
        if role is not None:
            if role in seen:
                return True
            seen.add(role)
        frame = frame.f_back
    return False
