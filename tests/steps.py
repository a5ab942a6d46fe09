"""How much work something is, as a count: the same on a busy machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec

P = ParamSpec("P")


def steps_of(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> int:
    """How many Python instructions *work*, called with the arguments, runs on this thread, those of loops included."""
    steps = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    previous = sys.gettrace()
    gc.disable()  # what other tests left would be finalized in the middle of the work, and be counted
    sys.settrace(trace)
    try:
        work(*args, **kwargs)
    finally:
        sys.settrace(previous)
        gc.enable()
    return steps
