"""Conditions of this machine and its network: room on a disk, a free port, a host that answers.

For ``Park`` and ``Strategy``:

    Strategy(wait_for=(disk_space("models", 8_000_000_000),), wait_timeout=3600.0)
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

from events.conditions import Condition
from recovery import validation


def disk_space(path: str | os.PathLike[str], free: float, *, every: float = 5.0) -> Condition:
    """At least *free* bytes are available to us on the file system of *path*.

    Args:
        path: A file or a folder, which need not exist yet.
        free: Bytes.
        every: Seconds between two checks.

    Raises:
        TypeError: *path* is no path, or a number has another type.
        ValueError: A number is out of range.
    """
    needed = validation.number("free", free)
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"path must be a path that is not empty, not {path!r}")
    place = Path(path).absolute()
    return Condition(
        f"{needed:.0f} bytes free at {place}", lambda: disk_usage(place).free >= needed, blocks=True, every=every
    )


class DiskUsage(NamedTuple):
    """The bytes of a file system: all of them, and those that are available to us."""

    total: int
    free: int


def disk_usage(path: str | os.PathLike[str]) -> DiskUsage:
    """How full the file system of *path* is; *path* need not exist yet."""
    import shutil  # here: it imports compressors, which takes milliseconds

    found = shutil.disk_usage(existing(path))
    return DiskUsage(found.total, found.free)


def device_of(path: str | os.PathLike[str]) -> int:
    """A number of the file system of *path*, which need not exist yet."""
    return existing(path).stat().st_dev


def existing(path: str | os.PathLike[str]) -> Path:
    """*path*, or the nearest folder above it that exists."""
    place = Path(path).absolute()
    return next(one for one in (place, *place.parents) if one.exists())


def port_free(port: int, host: str = "127.0.0.1", *, every: float = 1.0) -> Condition:
    """A server could listen on *port* of *host*.

    Args:
        port: From 1 to 65535.
        host: An address of this machine.
        every: Seconds between two checks.

    Raises:
        TypeError: *host* is no text, or *port* no whole number.
        ValueError: *port* is out of range, or *host* has a scheme or a path.
    """
    _check_address(host, port)

    def is_met() -> bool:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as server:
            if os.name == "posix":
                # As servers do, to ignore connections of a former server. On Windows it would steal the port.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(address)
            except OSError:
                return False
        return True

    return Condition(f"port {port} of {host} free", is_met, blocks=True, every=every)


def host_reachable(host: str, port: int = 443, *, timeout: float = 3.0, every: float = 5.0) -> Condition:
    """*host* accepts a TCP connection on *port*.

    Args:
        host: A name or an address.
        port: From 1 to 65535.
        timeout: Seconds that the connection may take.
        every: Seconds between two checks.

    Raises:
        TypeError: *host* is no text, or a number has another type.
        ValueError: A number is out of range, or *host* has a scheme or a path.
    """
    _check_address(host, port)
    validation.number("timeout", timeout, above=0.0)

    def is_met() -> bool:
        try:
            with socket.create_connection((host, port), timeout):
                return True
        except OSError:
            return False

    return Condition(f"{host}:{port} reachable", is_met, blocks=True, every=every)


def _check_address(host: object, port: object) -> None:
    if validation.whole("port", port, least=1) > 65535:
        raise ValueError(f"port must be at most 65535, not {port!r}")
    if not isinstance(host, str):
        raise TypeError(f"host must be a name or an address, not {host!r}")
    if not host or set(host) & set("/@ "):
        raise ValueError(f"host must be a name or an address without a scheme or a path, not {host!r}")
