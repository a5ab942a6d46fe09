"""The page of a service as an ASGI app: alone, or mounted under another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ForwardRef, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.web.access import LOOPBACK, Access, Auth, comes_from_page
from adapters.web.actions import Actions, RefusedError
from adapters.web.headers import App, Receive, Scope, Send, WithHeaders
from adapters.web.source import Done, Source
from adapters.web.state import PageState
from adapters.web.streams import Streams
from recovery.installation import extra
from recovery.service import Recovery

if TYPE_CHECKING:
    from recovery.monitoring.monitor import Monitor
else:
    Monitor = ForwardRef("Monitor", module="recovery.monitoring.monitor")

with extra("web"):
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

Answers: TypeAlias = Callable[[Request], Awaitable[Response]]

STATIC = Path(__file__).parent / "static"

FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""The files of the page, and their types."""

JSON = "application/json"

EVENTS = "text/event-stream"

READ_ONLY = "This page only shows. What it tells you to do with a call is done by the commands of `recovery`."

TO_COME_IN = "open the link that `recovery web` printed when it started; scripts send Authorization: Bearer TOKEN"


def app(
    service: Recovery,
    auth: Auth = None,
    *,
    monitor: Monitor | None = None,
    allowed_hosts: Collection[str] = LOOPBACK,
    is_read_only: bool = False,
) -> App:
    """The page of *service*, for any ASGI server, or to be mounted under another app: its addresses are relative.

        outer.mount("/recovery", app(service, auth=may_steer, allowed_hosts=["launcher.example.org"]))

    Args:
        service: What it shows.
        auth: What admits to the page, and lets steer: a ``Token``, or a function of the Starlette request that says
            whether it may. Without it, every request may read, and none may change anything: then the app around it
            decides which requests reach it.
        monitor: The monitor of the service, for alerts, charts and ``/metrics``: ``service.monitor()``. Without it, a
            call that fails pays nothing for the page.
        allowed_hosts: The host names, without ports, under which browsers reach the page; "*" for any.
        is_read_only: Whether the page only shows.

    Raises:
        TypeError: *auth* is nothing that admits, or *allowed_hosts* is one text.
        ValueError: An allowed host has a scheme, a port or a path.
        ModuleNotFoundError: The extra ``web`` is not installed.
    """
    from adapters.web.service_source import ServiceSource  # here, for a service alone

    return page(ServiceSource(service, monitor), Access(auth, allowed_hosts, is_read_only=is_read_only))


def page(source: Source, access: Access, *, streams: Streams | None = None) -> App:
    """The page of *source*, for the requests that *access* admits.

    Args:
        source: What it shows, and steers.
        access: Which requests it answers.
        streams: Serves ``/events``; by default four updates a second, for at most 64 readers.
    """

    def read() -> PageState:
        state = source.read()
        notes = state.notes if access.may_change else (*state.notes, READ_ONLY)
        return msgspec.structs.replace(state, may_change=access.may_change, notes=notes)

    return WithHeaders(_Page(source, access, streams or Streams(read)))


class _Page:
    def __init__(self, source: Source, access: Access, streams: Streams) -> None:
        self._source = source
        self._access = access
        self._streams = streams
        self._actions = Actions(source)
        self._limiter: anyio.CapacityLimiter | None = None
        self._routes = Starlette(
            routes=[
                Route("/", self._start, methods=["GET"]),
                Route("/state", self._guarded(self._state), methods=["GET"]),
                Route("/events", self._guarded(self._events), methods=["GET"]),
                Route("/metrics", self._guarded(self._metrics), methods=["GET"]),
                Route("/actions", self._guarded(self._changing(self._actions.act)), methods=["POST"]),
                Route("/incidents", self._guarded(self._changing(self._actions.steer_incident)), methods=["POST"]),
                Route("/answers", self._guarded(self._changing(self._actions.answer)), methods=["POST"]),
                Route("/static/{name}", _static, methods=["GET"]),
            ],
            exception_handlers={Exception: _failed},
        )
        self._routes.router.redirect_slashes = False  # its redirects name the host, and http behind a proxy with TLS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._access.knows_host(Request(scope)):
            await self._routes(scope, receive, send)
        else:
            said = "this host name is not allowed here; --allowed-host, or allowed_hosts= of the app, allows one"
            await _refused(421, said)(scope, receive, send)

    def _guarded(self, answer: Answers) -> Answers:
        async def guarded(request: Request) -> Response:
            return await answer(request) if await self._access.admits(request) else _refused(401, TO_COME_IN)

        return guarded

    def _changing(self, change: Callable[[Request], Awaitable[Done]]) -> Answers:
        async def changing(request: Request) -> Response:
            if not self._access.may_change:
                return _refused(403, "this page is read-only: it was begun without the right to steer")
            if not comes_from_page(request):
                return _refused(403, "the request does not come from this page: its Origin is missing or another one")
            try:
                return _json(await change(request))
            except RefusedError as refused:
                return _refused(refused.status, refused.said)

        return changing

    async def _start(self, request: Request) -> Response:
        match self._access.token_in_link(request):
            case True:
                headers = {"location": "./", "set-cookie": self._access.cookie_for(request)}
                return Response(status_code=303, headers=headers)
            case False:
                return PlainTextResponse(f"This link is of an earlier start, or incomplete: {TO_COME_IN}.", 401)
        if not await self._access.admits(request):
            return PlainTextResponse(f"This page needs a token: {TO_COME_IN}.", 401)
        return Response(_contents("page.html"), media_type="text/html")

    async def _state(self, _: Request) -> Response:
        return _json((await self._streams.frame()).now())

    async def _events(self, request: Request) -> Response:
        if self._streams.is_full:
            return _refused(503, f"{self._streams.open} pages are open, and no more are served; close one")
        if request.method == "HEAD":  # asks whether there would be a stream
            return Response(media_type=EVENTS)
        return _Events(self._streams)

    async def _metrics(self, request: Request) -> Response:
        if self._limiter is None:  # one of our own: the shared one may be full of calls
            self._limiter = anyio.CapacityLimiter(1)
        accept = request.headers.get("accept", "")
        found = await anyio.to_thread.run_sync(self._source.metrics, accept, limiter=self._limiter)
        if found is None:
            return _refused(404, "there are no metrics here: they need app(service, monitor=service.monitor())")
        return Response(found[1], headers={"content-type": found[0]})


class _Events(Response):
    """The response that is a stream of events."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(media_type=EVENTS, headers={"x-accel-buffering": "no"})  # nginx passes it on at once
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await self._streams.serve(receive, send, headers)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    return Response(_contents(name), media_type=FILES[name]) if name in FILES else PlainTextResponse("Not Found", 404)


@cache
def _contents(name: str) -> bytes:
    """A file of the page; read once: without a thread of the shared limiter, which may be full of calls."""
    return (STATIC / name).read_bytes()


async def _failed(_request: Request, _error: Exception) -> Response:
    return _refused(500, "the server has failed; its log says why")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)


def _refused(status: int, said: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(msgspec.json.encode({"error": said}), status, headers, media_type=JSON)
