"""A virtual clock, and a service on it, for the tests of waiting calls."""

from __future__ import annotations

import pytest

from recovery.service import Recovery
from recovery.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def service(clock: VirtualClock) -> Recovery:
    return Recovery(clock=clock)
