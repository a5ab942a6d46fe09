from __future__ import annotations

import pytest

from recovery.service import Recovery
from tests.recovery.execution.runtime import Runtime


@pytest.fixture(params=["plain", "asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime(request.param)


@pytest.fixture
def service(runtime: Runtime) -> Recovery:
    return Recovery(clock=runtime.clock, rng=lambda: 0.5)
