"""D11, degraded means in memory: what calls do is tested again with a store that fails.

All tests of calls that take a service are collected here again, with another service.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from adapters.memory import MemoryStore
from recovery.journal.store import Store
from recovery.service import Recovery
from recovery.testing import FaultyStore
from tests.recovery.execution import test_circuits, test_nesting, test_runner
from tests.recovery.execution.runtime import Runtime, runtime
from tests.recovery.journal.stores import Flapping

__all__ = ["runtime"]

STORES = {
    "from the start": lambda: FaultyStore(MemoryStore(), fail_at=1, sticky=True),
    "from the middle": lambda: FaultyStore(MemoryStore(), fail_at=4, sticky=True),
    "flapping": Flapping,
}


@pytest.fixture(params=STORES)
def service(request: pytest.FixtureRequest, runtime: Runtime) -> Iterator[Recovery]:
    store: Store = STORES[request.param]()
    with Recovery(clock=runtime.clock, rng=lambda: 0.5, store=store) as service:
        yield service


QUIET = {"test_a_healthy_call_publishes_nothing"}
"""Not collected: here the journal logs that it cannot be written."""

for name, test in (vars(test_runner) | vars(test_circuits) | vars(test_nesting)).items():
    if name.startswith("test_") and name not in QUIET and "service" in inspect.signature(test).parameters:
        globals()[name.replace("test_", "test_d11_degraded_", 1)] = test
