"""Serve an app by the real uvicorn, on loopback, in a thread, and ask it as browsers, scripts and attackers do."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import msgspec
import uvicorn

from adapters.web.access import Token
from adapters.web.connections import Connection
from tests.until import wait_until

TOKEN = Token("a token of tests, long enough")
BEARER = {"authorization": f"Bearer {TOKEN.value}"}
JSON = {"content-type": "application/json"}


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Served(msgspec.Struct, frozen=True):
    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cookie(self) -> dict[str, str]:
        return {"cookie": f"recovery-{self.port}={TOKEN.cookie}"}

    @property
    def browser(self) -> dict[str, str]:
        """What a browser sends with a change that the page itself makes."""
        return self.cookie | JSON | {"origin": self.origin}

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] = BEARER,
        *,
        method: str = "GET",
        body: bytes | Iterator[bytes] | None = None,
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, value: object, headers: Mapping[str, str]) -> Answer:
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        return self.ask(path, headers, method="POST", body=body)

    def sent(self, data: bytes) -> bytes:
        """What comes in answer to *data*, as it stands, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def stream(self) -> Stream:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": f"127.0.0.1:{self.port}", **BEARER}.items())
        connection.sendall(f"GET /events HTTP/1.1\r\n{lines}\r\n".encode())
        return Stream(connection)


class Stream:
    """A reader of ``/events``."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""

    def until(self, end: bytes) -> bytes:
        """What comes until *end*, which is included; raises EOFError if the server ends first."""
        while end not in self._data:
            more = self.connection.recv(65536)
            if not more:
                raise EOFError(self._data)
            self._data += more
        found, end, self._data = self._data.partition(end)
        return found + end

    def head(self) -> bytes:
        return self.until(b"\r\n\r\n")

    def event(self) -> tuple[str, Any]:
        """The next event: its name, and its data. Chunks of HTTP end between events."""
        while True:
            lines = self.until(b"\n\n").split(b"\n")
            if any(line.startswith(b"event: ") for line in lines):
                name = next(line for line in lines if line.startswith(b"event: "))[7:].decode()
                data = next(line for line in lines if line.startswith(b"data: "))[6:]
                return name, msgspec.json.decode(data)

    def close(self) -> None:
        self.connection.close()


@contextmanager
def serving(
    app: Any, *, port: int = 0, send_buffer: int | None = None, http: type[Connection] = Connection
) -> Iterator[Served]:
    """Serve *app* meanwhile; a small *send_buffer* lets a reader that does not read stall soon."""
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        config = uvicorn.Config(
            app,
            http=http,
            log_level="critical",
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=0,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Served(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
