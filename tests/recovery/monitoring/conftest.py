"""A clock that the monitor and its events share, and a monitor of a service or of a bare bus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events.bus import Bus
from recovery.monitoring.monitor import Monitor
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.recovery.monitoring.monitored import service_on


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def service(clock: VirtualClock) -> Recovery:
    return service_on(clock)


@pytest.fixture
def monitor(service: Recovery) -> Monitor:
    """The monitor of ``service``."""
    return service.monitor()


@pytest.fixture
def bus(clock: VirtualClock) -> Bus:
    return Bus(clock=clock)


@pytest.fixture
def bus_monitor(bus: Bus) -> Iterator[Monitor]:
    with Monitor(bus) as monitor:
        yield monitor
