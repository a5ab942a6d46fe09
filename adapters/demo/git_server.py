"""A real git server over HTTP (``git http-backend``) whose first requests fail."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
"""Variables with which git sees no settings of this computer."""

PACK = 10_000
"""Bytes from which on an answer is a transfer, and not a list of refs."""


def git(folder: Path, *words: str) -> str:
    """What ``git WORDS`` prints in *folder*. Raises CalledProcessError."""
    settings = ("-c", "user.name=demo", "-c", "user.email=demo@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *settings, *words], cwd=folder, env={**os.environ, **ALONE}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class GitServer(ThreadingHTTPServer):
    """Serves the repositories in *folder* on 127.0.0.1, as a context manager.

    The first requests are answered with *statuses*, and of the first *cuts* transfers only the half is sent.
    """

    daemon_threads = True

    def __init__(self, folder: Path, statuses: Iterable[int] = (), cuts: int = 0) -> None:
        self.folder = folder
        self.statuses = list(statuses)
        self.cuts = cuts
        self.requests = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), name="demo-git-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away or are killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GitServer  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, asked: bytes) -> None:
        self.close_connection = True
        self.server.requests += 1
        if self.server.statuses:
            self._send(self.server.statuses.pop(0), {"Content-Length": "0"}, b"")
            return
        status, headers, body = respond(self, self.server.folder, asked)
        is_cut = self.server.cuts > 0 and len(body) > PACK
        self.server.cuts -= is_cut
        self._send(status, headers, body[: len(body) // 2] if is_cut else body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def respond(request: BaseHTTPRequestHandler, folder: Path, asked: bytes) -> tuple[int, dict[str, str], bytes]:
    """What git answers to *request* with the body *asked* about the repositories in *folder*: status, headers, body."""
    path, _, query = request.path.partition("?")
    environment = {
        **os.environ,
        **ALONE,
        "GIT_PROJECT_ROOT": str(folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(asked)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run(["git", "http-backend"], env=environment, input=asked, capture_output=True, check=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
    status = int(headers.pop("Status", "200").split()[0])
    return status, {**headers, "Content-Length": str(len(body))}, body
