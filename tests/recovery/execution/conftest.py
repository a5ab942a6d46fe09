from __future__ import annotations

import pytest

from recovery.service import Recovery
from tests.recovery.execution.runtime import Runtime, runtime

__all__ = ["runtime"]


@pytest.fixture
def service(runtime: Runtime) -> Recovery:
    return Recovery(clock=runtime.clock, rng=lambda: 0.5)
