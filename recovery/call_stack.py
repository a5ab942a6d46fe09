"""Which recoverable call runs here: read from the stack, only when it is asked.

A count or a context variable that is kept on the way in would burden every call that succeeds.
"""

from __future__ import annotations

import contextlib
import inspect
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Protocol

ROLES: dict[CodeType, str] = {}
"""What the frames of a code object are: of a wrapper, of a runner's loop, or of a call that is made ``ONCE``."""

ONCE = "once"
"""The role of a call while recovery is switched off: it has one attempt, and is no call around another."""


class Block(Protocol):
    """One attempt of a block of code (``Recovery.attempts``)."""

    frame: FrameType | None
    outer: Block | None

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        ...


running_block: ContextVar[Block | None] = ContextVar("recovery_block", default=None)
"""The innermost block that runs in this context."""


def innermost(block: Block | None) -> Block | None:
    """*block*, or the nearest one around it that still runs."""
    while block is not None and block.frame is None:
        block = block.outer
    return block


def calling_frame() -> FrameType | None:
    """The frame of the code that enters a block: that of the ``with``, not of an ``ExitStack``."""
    here = inspect.currentframe()
    frame = None if here is None or here.f_back is None else here.f_back.f_back
    del here  # a frame that holds itself is a cycle
    while frame is not None and frame.f_code.co_filename == contextlib.__file__:
        frame = frame.f_back
    return frame


def _running_blocks() -> dict[FrameType, Block]:
    """The blocks that run in this context, by their frames; the innermost of a frame."""
    found: dict[FrameType, Block] = {}
    block = running_block.get()
    while block is not None:
        if block.frame is not None:
            found.setdefault(block.frame, block)
        block = block.outer
    return found


def is_nested() -> bool:
    """Whether another recoverable call is around the one that runs: a second frame of one role is on the stack."""
    seen: set[str] = set()
    blocks, frame = _running_blocks(), inspect.currentframe()
    while frame is not None:
        role = ROLES.get(frame.f_code)
        if (role in seen and role != ONCE) or frame in blocks:
            return True
        if role is not None:
            seen.add(role)
        frame = frame.f_back
    return False


def attempt_number() -> int | None:
    """The number of the attempt whose body runs in this thread or task; ``None`` if no recoverable call runs here."""
    blocks, frame = _running_blocks(), inspect.currentframe()
    while frame is not None:
        if frame in blocks:
            return blocks[frame].number
        role = ROLES.get(frame.f_code)
        if role in ("wrapper", ONCE):  # a wrapper runs first attempts itself; the runner makes the others
            return 1
        if role in ("runner", "compiled"):
            variables = frame.f_locals
            number: int = variables["number"] if role == "compiled" else variables["attempt"].number
            if isinstance(variables, dict):  # before Python 3.13 a copy, which would keep the exception alive
                variables.clear()
            return number
        frame = frame.f_back
    return None
