"""A connection to the servers of a cluster: it comes back by itself, and its errors say what to do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adapters.nats.errors import ClusterError, UnreachableError, check_asyncio
from adapters.nats.jetstream import JetStreamEngine
from adapters.nats.jetstream_board import JetStreamBoard
from adapters.nats.link import Link, text_of
from adapters.nats.names import Subjects
from adapters.nats.permissions import inbox_of
from adapters.nats.record import LEASE
from adapters.nats.setup import OLDEST, set_up
from events.own_log import own_log
from recovery.installation import extra

with extra("nats"):
    from nats import errors
    from nats.aio.client import Client

log = own_log("recovery.cluster")

CONNECTED_WITHIN = 10.0
"""Seconds in which the first connection is made."""

NO_ADDRESS = (
    "the address of a cluster is no address of a nats-server: write nats://host:4222, and in a password %2F for /, "
    "%3F for ?, %23 for #, %2C for a comma"
)

CANCELLED_EVERY = 0.1
"""Seconds after which a first connection that is given up, and goes on, is cancelled again."""

TRIED_EVERY: Any = 0.5  # nats-py declares whole numbers, and takes any
"""Seconds between two tries to reach the same server again."""


class _Client(Client):
    """A client that connects again whatever the reason for its end was, a revoked password included."""

    async def _process_err(self, err_msg: str) -> None:
        if self.is_connected and "permissions violation" not in err_msg.lower():
            return await self._process_op_err(errors.Error(f"nats: {err_msg}"))
        return await super()._process_err(err_msg)

    async def _process_connect_init(self) -> None:
        """Make the connection; asyncio tells a protocol that is there before TLS nothing of it, as nats-py uses it."""
        await super()._process_connect_init()
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.get_extra_info("sslcontext") is not None:  # or it warns when it is closed
            writer.transport.get_protocol().connection_made(writer.transport)

    def drop_requests(self) -> None:
        """The answers to what was asked over a connection that is gone do not come."""
        for answer in list((self._resp_map or {}).values()):
            if not answer.done():
                answer.set_exception(errors.StaleConnectionError())


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    prefix: str = "recovery",
    name: str = "",
    replicas: int | None = None,
    credentials: Path | str | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    nkey: Path | str | None = None,
    tls: ssl.SSLContext | None = None,
    inbox: str | None = None,
    lease: float = LEASE,
    within: float = CONNECTED_WITHIN,
) -> AsyncIterator[Link]:
    """Connect to the servers of a cluster, and make its streams where they are missing.

    Args:
        url: Where they are: ``nats://gpu-0:4222``, or several. It may hold a user and a password, or a token.
        prefix: The first token of the cluster's subjects: clusters with others do not see each other.
        name: What the servers show this connection as.
        replicas: How many servers keep each message; None: 3 where several run, or 1. Streams that exist keep theirs.
        credentials: A file with the user's credentials.
        user: The name of the user.
        password: The user's password.
        token: A token in place of a user.
        nkey: A file with the seed of the user's nkey.
        tls: How to trust the servers; for addresses that begin with tls:// or servers that demand it.
        inbox: How the subjects of answers begin; None for ``permissions.inbox`` of the user, or ``_INBOX``.
        lease: Seconds after its last sign of life for which a worker still holds its call.
        within: Seconds in which the first connection must be made.

    Raises:
        UnreachableError: No server has answered *within* so many seconds.
        ValueError: *prefix* is none.
        ForbiddenError: This user may not listen to answers.
        ClusterError: The servers refuse the user, are too old, or their streams do not fit; the message has the cure.
    """
    check_asyncio()
    Subjects(prefix)  # raises before anything is made for it
    addresses, user, password, token = _who([url] if isinstance(url, str) else list(url), user, password, token)
    client = _Client()
    link = Link(client, prefix, ", ".join(address.partition("://")[2] for address in addresses))
    who = {"user": user, "password": password, "token": token, "tls": tls}
    files = {"user_credentials": str(credentials) if credentials else None, "nkeys_seed": str(nkey) if nkey else None}
    options = {**who, **files, "inbox_prefix": inbox or inbox_of(user), "name": name or None}
    await _open(link, client, addresses, {key: value for key, value in options.items() if value is not None}, within)
    try:
        link.is_viewer = not await set_up(link, prefix, replicas)
        link.engine = engine = JetStreamEngine(link, prefix, lease, is_viewer=link.is_viewer)
        link.board = JetStreamBoard(link)
        async with engine.running():
            yield link
    finally:
        await link.connection.close()


async def _open(link: Link, client: _Client, addresses: list[str], options: dict[str, Any], within: float) -> None:
    refused, last = asyncio.get_running_loop().create_future(), [TimeoutError()]

    async def failed(error: Exception) -> None:
        last[:] = [error]  # type: ignore[list-item]
        if "permissions violation" in str(error).lower():
            link.refused(str(error))
        elif "authorization" in str(error).lower() and not refused.done():
            refused.set_result(None)
        log.debug("%s: %s", link.shown, text_of(error))

    async def parted() -> None:
        client.drop_requests()
        if not client.is_closed:
            log.warning("the connection to %s is down; it is tried again until it comes back", link.shown)

    async def returned() -> None:
        log.info("the connection to %s is back", link.shown)
        link.returned()

    opening = asyncio.ensure_future(
        client.connect(
            addresses,
            error_cb=failed,
            disconnected_cb=parted,
            reconnected_cb=returned,
            max_reconnect_attempts=-1,
            reconnect_time_wait=TRIED_EVERY,
            ping_interval=5,
            **options,
        )
    )
    is_open = False
    try:
        await asyncio.wait({opening, refused}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            try:
                opening.result()
                is_open = True
                return
            except (errors.Error, OSError, ValueError) as error:
                last[:] = [error]  # type: ignore[list-item]
    finally:
        if not is_open:  # also where this is cancelled at the moment at which it opens
            await _cancelled(opening)
            client.options["disconnected_cb"] = None
            await client.close()
    if refused.done():
        raise ClusterError(
            f"{link.shown} refuses the user: pass the right user and password, token, nkey or credentials file"
        ) from None
    if isinstance(last[0], ssl.SSLError):
        raise UnreachableError(
            f"TLS fails with {link.shown} ({text_of(last[0])}): pass tls, a context that trusts the authority of the "
            "servers and has the certificate of this client, if they want one (a command: --tls FOLDER)"
        ) from None
    raise UnreachableError(
        f"no server answers at {link.shown} ({text_of(last[0])}): check the address, and that nats-server "
        f"{OLDEST} or newer runs there with JetStream (nats-server -js)"
    ) from None


async def _cancelled(opening: asyncio.Future[None]) -> None:
    """Cancel *opening*: where the connection comes at that moment, asyncio drops a cancellation."""
    while not opening.done():
        opening.cancel()
        await asyncio.wait({opening}, timeout=CANCELLED_EVERY)
    with suppress(BaseException):  # or asyncio says that it was never asked
        opening.result()


def _who(
    urls: list[str], user: str | None, password: str | None, token: str | None
) -> tuple[list[str], str | None, str | None, str | None]:
    """The addresses of *urls*, and the user, password and token to show: those in *urls* where none are given."""
    addresses, found_user, found_password = _addresses(urls)
    user, password = user or found_user, password if password is not None else found_password
    return (addresses, None, None, token or user) if user and password is None else (addresses, user, password, token)


def _addresses(urls: list[str]) -> tuple[list[str], str | None, str | None]:
    """*urls* without the user and the password in them; and these."""
    addresses, user, password = [], None, None
    for url in urls:
        try:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ClusterError(NO_ADDRESS) from None
        if not host or parts.scheme not in ("nats", "tls", "ws", "wss") or "@" in "".join(parts[2:]):
            raise ClusterError(NO_ADDRESS)
        user = user or (unquote(parts.username) if parts.username else None)
        password = password or (unquote(parts.password) if parts.password else None)
        host = f"[{host}]" if ":" in host else host
        addresses.append(f"{parts.scheme}://{host}:{port or 4222}{parts.path if parts.scheme.startswith('ws') else ''}")
    if not addresses:
        raise ClusterError("a cluster needs the address of a nats-server: nats://host:4222")
    return addresses, user, password
