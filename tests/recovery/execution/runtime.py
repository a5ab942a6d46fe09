"""Every way to call a recoverable function: in a thread, on asyncio and on trio."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from recovery.service import Recovery
from recovery.testing import VirtualClock


class Runtime:
    """Calls a plain function, or an async one in a loop of its own, on a virtual clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = VirtualClock()

    def decorate(self, service: Recovery, script: Callable[[], Any], *args: Any, **settings: Any) -> Any:
        @functools.wraps(script.__call__)
        def plain() -> Any:
            return script()

        @functools.wraps(script.__call__)
        async def task() -> Any:
            return script()

        function: Any = plain if self.name == "plain" else task
        decorated = service.recoverable(*args, **settings)(function)
        if self.name == "plain":
            return decorated
        return lambda: self.clock.run(decorated, backend=self.name)


@pytest.fixture(params=["plain", "asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime(request.param)
