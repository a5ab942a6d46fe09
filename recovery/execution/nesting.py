"""Whether a recoverable call runs inside another one: read from the stack when a call has given up.

A count that is kept on the way in would burden every call that succeeds.
"""

from __future__ import annotations

import inspect
from types import CodeType

ROLES: dict[CodeType, str] = {}
"""What the frames of a code object are: those of a wrapper around a function, or of a runner's loop."""


def is_nested() -> bool:
    """Whether another recoverable call is around the one that runs: a second frame of one role is on the stack."""
    seen: set[str] = set()
    frame = inspect.currentframe()
    while frame is not None:
        role = ROLES.get(frame.f_code)
        if role is not None:
            if role in seen:
                return True
            seen.add(role)
        frame = frame.f_back
    return False
