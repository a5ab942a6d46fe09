"""D11, degraded means in memory: what calls do is tested again with a store that fails.

All tests of ``test_decorator`` that take a service are collected here again, with another service.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from adapters.memory import MemoryStore
from recovery.journal.store import Store
from recovery.service import Recovery
from recovery.testing import FaultyStore
from tests.recovery.execution import test_decorator
from tests.recovery.execution.test_decorator import Colour, colour
from tests.recovery.journal.stores import Flapping

__all__ = ["colour"]

STORES = {
    "from the start": lambda: FaultyStore(MemoryStore(), fail_at=1, sticky=True),
    "from the middle": lambda: FaultyStore(MemoryStore(), fail_at=4, sticky=True),
    "flapping": Flapping,
}


@pytest.fixture(params=STORES)
def service(request: pytest.FixtureRequest, colour: Colour) -> Iterator[Recovery]:
    store: Store = STORES[request.param]()
    with Recovery(clock=colour.clock, rng=lambda: 0.5, store=store) as service:
        yield service


QUIET = {"test_a_healthy_call_says_nothing"}
"""Not collected: here the journal logs that it cannot be written."""

for name, test in vars(test_decorator).items():
    if name.startswith("test_") and name not in QUIET and "service" in inspect.signature(test).parameters:
        globals()[name.replace("test_", "test_d11_degraded_", 1)] = test
