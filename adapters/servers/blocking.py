"""A server for plain code: the same, with waits that block."""

from __future__ import annotations

from collections.abc import Sequence

from anyio.from_thread import BlockingPortal

from adapters.servers.server import Server
from adapters.servers.settings import State


class BlockingServer:
    """What ``with launcher.server(...) as server`` of a blocking launcher gives: a ``Server`` whose waits block.

    Args:
        server: The server.
        portal: Runs its waits, in the launcher's thread.
    """

    def __init__(self, server: Server, portal: BlockingPortal) -> None:
        self._server = server
        self._portal = portal

    def __repr__(self) -> str:
        return repr(self._server)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._server.name

    @property
    def url(self) -> str:
        """As ``Server.url``."""
        return self._server.url

    @property
    def port(self) -> int:
        """As ``Server.port``."""
        return self._server.port

    @property
    def pid(self) -> int | None:
        """As ``Server.pid``."""
        return self._server.pid

    @property
    def state(self) -> State:
        """As ``Server.state``."""
        return self._server.state

    @property
    def starts(self) -> int:
        """As ``Server.starts``."""
        return self._server.starts

    @property
    def error(self) -> BaseException | None:
        """As ``Server.error``. The block is not interrupted when it is set: look at it, or call ``until_ready``."""
        return self._server.error

    @property
    def is_ready(self) -> bool:
        """As ``Server.is_ready``."""
        return self._server.is_ready

    @property
    def degraded(self) -> tuple[str, ...]:
        """As ``Server.degraded``."""
        return self._server.degraded

    def until_ready(self) -> None:
        """As ``Server.until_ready``."""
        self._portal.call(self._server.until_ready)

    def until_gone(self) -> None:
        """As ``Server.until_gone``."""
        self._portal.call(self._server.until_gone)

    def refill(self) -> None:
        """As ``Server.refill``."""
        self._portal.call(self._server.refill)

    def restart(self, why: str, more: Sequence[str] = ()) -> None:
        """As ``Server.restart``."""
        self._portal.call(self._server.restart, why, more)
