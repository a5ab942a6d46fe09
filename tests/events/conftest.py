from __future__ import annotations

import pytest

from events.bus import Bus
from events.operation import Operation
from tests.events.calls import operation


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def fetch() -> Operation:
    """An operation whose failures have no answer."""
    return operation()
