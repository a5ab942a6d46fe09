"""Serve the page of a journal on this machine: a token at each start, a link that holds it, and the server."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import msgspec

from adapters.disk import open_plain, try_lock
from adapters.sqlite.files import open_private, safe_folder_of
from adapters.web.access import LOOPBACK, Access, Token
from adapters.web.asgi import page
from adapters.web.connections import Connection
from adapters.web.headers import App
from adapters.web.journal_source import JournalSource
from adapters.web.source import Source
from adapters.web.streams import STALLED_AFTER
from recovery.installation import extra

with extra("web"):
    import uvicorn

SHUTDOWN = 1
"""Seconds that open requests have at the end; streams never end by themselves."""

SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]

PLAIN = (
    "beyond this machine, plain HTTP shows the token and everything on the page to the network; "
    "`ssh -L PORT:127.0.0.1:PORT HOST`, or a proxy with TLS, hides them"
)


class AddressError(ValueError):
    """The page cannot be served at that address."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A page that is served.

    Args:
        link: What a person opens: the address with the token.
        address: Its address without the token.
        token: What scripts send as a bearer.
        file: The file with the link, which ends with the command.
        warning: What it shows to others; "" if it is served to this machine alone.
    """

    link: str
    address: str
    token: str
    file: str
    warning: str = ""

    def __str__(self) -> str:
        lines = [f"open {self.link}", f"the link is in {self.file}, too; it ends with this command"]
        return "\n".join([*lines, *([f"warning: {self.warning}"] if self.warning else [])])


def serve(
    journal: Path | Source,
    *,
    name: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    allowed_hosts: Collection[str] = (),
    is_read_only: bool = False,
    say: Callable[[Opened], object] = print,
) -> None:
    """Serve the page of *journal* until a signal; call it in the main thread.

    Args:
        journal: The file of the journal, which need not exist yet; or another source, whose link is
            kept in ``.recovery``.
        name: What the page calls it.
        host: The address at which it listens.
        port: The port; 0 takes a free one.
        allowed_hosts: Names besides those of this machine under which browsers reach it.
        is_read_only: Whether the page only shows.
        say: Gets where the page is, once it can be opened; as a text, the lines for a person.

    Raises:
        AddressError: It cannot listen there, or no browser could reach it there.
        ValueError: An allowed host is no name.
        OSError, JournalError: The file with the link cannot be written.
        KeyboardInterrupt, SystemExit: SIGINT; SIGTERM or SIGHUP, after everything has ended.
    """
    hosts = (*LOOPBACK, *_own(host), *allowed_hosts)
    if not (_is_loopback(host) or _own(host) or allowed_hosts):
        raise AddressError(
            f"{host!r} is no name for a browser: add --allowed-host NAME, by which browsers reach the page"
        )
    token = Token()
    access = Access(token, hosts, is_read_only=is_read_only)
    with _listening(host, port) as listener:
        names = (
            [_shown(host)] if _is_loopback(host) else [name for name in (*allowed_hosts, *_own(host)) if name != "*"]
        )
        shown = names[0] if names else "localhost"
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        link = f"{address}?token={token.value}"
        place = journal if isinstance(journal, Path) else Path(".recovery", "cluster.db")
        with _link_file(place, listener.getsockname()[1], link) as file:
            warning = "" if _is_loopback(host) else PLAIN
            say(Opened(link=link, address=address, token=token.value, file=str(file), warning=warning))
            server = _Server(
                _config(page(JournalSource(journal, name) if isinstance(journal, Path) else journal, access))
            )
            asyncio.run(server.serve(sockets=[listener]))
    if server.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    if server.stopped_by:
        raise SystemExit(128 + server.stopped_by)


def _config(asgi: App) -> uvicorn.Config:
    return uvicorn.Config(
        asgi,
        http=Connection,
        log_level="critical",  # its access log would hold the token; errors are in the log of the page
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN,
    )


class _Server(uvicorn.Server):
    """Ends by a signal in good order: the one of uvicorn ends the process in the middle of ours."""

    stopped_by = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.stopped_by = number
            self.handle_exit(number, frame)

        former = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens at *host*. A connection that takes no bytes for ``STALLED_AFTER`` seconds is ended.

    Raises AddressError.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        cure = "; --port 0 takes a free one" if port else ""
        raise AddressError(f"cannot listen at {host}, port {port}: {why}{cure}") from error
    with listener:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; what is accepted has it, too
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALLED_AFTER * 1000))
        yield listener


@contextmanager
def _link_file(journal: Path, port: int, link: str) -> Iterator[Path]:
    """The file with the link, beside the journal, while the page is served; only its user can read it (0600)."""
    folder = safe_folder_of(journal)
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("web-*.link"):
        _remove_if_left(left)
    file = folder / f"web-{port}.link"
    file.unlink(missing_ok=True)  # the port was free
    descriptor = open_private(file, os.O_WRONLY | os.O_EXCL)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        with suppress(OSError):  # a file system without locks
            try_lock(descriptor)
        opened.write(f"{link}\n")
        opened.flush()
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)


def _remove_if_left(file: Path) -> None:
    """Remove the *file* of a process that was killed: one that lives keeps it locked."""
    if os.name != "posix":  # no file is locked there
        return
    with suppress(OSError):
        descriptor = open_plain(file)
        try:
            if try_lock(descriptor):
                file.unlink()
        finally:
            os.close(descriptor)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _own(host: str) -> tuple[str, ...]:
    """*host* as a browser names it, unless it stands for every address of the machine."""
    try:
        return () if ipaddress.ip_address(host).is_unspecified else (_shown(host),)
    except ValueError:
        return (host,) if host else ()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
