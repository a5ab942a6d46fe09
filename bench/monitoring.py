"""How a service is watched by the monitor: the one place that knows, for the trees that have one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from recovery import Recovery


def watch(service: Recovery, stack: ExitStack) -> bool:
    """Attach the monitor to *service* until *stack* closes; whether there is one in this tree, and what it needs."""
    monitor: Any = getattr(service, "monitor", None)
    if monitor is None:
        return False
    try:
        stack.callback(monitor().close)
    except ImportError:
        return False
    return True
