"""The state machine of a cluster on a real server: the steps of the one in memory, with waits of a second."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from adapters.nats.connection import connect
from tests.adapters.nats.steps import CONNECTIONS, OFTEN, STEPS, Steps
from tests.cluster.servers import NatsServer

LEASE = 1.0
WAITS = (0.5, 0.0, 0.3)
PASSES = (0.1, 0.5)
STEPS_OF_ONE = 15

Step: TypeAlias = tuple[str, dict[str, Any]]

_SUBMITTED: Step = ("submit", {"key": "order-17", "priority": "normal", "affinity": "", "cut": None, "between": None})
_STEP = st.one_of([st.tuples(st.just(name), st.fixed_dictionaries(STEPS[name])) for name in [*STEPS, *OFTEN]])


@pytest.mark.timeout(300)
# Without shrinking, which would take an hour: the machine in memory finds the same faster.
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_STEP, min_size=STEPS_OF_ONE, max_size=STEPS_OF_ONE))
def test_no_call_is_lost_and_none_ends_twice(server: NatsServer, steps: list[Step]):
    asyncio.run(_run(server, [_SUBMITTED, *steps]))


async def _run(server: NatsServer, steps: list[Step]) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(connect(server.url, prefix=prefix, lease=LEASE)) for _ in range(CONNECTIONS)
        ]
        engines = iter([link.engine for link in links])
        taken = Steps(engines.__next__, asyncio.sleep, WAITS, PASSES)
        for name, arguments in steps:
            note(f"{name} {arguments}")
            await getattr(taken, name)(**arguments)
            await taken.check()
        await taken.finish()
        assert taken.ended >= 1
