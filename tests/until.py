"""Wait for what another thread does: with real threads there is no virtual clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], object], within: float = 10.0) -> None:
    """Return as soon as *is_so* returns something true; fail after *within* seconds."""
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, f"not so within {within} s"
        time.sleep(0.001)
