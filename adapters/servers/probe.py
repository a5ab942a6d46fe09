"""Ask a server whether it is ready: by HTTP, past every proxy."""

from __future__ import annotations

import ssl
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self

import anyio

from recovery.installation import extra

with extra("launcher"):
    import httpx2

TIMEOUT = 5.0
"""Seconds after which a server that has accepted a connection counts as busy."""


class Kind(Enum):
    """What an answer means."""

    READY = "ready"  # 2xx
    OTHER = "other"  # another status: it lives
    NONE = "none"  # no answer in time, or a broken one: it is busy, or stuck
    REFUSED = "refused"  # nothing listens


class Answer(NamedTuple):
    """What a server answered. *said* follows "it"."""

    kind: Kind
    said: str


class Probe:
    """Asks servers whether they are ready. Use it as an async context manager."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        # Not a client: that uses the proxies of the environment, and logs each request. Nothing secret is sent.
        self._transport = httpx2.AsyncHTTPTransport(verify=False)
        self._seconds = timeout

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def ask(self, url: str) -> Answer:
        """GET *url*. The body is not read: it may have no end."""
        # In all, not for each read: an answer may come byte by byte.
        with anyio.move_on_after(self._seconds):
            return await self._answer_of(httpx2.Request("GET", url))
        return Answer(Kind.NONE, "does not answer in time")

    async def _answer_of(self, request: httpx2.Request) -> Answer:
        try:
            response = await self._transport.handle_async_request(request)
            await response.aclose()
        except httpx2.ConnectError as error:
            if _is_of_tls(error):
                return Answer(Kind.NONE, "accepts connections, and does not speak TLS: it may serve http, not https")
            return Answer(Kind.REFUSED, "refuses connections")
        except httpx2.HTTPError as error:
            return Answer(Kind.NONE, f"gives no whole answer ({type(error).__name__})")
        status = response.status_code
        return Answer(Kind.READY if 200 <= status < 300 else Kind.OTHER, f"answers {status}")


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
