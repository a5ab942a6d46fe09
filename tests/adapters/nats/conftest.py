"""A virtual clock for all, and machines on it."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.testing import VirtualClock
from tests.adapters.nats.machines import Machines


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def anyio_backend(clock: VirtualClock) -> Any:
    return clock.backend()


@pytest.fixture
def machines(clock: VirtualClock) -> Machines:
    return Machines(clock)
