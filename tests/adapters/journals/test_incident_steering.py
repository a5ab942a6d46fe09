"""``recovery incidents``: list them, have one probed, or give up the calls that wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.sqlite.orders import read_orders
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitOpened
from events.errors import CallRejectedError
from events.event import Event
from events.evidence import Category
from events.operation_events import Parked
from recovery import JournalConfig, Recovery
from recovery.policies.incidents import open_circuit
from tests.adapters.sqlite import journals
from tests.until import wait_until

QUICK = JournalConfig(command_interval=0.01)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def recovery(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["incidents", *map(str, arguments)])


@contextmanager
def call_that_waits(journal: Path) -> Iterator[tuple[Recovery, list[object]]]:
    """A process whose host is down for an hour, and what becomes of its one call, which waits for that."""
    ended: list[object] = []
    with Recovery(store=SQLiteStore(journal), journal_config=QUICK) as service:
        get = service.recoverable("get", key=lambda host: host, when_open="wait", durability="journal")(
            lambda _: "page"
        )
        service.circuits.open_for("get", 3600.0, key="hub")

        def run() -> None:
            try:
                ended.append(get("hub"))
            except CallRejectedError as error:
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(service.calls.waiting)
        assert service.journal is not None
        service.journal.receipt().wait()
        yield service, ended
        thread.join(5.0)


def test_an_incident_is_listed_and_probed_when_asked(journal: Path) -> None:
    with call_that_waits(journal) as (_, ended):
        listed = recovery(journal)
        assert (listed.exit_code, listed.stdout.startswith("incident get[hub]: ")) == (0, True)
        assert "1 call waits" in listed.stdout
        [row] = msgspec.json.decode(recovery(journal, "--json").stdout)["incidents"]
        assert (row["name"], row["is_open"], len(row["waiting"])) == ("get[hub]", True, 1)
        probed = recovery(journal, "--probe", "hub")
        assert (probed.exit_code, probed.stdout) == (
            0, "incident get[hub]: the next call that waits for it probes now\n",
        )  # fmt: skip
        wait_until(lambda: ended == ["page"])
    assert recovery(journal).stdout == "no incident is open\n"


def test_the_calls_that_wait_for_an_incident_are_given_up(journal: Path) -> None:
    with call_that_waits(journal) as (_, ended):
        given_up = recovery(journal, "--give-up", "get[hub]", "--reason", "no use")
        assert (given_up.exit_code, given_up.stdout) == (0, "incident get[hub]: given up: 1 call that waited for it\n")
        wait_until(lambda: ended)
        again = recovery(journal, "--give-up", "get", "--json")
        [steered] = msgspec.json.decode(again.stdout)["calls"]
        assert (again.exit_code, steered["taken"], steered["said"]) == (1, True, "no call waits for it here")
    assert isinstance(ended[0], CallRejectedError)


def leave(path: Path, *events: Event) -> None:
    of = msgspec.structs.replace(journals.DEAD, wall=time.time(), monotonic=0.0)
    opened = CircuitOpened(
        at=1.0, operation="get", key="hub", after=3600.0, category=Category.UNREACHABLE, cause="unreachable: no"
    )
    journals.write(path, journals.rows_of([opened, *events]), run=of)


def test_a_probe_waits_for_the_next_process(journal: Path) -> None:
    leave(journal)
    for _ in range(2):
        probed = recovery(journal, "--probe", "get")
        said = "it waits for the next start, as no process runs: run the program again, which lets a call probe"
        assert (probed.exit_code, probed.stdout) == (1, f"incident get[hub]: {said}\n")
    assert len(read_orders(journal)) == 1
    with Recovery(store=SQLiteStore(journal), journal_config=QUICK) as service:
        get = service.recoverable("get", key=lambda host: host)(lambda _: "page")
        service.resume()
        wait_until(lambda: not read_orders(journal))
        wait_until(lambda: type(service.circuits.states()["get", "hub"]).__name__ == "HalfOpen")
        assert get("hub") == "page"


def test_the_calls_that_a_dead_process_left_waiting_are_given_up_at_once(journal: Path) -> None:
    waits = Parked(
        at=2.0, operation="get", key="hub", call="dead-1", attempt=1, after=9.0, why=open_circuit("get", "hub")
    )
    leave(journal, msgspec.structs.replace(journals.started("dead-1", "get"), key="hub"), waits)
    given_up = recovery(journal, "--give-up", "hub")
    assert (given_up.exit_code, given_up.stdout) == (0, "incident get[hub]: given up: 1 call that waited for it\n")
    assert (
        recovery(journal, "--give-up", "hub").stderr
        == "recovery: cannot give up incident get[hub]: no call waits for it\n"
    )


@pytest.mark.parametrize(
    ("name", "code", "why"), [("hubb", 1, "no open incident of"), ("get[hab]", 1, "do you mean 'get[hub]'?")]
)
def test_an_unknown_incident_is_refused(journal: Path, name: str, code: int, why: str) -> None:
    leave(journal)
    result = recovery(journal, "--probe", name)
    assert (result.exit_code, why in result.stderr) == (code, True)
