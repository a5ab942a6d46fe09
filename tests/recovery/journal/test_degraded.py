"""D11, degraded means in memory: what calls do is tested again with a store that fails.

Every test of ``test_decorator`` that takes a service is collected here once more, with another service.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import pytest

from adapters.memory import MemoryStore
from recovery.journal.store import Row, Store
from recovery.service import Recovery
from recovery.testing import FaultyStore
from tests.recovery.execution import test_decorator
from tests.recovery.execution.test_decorator import Colour, colour

__all__ = ["colour"]


class Flapping(MemoryStore):
    """Fails to write every other time."""

    turns = 0

    async def append(self, rows: Sequence[Row]) -> None:
        self.turns += 1
        if self.turns % 2:
            raise OSError("flap")
        await super().append(rows)


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
"""Not that: the journal says that it cannot be written."""

for name, test in vars(test_decorator).items():
    if name.startswith("test_") and name not in QUIET and "service" in inspect.signature(test).parameters:
        globals()[name.replace("test_", "test_d11_degraded_", 1)] = test
