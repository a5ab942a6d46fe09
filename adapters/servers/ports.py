"""Ports of servers: whether one is free, which process holds it, and which one a server had the last time."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adapters.disk import decode_plain, write_whole
from events.errors import Permanent
from recovery.installation import extra

with extra("launcher"):
    import psutil

PORTS = range(10_000, 32_768)
"""The ports to choose from: below those that systems give to outgoing connections, which come and go."""

MOST_BYTES = 64


class PortTakenError(Permanent):
    """The port of a server is held by another process. The message is one line."""


def is_free(port: int, host: str) -> bool:
    """Whether a server could listen on *port*: of each address of *host*, and of all addresses at once."""
    for family, address in _addresses(host):
        with socket.socket(family, socket.SOCK_STREAM) as server:
            if os.name == "posix":  # as servers do, to ignore connections of a former server
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True


def free_port(host: str) -> int:
    """A port on which a server of *host* could listen now. Raises OSError if there is none."""
    for _ in range(len(PORTS)):
        if is_free(port := random.choice(PORTS), host):  # no secret
            return port
    raise OSError(errno.EADDRINUSE, f"no port of {PORTS.start} to {PORTS.stop - 1} is free")


def listeners(port: int) -> list[int]:
    """The ids of the processes that listen on *port*, as far as the system tells: not those of other users."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.Error:  # macOS tells them to root alone
        return []
    return [
        one.pid
        for one in found
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
    ]


def holder_of(port: int) -> str:
    """Which process listens on *port*, for a message."""
    with suppress(psutil.Error):  # it is over
        for pid in listeners(port):
            return f"process {pid} ({psutil.Process(pid).name()})"
    return "another process, perhaps of another user,"


class LastPort:
    """The file with the port that a server had the last time: clients, and a launcher after a kill, find it again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int | None:
        """The port, or ``None`` if there is none yet."""
        with suppress(OSError, ValueError):
            port = decode_plain(self._path, int, MOST_BYTES)
            return port if 0 < port < 65536 else None
        return None

    def write(self, port: int) -> None:
        """Note *port*. Where that cannot be written, a killed launcher's server is ended by the next one."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, str(port).encode())


def _addresses(host: str) -> Iterator[tuple[socket.AddressFamily, str]]:
    yield socket.AF_INET, "0.0.0.0"  # nothing listens there: it is only asked for
    with suppress(OSError):
        for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            if family in (socket.AF_INET, socket.AF_INET6):
                yield family, str(address[0])
