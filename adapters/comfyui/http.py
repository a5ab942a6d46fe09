"""One request to a ComfyUI server. The one place that tells a dead server from a busy one.

- refused: nothing listens, so the process is dead, and nothing was sent: ``ServerDownError``
- no connection in time, no route, no name, a wrong certificate: nothing was sent: ``ServerBusyError``
- no answer in time, a connection that breaks off, a 5xx: the server is busy, or dying. A request that changes nothing
  raises ``ServerBusyError``; for a POST the outcome is unknown: ``NoAnswerError``
- another status than 2xx: the server refused the request: ``Refused``
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio

from adapters.comfyui.address import Address
from adapters.comfyui.errors import NoAnswerError, Refused, ServerBusyError, ServerDownError
from recovery.installation import extra

with extra("comfyui"):
    import httpx2

NO_BODY = b""
REFUSING_NOTHING = (429,)
"""Of a gateway: it took nothing, and wants to be asked later."""


class Answer(NamedTuple):
    """What a server answered: the status, and the body read as JSON; None for a body that is none."""

    status: int
    body: Any


class Http:
    """Sends requests. Use it as an async context manager.

    It knows no proxy, follows no redirect, keeps no cookie and logs nothing. Each request has a connection of its own:
    on a kept one a dead server could not be told from a busy one, and a new server would cut a request of the old one.

    Args:
        address: Of the server.
        timeout: Seconds for a connection, and twice as many for the whole answer.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._seconds = timeout
        # Not a client: that uses the proxies of the environment, and logs each URL.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=tls_for(address) or False, limits=httpx2.Limits(max_keepalive_connections=0)
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def get(self, path: str, *, method: str = "GET", **query: str) -> Answer:
        """Ask for something; any status below 500 is an answer.

        Raises ServerDownError or ServerBusyError.
        """
        return await self._answer(self._request(method, path, **query), ServerBusyError)

    async def change(self, path: str, body: object) -> Answer:
        """POST what may be sent twice. Raises as ``get``."""
        return await self._answer(self._request("POST", path, body), ServerBusyError)

    async def post_once(self, path: str, body: object) -> Answer:
        """POST what must not be sent twice; any status below 500 is an answer.

        Raises NoAnswerError where it is not known whether the server took it; ServerDownError or ServerBusyError where
        the server has taken nothing.
        """
        return await self._answer(self._request("POST", path, body), NoAnswerError)

    @asynccontextmanager
    async def stream(self, path: str, **query: str) -> AsyncIterator[httpx2.Response]:
        """GET a body that is read in parts: ``timeout`` seconds for each. Raises as ``get``, also within the block."""
        request = self._request("GET", path, **query)
        try:
            response = await self._transport.handle_async_request(request)
            try:
                yield response
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        except httpx2.HTTPError as error:
            raise self._meaning(request, error, ServerBusyError) from error

    def refused(self, asked: str, answer: Answer) -> Refused:
        """The error of an answer that is not 2xx. Its words hold nothing of the body."""
        body = answer.body if isinstance(answer.body, dict) else {}
        return Refused(f"ComfyUI at {self._address.shown} answers {answer.status} to {asked}", answer.status, body)

    def _request(self, method: str, path: str, body: object = None, **query: str) -> httpx2.Request:
        content = None if body is None else json.dumps(body).encode()  # NaN and all: the server reads it
        headers = self._address.headers | ({"Content-Type": "application/json"} if content else {})
        every = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        # No Accept-Encoding: nothing is to be unpacked.
        headers |= {"Accept-Encoding": "identity", "Connection": "close"}
        return httpx2.Request(
            method, self._address.url(path, **query), headers=headers, content=content, extensions={"timeout": every}
        )

    async def _answer(self, request: httpx2.Request, unknown: type[ServerBusyError] | type[NoAnswerError]) -> Answer:
        # In all: an answer may come byte by byte.
        with anyio.move_on_after(2 * self._seconds):
            try:
                response = await self._transport.handle_async_request(request)
                try:
                    text = await response.aread()
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
            except httpx2.HTTPError as error:
                raise self._meaning(request, error, unknown) from error
            status = response.status_code
            if is_busy(status):
                raise (ServerBusyError if status in REFUSING_NOTHING else unknown)(self._words(f"answers {status}"))
            return Answer(status, json_of(text))
        raise unknown(self._words("does not answer in time"))

    def _meaning(
        self, request: httpx2.Request, error: httpx2.HTTPError, unknown: type[ServerBusyError] | type[NoAnswerError]
    ) -> Exception:
        match error:
            case httpx2.ConnectError() if is_refused(error):
                return ServerDownError(self._words("refuses connections"))
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return ServerBusyError(self._words(f"cannot be reached ({type(error).__name__})"))
            case _:
                return unknown(self._words(f"gives no whole answer ({type(error).__name__})"))

    def _words(self, said: str) -> str:
        return f"ComfyUI at {self._address.shown} {said}"


def json_of(data: bytes | str) -> Any:
    """*data* read as JSON, or None. NaN is taken: servers write it for a node that runs each time."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def is_busy(status: int) -> bool:
    """Whether the *status* of an answer says that the server, or a gateway before it, wants to be asked later."""
    return status in REFUSING_NOTHING or status == 408 or status >= 500


def is_refused(error: BaseException) -> bool:
    """Whether *error* says that nothing listens there: on one address of the host at least."""
    return any(isinstance(one, ConnectionRefusedError) for one in _causes(error))


def tls_for(address: Address) -> ssl.SSLContext | None:
    """How an ``https`` server proves itself; None for ``http``. On this machine its certificate may be its own."""
    if not address.is_tls:
        return None
    return httpx2.create_ssl_context(verify=not address.is_loopback)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__
