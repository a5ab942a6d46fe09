"""A server for the page alone: it streams the states that a test gives it, and keeps what the page sends."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Self

import msgspec

from adapters.web.state import PageState

TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'"


class Stage:
    """Serves the page on the loopback while its block lasts.

    Args:
        state: What a stream begins with.
        status: What the server answers a request for the stream with.
    """

    def __init__(self, state: PageState) -> None:
        self.state = state
        self.status = 200
        self.said = "Done"
        self.posts: list[tuple[str, Any]] = []
        self.streams: list[queue.SimpleQueue[bytes | None]] = []
        self.begun = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
        self._server.shutdown()
        self._server.server_close()

    def show(self, state: PageState) -> None:
        """Send the whole *state* to every stream."""
        self.state = state
        self._send("state", msgspec.json.encode(state))

    def change(self, **changed: Any) -> None:
        """Send what has changed to every stream."""
        self._send("change", msgspec.json.encode({"at": self.state.at, **changed}))

    def drop(self) -> None:
        """End every stream."""
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.put(None)

    def _send(self, event: str, data: bytes) -> None:
        for stream in self.streams:
            stream.put(b"event: " + event.encode() + b"\ndata: " + data + b"\n\n")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0].strip("/")
                if path == "events":
                    self._stream()
                elif path == "state":
                    self._answer(200, "application/json", msgspec.json.encode(stage.state))
                else:
                    name = path.removeprefix("static/") or "page.html"
                    file = files("adapters.web").joinpath("static", name)
                    if file.is_file():
                        self._answer(200, TYPES[name.rpartition(".")[2]], file.read_bytes())
                    else:
                        self._answer(404, "text/plain", b"")

            def do_HEAD(self) -> None:
                self.send_response(stage.status)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stage.posts.append((self.path, json.loads(body)))
                self._answer(200, "application/json", json.dumps({"is_done": True, "said": stage.said}).encode())

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                if stage.status != 200:
                    self._answer(stage.status, "text/plain", b"")
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                stream: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
                stream.put(b"event: state\ndata: " + msgspec.json.encode(stage.state) + b"\n\n")
                stage.streams.append(stream)
                stage.begun += 1
                while (data := stream.get()) is not None:
                    try:
                        self.wfile.write(data)
                    except OSError:
                        break
                if stream in stage.streams:
                    stage.streams.remove(stream)

        return Handler
