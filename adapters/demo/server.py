"""A real HTTP server on loopback that serves real files, with a fault for each request where wanted.

    with FileServer({"/model.bin": Hosted(content, faults=[Reset(at=0.5), Refuse(503, retry_after=1)])}) as server:
        ...  # the first request is reset half-way, the second gets a 503, later ones are served

It supports ranges (RFC 9110, 14) and entity tags, so that a client can resume, and records every request.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

import msgspec

PIECE = 64 * 1024


class Reset(msgspec.Struct, frozen=True):
    """Reset the connection once *at* (a fraction) of the body is sent."""

    at: float


class Stall(msgspec.Struct, frozen=True):
    """Fall silent for *seconds* once *at* (a fraction) of the body is sent, with the connection open."""

    at: float
    seconds: float


class Refuse(msgspec.Struct, frozen=True):
    """Answer with *status*, and with Retry-After (seconds) if given."""

    status: int
    retry_after: float | None = None


class IgnoreRange(msgspec.Struct, frozen=True):
    """Send the whole file with 200, also in answer to a range."""


class ShiftRange(msgspec.Struct, frozen=True):
    """Answer a range with 206, beginning *by* bytes away from the start of that range."""

    by: int


class NotSatisfiable(msgspec.Struct, frozen=True):
    """Answer 416 with the file's size."""


Fault: TypeAlias = Reset | Stall | Refuse | IgnoreRange | ShiftRange | NotSatisfiable


class Hosted:
    """A file on the server: *content*, sent at *rate* bytes per second. Each of *faults* spoils one request."""

    def __init__(
        self, content: bytes, *, faults: Iterable[Fault] = (), rate: float | None = None, etag: bool = True
    ) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.faults = list(faults)
        self.rate = rate
        self.etag = f'"{self.sha256[:16]}"' if etag else None
        self._lock = threading.Lock()

    def next_fault(self) -> Fault | None:
        """The fault for the next request."""
        with self._lock:
            return self.faults.pop(0) if self.faults else None


class Request(msgspec.Struct):
    """One request: the byte at which its body began, and how many bytes of it were sent."""

    path: str
    status: int
    start: int = 0
    sent: int = 0
    range: str | None = None


class FileServer(ThreadingHTTPServer):
    """Serves *files* by path on 127.0.0.1 at *port* (0: any), as a context manager."""

    daemon_threads = True

    def __init__(self, files: dict[str, Hosted], port: int = 0) -> None:
        self.files = files
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """The root of its URLs."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), name="demo-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away or are killed: this server is made for them."""


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _file_server(self) -> FileServer:
        assert isinstance(self.server, FileServer)
        return self.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing: ``FileServer.requests`` has it all."""

    def do_GET(self) -> None:
        hosted = self._file_server.files.get(self.path)
        if hosted is None:
            self._answer_without_body(404)
            return
        fault = hosted.next_fault()
        match fault:
            case Refuse(status, retry_after):
                self._answer_without_body(status, {} if retry_after is None else {"Retry-After": f"{retry_after:g}"})
            case NotSatisfiable():
                self._answer_without_body(416, {"Content-Range": f"bytes */{len(hosted.content)}"})
            case _:
                self._send_file(hosted, fault)

    def _answer_without_body(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._file_server.requests.append(Request(self.path, status, range=self.headers.get("Range")))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, hosted: Hosted, fault: Fault | None) -> None:
        total = len(hosted.content)
        asked = self._asked(hosted) if not isinstance(fault, IgnoreRange) else None
        if asked is not None and asked >= total:
            self._answer_without_body(416, {"Content-Range": f"bytes */{total}"})
            return
        if asked is not None and isinstance(fault, ShiftRange):
            asked = min(max(asked + fault.by, 0), total - 1)
        start = asked or 0
        noted = Request(self.path, 200 if asked is None else 206, start, range=self.headers.get("Range"))
        self._file_server.requests.append(noted)
        self.send_response(noted.status)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if hosted.etag is not None:
            self.send_header("ETag", hosted.etag)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self._send_body(hosted, fault, noted)

    def _asked(self, hosted: Hosted) -> int | None:
        """The first byte of a range that may be answered with 206, or None for the whole file."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if match is None or (condition is not None and condition != hosted.etag):
            return None
        return int(match[1])

    def _send_body(self, hosted: Hosted, fault: Fault | None, noted: Request) -> None:
        body = memoryview(hosted.content)[noted.start :]
        spoilt_at = int(len(body) * fault.at) if isinstance(fault, Reset | Stall) else None
        began = time.monotonic()
        while noted.sent < len(body):
            if spoilt_at is not None and noted.sent >= spoilt_at:
                spoilt_at = None
                if isinstance(fault, Reset):
                    self._reset()
                    return
                assert isinstance(fault, Stall)
                time.sleep(fault.seconds)
            piece = body[noted.sent : noted.sent + PIECE]
            self.wfile.write(piece)
            noted.sent += len(piece)
            if hosted.rate is not None:
                ahead = noted.sent / hosted.rate - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)

    def _reset(self) -> None:
        # Closing with a linger of no seconds sends RST instead of FIN (socket(7)): the peer sees ECONNRESET.
        # Detached first: socketserver would shut it down in an orderly way.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True
