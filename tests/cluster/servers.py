"""Real nats-server processes on the loopback: one, or three that replicate; killed, stopped and started again."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil

from tests.cluster import guardian

PROGRAM = "nats-server"
PORTS = range(20_000, 32_000)
"""Below those that the system gives to connections: a server that starts again must find its port free."""
READY_WITHIN = 30.0
"""Seconds: three servers of a busy machine elect a leader in fewer than ten."""


class MissingError(Exception):
    """The program nats-server is not installed; the text says how to get it."""


def program() -> str:
    """The path of nats-server: that of this environment, or the first of PATH.

    Raises:
        MissingError: There is none.
    """
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise MissingError("this needs nats-server: `make cluster` installs it (the dependency group `cluster`)")
    return found


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback that nothing listens on."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            break
    return found


def configuration(name: str, port: int, monitoring: int, store: Path, more: str = "") -> str:
    """The configuration of one server; *more* is added as it is."""
    return (
        f"server_name: {name}\nlisten: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitoring}\n"
        f"jetstream {{ store_dir: {json.dumps(str(store))} }}\n{more}\n"
    )


class NatsServer:
    """One process of nats-server; a context manager, which starts it and waits until it is ready.

    Args:
        folder: Where its configuration, its log and its store are. They are kept.
        name: Its name; no two servers of a cluster have the same.
        config: Its whole configuration; None for an open server with JetStream.
        more: Added to the configuration: users, certificates, routes.
        ports: The port of clients, and that of monitoring, as *config* has them; None for free ones.
        environ: Variables that the configuration names.
        scheme: How its address begins: "nats" or "tls".
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "one",
        config: str | None = None,
        more: str = "",
        ports: tuple[int, int] | None = None,
        environ: Mapping[str, str] | None = None,
        scheme: str = "nats",
    ) -> None:
        self.name, self.folder = name, folder
        self.port, self.monitoring = ports or free_ports(2)
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.config, self.log, self.store = folder / "nats.conf", folder / "log", folder / "store"
        text = config or configuration(name, self.port, self.monitoring, self.store, more)
        self.config.write_text(text, encoding="utf-8")
        self.servers = [self]
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<{self.name} {self.url}>"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of its present life."""
        assert self._process is not None, f"{self} was not started"
        return self._process

    @property
    def pid(self) -> int:
        """The id of that process."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives and is not stopped."""
        return self._process is not None and self._process.poll() is None and not self._is_stopped

    def start(self) -> None:
        """Start the process, and return at once. The log of an earlier life is kept."""
        with self.log.open("ab") as log:
            command = [program(), "--config", self.config]
            self._process = guardian.start(command, stdout=log, stderr=log, env=self._environ)
        self._is_stopped = False

    def kill(self) -> None:
        """SIGKILL, and wait for its end; nothing if it has ended."""
        if self._process is not None:
            guardian.kill(self._process)

    def terminate(self) -> None:
        """SIGTERM, and wait for its end."""
        self.process.send_signal(signal.SIGTERM)
        guardian.ended(self.process)

    def stop(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        self._is_stopped = True

    def cont(self) -> None:
        """SIGCONT: it goes on, and sees the time that has passed."""
        self.process.send_signal(signal.SIGCONT)
        self._is_stopped = False

    def restart(self) -> None:
        """Kill it if it lives, and start it on the same store and ports; return once it is ready."""
        self.kill()
        self.start()
        self.wait_ready()

    def wait_ready(self, within: float = READY_WITHIN) -> float:
        """Wait until it serves JetStream; returns the seconds that this took.

        Raises:
            AssertionError: It has ended, or is not ready *within* so many seconds; the text has the end of its log.
        """
        return self.wait_until(lambda: self.get("healthz?js-server-only=true").get("status") == "ok", within)

    def wait_until(self, is_so: Callable[[], object], within: float = READY_WITHIN) -> float:
        """Wait until *is_so* returns something true; returns the seconds that this took. Raises AssertionError."""
        began = time.monotonic()
        while not is_so():
            waited = time.monotonic() - began
            assert self.process.poll() is None, f"{self} has ended:\n{self.last_lines()}"
            assert waited < within, f"{self} is not ready after {waited:.0f} s:\n{self.last_lines()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def get(self, path: str, timeout: float = 2.0) -> dict[str, Any]:
        """What its monitoring says, such as "varz"; an empty dictionary if it says nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring}/{path}", timeout=timeout) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return {}
        except OSError:
            return {}
        return found

    def streams(self) -> dict[str, dict[str, Any]]:
        """What it says of each stream that it holds, by name, those of every account."""
        accounts = self.get("jsz?consumers=true&config=true").get("account_details") or []
        return {one["name"]: one for account in accounts for one in account.get("stream_detail") or []}

    def memory(self) -> int:
        """Bytes of real memory (RSS)."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu(self) -> float:
        """Seconds of processor time since this life began."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def last_lines(self, count: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


class NatsCluster:
    """Servers that replicate among each other; a context manager, which starts them and waits for a leader.

    No server tells clients the addresses of the others: a client behind a proxy stays there.

    Args:
        folder: Where each server has its folder.
        size: How many servers.
        more: Added to the configuration of each.
        environ: Variables that the configuration names.
    """

    def __init__(
        self, folder: Path, size: int = 3, *, more: str = "", environ: Mapping[str, str] | None = None
    ) -> None:
        ports = free_ports(3 * size)
        routes = ports[2 * size :]
        listed = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers = [
            NatsServer(
                folder / f"n{at + 1}",
                name=f"n{at + 1}",
                ports=(ports[at], ports[size + at]),
                environ=environ,
                more=f"cluster {{ name: tests, listen: 127.0.0.1:{routes[at]}\n"
                f"  routes: [{listed}]\n  no_advertise: true }}\n{more}",
            )
            for at in range(size)
        ]

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    def __iter__(self) -> Iterator[NatsServer]:
        return iter(self.servers)

    @property
    def urls(self) -> list[str]:
        """The addresses of all servers."""
        return [server.url for server in self.servers]

    @property
    def running(self) -> list[NatsServer]:
        """The servers that live and are not stopped."""
        return [server for server in self.servers if server.is_running]

    def wait_ready(self, within: float = READY_WITHIN) -> float:
        """Wait until each running server knows the leader and is up to date; returns the seconds that this took.

        Raises:
            AssertionError: They are not ready *within* so many seconds.
        """
        began = time.monotonic()
        for server in self.running:
            server.wait_ready(within)
            server.wait_until(lambda server=server: server.get("jsz").get("meta_cluster", {}).get("leader"), within)  # type: ignore[misc]
        return time.monotonic() - began

    def wait_current(self, within: float = READY_WITHIN) -> None:
        """Wait until each stream and consumer has a leader, and the other running servers hold what it holds.

        Raises:
            AssertionError: It is not so *within* so many seconds.
        """
        end = time.monotonic() + within
        while behind := self._behind():
            assert time.monotonic() < end, f"not up to date within {within:.0f} s: {behind}"
            time.sleep(0.05)

    def _behind(self) -> list[str]:
        """The streams that have no leader, or a replica on a running server that holds less than the leader held."""
        running = {server.name: server.streams() for server in self.running}
        led = {
            name: stream
            for server, streams in running.items()
            for name, stream in streams.items()
            if stream.get("cluster", {}).get("leader") == server
        }
        later = {server.name: server.streams() for server in self.running}
        lagging = [
            f"{replica['name']} in {name}"
            for name, stream in led.items()
            for replica in stream["cluster"].get("replicas") or []
            if (held := later.get(replica["name"])) is not None
            and (
                not replica["current"]
                or name not in held
                or held[name]["state"]["last_seq"] < stream["state"]["last_seq"]
            )
        ]
        unled = {
            f"{consumer['name']} of {name}"
            for server, streams in running.items()
            for name, stream in streams.items()
            for consumer in stream.get("consumer_detail") or []
            if consumer.get("cluster") and consumer["cluster"].get("leader") not in running
        }
        return sorted({name for streams in running.values() for name in streams} - led.keys()) + lagging + sorted(unled)

    def leader(self, stream: str | None = None, within: float = READY_WITHIN) -> NatsServer:
        """The running server that leads *stream*, or the cluster itself; waits for an election.

        Raises:
            AssertionError: There is none *within* so many seconds.
        """
        end = time.monotonic() + within
        while time.monotonic() < end:
            for server in self.running:
                if self._led(server, stream) == server.name:
                    return server
            time.sleep(0.02)
        raise AssertionError(f"no leader of {stream or 'the cluster'} within {within:.0f} s")

    @staticmethod
    def _led(server: NatsServer, stream: str | None) -> str:
        if stream is None:
            return str(server.get("jsz").get("meta_cluster", {}).get("leader", ""))
        return str(server.streams().get(stream, {}).get("cluster", {}).get("leader", ""))

    def memory(self) -> int:
        """Bytes of the server that has most."""
        return max(server.memory() for server in self.running)


@contextmanager
def logs_of_a_failure(servers: Iterable[NatsServer]) -> Iterator[None]:
    """Add the end of each server's log to an error of the block."""
    try:
        yield
    except BaseException as error:
        for server in servers:
            error.add_note(f"the log of {server} ({server.log}):\n{server.last_lines()}")
        raise
