"""Which recoverable call runs here: read from the stack, when somebody asks.

A count or a context variable that is kept on the way in would burden every call that succeeds.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Protocol

ROLES: dict[CodeType, str] = {}
"""What the frames of a code object are: those of a wrapper around a function, or of a runner's loop."""


class Block(Protocol):
    """One attempt of a block of code (``Recovery.attempts``)."""

    frame: FrameType | None

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        ...


running_block: ContextVar[Block | None] = ContextVar("recovery_block", default=None)
"""The innermost block that runs in this context."""


def is_nested() -> bool:
    """Whether another recoverable call is around the one that runs: a second frame of one role is on the stack."""
    seen: set[str] = set()
    block, frame = running_block.get(), inspect.currentframe()
    while frame is not None:
        role = ROLES.get(frame.f_code)
        if role in seen or (block is not None and frame is block.frame):
            return True
        if role is not None:
            seen.add(role)
        frame = frame.f_back
    return False


def attempt_number() -> int | None:
    """The number of the attempt whose body runs in this thread or task; ``None`` if no recoverable call runs here."""
    block, frame = running_block.get(), inspect.currentframe()
    while frame is not None:
        if block is not None and frame is block.frame:
            return block.number
        role = ROLES.get(frame.f_code)
        if role == "wrapper":  # it runs first attempts itself; the runner makes the others
            return 1
        if role == "runner":
            variables = frame.f_locals
            number: int = variables["attempt"].number
            if isinstance(variables, dict):  # before Python 3.13 a copy, which would keep the exception alive
                variables.clear()
            return number
        frame = frame.f_back
    return None
