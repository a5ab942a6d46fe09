from __future__ import annotations

import pytest

from adapters.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
