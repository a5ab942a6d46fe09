"""Conditions, asked of a real disk and of real sockets."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from events.evidence import Category
from events.operation_events import Parked
from recovery.conditions import disk_space, host_reachable, port_free
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery


@pytest.fixture
def server() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def test_free_disk_space_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    assert disk_space(tmp_path, 1).is_met()
    assert not disk_space(tmp_path, shutil.disk_usage(tmp_path).total * 2).is_met()


def test_disk_space_is_measured_where_a_directory_will_be(tmp_path: Path) -> None:
    assert disk_space(tmp_path / "not" / "yet", 1).is_met()


def test_while_a_server_listens_its_port_is_not_free_and_its_host_is_reachable(server: socket.socket) -> None:
    port = port_of(server)
    assert (port_free(port).is_met(), host_reachable("127.0.0.1", port).is_met()) == (False, True)
    server.close()
    assert (port_free(port).is_met(), host_reachable("127.0.0.1", port).is_met()) == (True, False)


def test_a_port_is_free_though_connections_of_a_former_server_linger() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = port_of(listening)
        with socket.create_connection(("127.0.0.1", port)):
            listening.accept()[0].close()  # the side that closes first keeps the port in TIME_WAIT
    assert port_free(port).is_met()


def test_a_host_of_an_unknown_name_is_not_reachable() -> None:
    assert not host_reachable("host.invalid").is_met()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: disk_space("x", -1), "free"),
        (lambda: disk_space("x", float("nan")), "free"),
        (lambda: disk_space("x", True), "free"),
        (lambda: port_free(0), "port"),
        (lambda: port_free(65536), "port"),
        (lambda: port_free("80"), "port"),  # type: ignore[arg-type]
        (lambda: host_reachable("h", 70000), "port"),
        (lambda: host_reachable("h", timeout=0), "timeout"),
        (lambda: host_reachable("https://example.org/x"), "host"),
        (lambda: host_reachable(""), "host"),
        (lambda: host_reachable(5), "host"),  # type: ignore[arg-type]
        (lambda: port_free(80, None), "host"),  # type: ignore[arg-type]
        (lambda: disk_space("", 1), "path"),
        (lambda: disk_space(5, 8), "path"),  # type: ignore[arg-type]
        (lambda: host_reachable("h", every=0), "every"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_the_name_of_its_argument(make: Any, field: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{field} must be"):
        make()


def test_a_call_whose_port_is_taken_waits_until_it_is_free(server: socket.socket) -> None:
    port = port_of(server)
    free = port_free(port, every=0.01)
    service = Recovery(
        policy=RetryPolicy(per_category={Category.ENVIRONMENT: Strategy(wait_for=(free,), backoff=Constant(0.0))})
    )
    service.bus.subscribe(Parked, lambda _: threading.Thread(target=server.close).start())

    @service.recoverable("start server", max_retries=0)
    def start() -> None:
        socket.create_server(("127.0.0.1", port)).close()

    began = time.perf_counter()
    start()
    assert time.perf_counter() - began < 10.0
