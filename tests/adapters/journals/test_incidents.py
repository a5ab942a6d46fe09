"""An incident on the screen: one line, as the service tells it; and a launch whose host is down."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest

from adapters.demo.server import free_port
from adapters.journals.incidents import IncidentLine
from adapters.journals.status import read_status
from adapters.terminal.view import SEEN
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.evidence import Category
from events.incident_events import IncidentClosed
from tests.adapters.cli.test_command import download, recovery
from tests.recovery.test_incidents import Host

HOST = {"operation": "download", "key": "example.org"}
OPENED = CircuitOpened(at=10.0, after=30.0, category=Category.UNREACHABLE, cause="unreachable: OSError: no", **HOST)


@pytest.mark.parametrize("max_retries", [2, 9])
def test_the_line_made_from_events_is_what_the_service_says(max_retries: int) -> None:
    host, shown = Host(max_retries=max_retries), IncidentLine(operation="get", key="host")
    host.service.bus.subscribe(SEEN, shown.take)
    compared: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(host.call, number)
            await anyio.sleep(1.0)
            host.takes = 3.0
            for _ in range(60):
                await anyio.sleep(0.7)
                [incident] = host.service.incidents.open()
                assert shown.line(host.clock()) == f"incident {incident}"
                assert (shown.waiting, len(shown.calls)) == (set(incident.waiting), incident.calls)
                compared.append(str(incident))
            host.is_up = True

    host.run(main)
    ends = {re.sub(r"\d+\.?\d*", "n", line) for line in compared}
    common = "get[host]: unreachable: ConnectionRefusedError; "
    wanted = {f"{common}n calls wait, next probe in n s", f"{common}n calls wait, a probe is under way"}
    wanted |= {f"{common}no call waits, the next may probe in n s, n gave up"} if max_retries == 2 else set()
    assert wanted <= ends
    assert shown.is_open is (max_retries == 2)


def test_an_incident_that_is_over_says_how_it_ended_until_the_next_opens() -> None:
    line = IncidentLine(**HOST)
    assert line.line(0.0) is None
    for event in (OPENED, CircuitClosed(at=70.0, **HOST)):
        line.take(event)
    assert line.line(70.0) is None
    line.take(IncidentClosed(at=70.0, lasted=60.0, calls=3, **HOST))
    over = "incident download[example.org] is over after 1 min, recovered; 3 calls waited"
    assert line.line(999.0) == over
    line.take(OPENED)
    assert "next may probe in 30 s" in (line.line(10.0) or "")


def test_a_circuit_that_only_counts_is_no_incident() -> None:
    line = IncidentLine(**HOST)
    line.take(CircuitOpened(at=0.0, after=30.0, metrics_only=True, **HOST))
    assert line.line(0.0) is None


def test_of_a_dead_process_no_call_waits_and_no_probe_is_under_way() -> None:
    line = IncidentLine(**HOST)
    for event in (OPENED, CircuitHalfOpened(at=40.0, **HOST)):
        line.take(event)
    line.waiting = {"c1"}
    line.abandon()
    assert line.line(35.0) == (
        "incident download[example.org]: unreachable: OSError: no; no call waits, the next may probe in 5 s"
    )
    forced = IncidentLine(**HOST)
    forced.take(CircuitOpened(at=0.0, after=1e9, forced=True, **HOST))
    forced.abandon()
    assert forced.line(0.0) is None


@pytest.mark.slow
def test_thirty_downloads_from_a_closed_port_end_together_as_one_incident(tmp_path: Path) -> None:
    path, host = tmp_path / "launch.toml", f"127.0.0.1:{free_port()}"
    settings = "[retry]\nmax_retries = 2\ninitial_delay = 0.01\n[wait]\nhost = 0\n[circuit]\nbreak_duration = 0.2\n"
    path.write_text(settings + "\n".join(download(f"file-{number}", f"http://{host}") for number in range(30)))
    ended = recovery("run", path)
    assert ended.code == 1
    lines = ended.out.splitlines()
    [incident] = [line for line in lines if line.startswith("incident ")]
    assert incident.startswith(f"incident download[{host}]: unreachable: ConnectError: ")
    assert ", 30 gave up" in incident
    table = lines[lines.index(incident) :]
    assert len(table) <= 2 + 30 + 3  # one line each, but for the calls that probed last
    assert sum(f"gave up with incident {host}" in line for line in table) >= 27
    found = anyio.run(read_status, path.parent / ".recovery" / "launch.db")
    [shown] = found.incidents
    assert (len(shown.calls), shown.gave_up) == (30, 30)
    alone = 0.2 + 0.4 + 0.8  # a call that finds the circuit open: three attempts, each after a break
    assert max(call.seen for call in found.calls) - shown.since <= 2.0 * alone
