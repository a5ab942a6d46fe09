"""A real HTTP server on loopback that serves real files, with a fault for each request where wanted.

    with FileServer({"/model.bin": Hosted(content, faults=[Reset(at=0.5), Answer(503)])}) as server:
        ...  # the first request is reset half-way, the second gets a 503, later ones are served

It supports ranges (RFC 9110, 14) and entity tags, so that a client can resume, and records every request.
"""

from __future__ import annotations

import array
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

import msgspec

try:
    import fcntl
    import termios
except ImportError:
    fcntl = termios = None  # type: ignore[assignment]

PIECE = 64 * 1024
MOST_FOR_DELIVERY = 1.0
"""Seconds that a reset waits until what was sent has arrived."""


class Reset(msgspec.Struct, frozen=True):
    """Reset the connection once *at* (a fraction) of the body is sent."""

    at: float


class Stall(msgspec.Struct, frozen=True):
    """Fall silent for *seconds* once *at* (a fraction) of the body is sent, with the connection open."""

    at: float
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """Answer with exactly this, and close the connection."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


Fault: TypeAlias = Reset | Stall | Answer
Headers: TypeAlias = "Message[str, str]"


class Hosted:
    """A file on the server: *content* of that *media* type, sent at *rate* bytes per second.

    Each of *faults* spoils one request.
    """

    def __init__(
        self, content: bytes, *, faults: Iterable[Fault] = (), rate: float | None = None, media: str = ""
    ) -> None:
        self.content = content
        self.media = media
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.faults = list(faults)
        self.rate = rate
        self.etag: str | None = f'"{self.sha256[:16]}"'

    def fault(self, headers: Headers) -> Fault | None:  # others decide by them
        """How the next request, with these headers, fails, if it does."""
        return self.faults.pop(0) if self.faults else None


class Request(msgspec.Struct):
    """One request: the byte at which its body began, and how many bytes of it were sent."""

    path: str
    status: int
    start: int = 0
    sent: int = 0


class FileServer(ThreadingHTTPServer):
    """Serves *files* by path on 127.0.0.1 at *port* (0: any), as a context manager."""

    daemon_threads = True

    def __init__(
        self, files: dict[str, Hosted], port: int = 0, handler: Callable[..., BaseHTTPRequestHandler] | None = None
    ) -> None:
        self.files = files
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", port), handler or Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), name="demo-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away or are killed: this server is made for them."""


def unacknowledged(connection: socket.socket) -> int:
    """How many bytes *connection* has sent that its peer has not acknowledged; 0 where the system does not say."""
    count = array.array("i", [0])
    if fcntl is not None and termios is not None:
        with suppress(OSError):
            fcntl.ioctl(connection, termios.TIOCOUTQ, count)  # the number of SIOCOUTQ: tcp(7)
    return count[0]


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Handler(BaseHTTPRequestHandler):
    """Serves the files of a `FileServer`."""

    protocol_version = "HTTP/1.1"
    server: FileServer  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing: ``FileServer.requests`` has it all."""

    def do_GET(self) -> None:
        """Serve a file, or a range of it, as its next fault allows."""
        hosted = self.server.files.get(self.path)
        if hosted is None:
            self._answer(Answer(404))
            return
        fault = hosted.fault(self.headers)
        start, total = self._start_of_range(hosted), len(hosted.content)
        if isinstance(fault, Answer):
            self._answer(fault)
        elif start is not None and start >= total:
            self._answer(Answer(416, {"Content-Range": f"bytes */{total}"}))
        else:
            self._send_file(hosted, fault, start)

    def do_HEAD(self) -> None:
        """Say how large a file is, as uv asks for a wheel. It offers no ranges: uv wants kinds that GET has not."""
        hosted = self.server.files.get(self.path)
        headers = {"Content-Length": str(len(hosted.content))} if hosted else {"Connection": "close"}
        self._send_head(200 if hosted else 404, headers)

    def _answer(self, answer: Answer) -> None:
        self.server.requests.append(Request(self.path, answer.status))
        self._send_head(answer.status, {**answer.headers, "Connection": "close"})
        self.wfile.write(answer.body)

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _start_of_range(self, hosted: Hosted) -> int | None:
        """The first byte of a range that may be answered with 206, or None for the whole file."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match and self.headers.get("If-Range", hosted.etag) == hosted.etag else None

    def _send_file(self, hosted: Hosted, fault: Reset | Stall | None, range_start: int | None) -> None:
        start, total = range_start or 0, len(hosted.content)
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(total - start)}
        if range_start is not None:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if hosted.media:
            headers["Content-Type"] = hosted.media
        if hosted.etag is not None:
            headers["ETag"] = hosted.etag
        request = Request(self.path, 200 if range_start is None else 206, start)
        self.server.requests.append(request)
        self._send_head(request.status, headers)
        body, began = memoryview(hosted.content)[start:], time.monotonic()
        while request.sent < len(body):
            if fault is not None and request.sent >= int(len(body) * fault.at):
                if isinstance(fault, Reset):
                    self._reset()
                    return
                time.sleep(fault.seconds)
                fault = None
            piece = body[request.sent : request.sent + PIECE]
            self.wfile.write(piece)
            request.sent += len(piece)
            if hosted.rate is not None:
                time.sleep(max(0.0, request.sent / hosted.rate - (time.monotonic() - began)))

    def _reset(self) -> None:
        # A reset discards what the peer has not acknowledged yet: then a fast sender would leave it a few bytes only.
        deadline = time.monotonic() + MOST_FOR_DELIVERY
        while unacknowledged(self.connection) and time.monotonic() < deadline:
            time.sleep(0.001)
        # Closing with a linger of no seconds sends RST instead of FIN (socket(7)): the peer sees ECONNRESET.
        # Detached first: socketserver would shut it down in an orderly way.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True
