"""A clock that the monitor and its events share."""

from __future__ import annotations

import pytest

from recovery.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)
