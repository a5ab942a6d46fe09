"""What every test has: a hypothesis profile, and both async backends."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from recovery.redact import unhide

# What a shell runs in the background ignores Ctrl-C, and so does every process that comes of it: those that tests start
# and interrupt would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", max_examples=50, deadline=None, print_blob=True)  # `make props` has 3000
settings.register_profile("thorough", max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_finish() -> None:
    """Keep the tests out of the collections of garbage, of which each takes a fifth of a second otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def nothing_stays_hidden() -> Iterator[None]:
    """A secret that one test reveals must not mask the texts of another one."""
    yield
    unhide()
