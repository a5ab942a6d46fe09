"""A real HTTP server on loopback that takes notifications, or refuses them, or hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from adapters.notifications import Notification

PATH = "/services/T0123/B0456/abcdefgh-the-secret-part"


class Receiver:
    """Answers the first requests with these *statuses*, later ones with 200; None hangs until the end.

    Attributes:
        taken: The notifications that were answered with 200.
        asked: How many requests came.
    """

    def __init__(self, statuses: Iterable[int | None] = (), headers: dict[str, str] | None = None) -> None:
        self.taken: list[Notification] = []
        self.asked = 0
        self._statuses, self._headers = list(statuses), headers or {}
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked += 1
                assert (self.path, self.headers["Content-Type"]) == (PATH, "application/json")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._statuses.pop(0) if receiver._statuses else 200
                if status is None:
                    receiver._over.wait(30.0)
                    return
                if status == 200:
                    receiver.taken.append(msgspec.json.decode(body, type=Notification))
                self.send_response(status)
                for name, value in receiver._headers.items() if status != 200 else ():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{PATH}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
