"""A server to practise with: what it serves fails on purpose, in the same way each time."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from adapters.demo.git_server import git
from adapters.demo.git_server import respond as respond_as_git
from adapters.demo.painter import REPOSITORY, make_painter, painter_files, safetensors
from adapters.demo.server import Answer, Fault, FileServer, Handler, Headers, Hosted, Reset

PORT = 8765
TOKEN = "let-me-in"  # of no use elsewhere

TABLE = {
    "flaky": "503, 503, then a page; again and again",
    "busy": "429 with Retry-After: 1, then a page",
    "down": "503, always",
    "missing": "404",
    "model.safetensors": "2 MB; a transfer from the start is reset half-way",
    "slow.safetensors": "2 MB at 250 KB/s",
    "private.safetensors": f"1 MB; 401 without the token {TOKEN}",
    "app.git": "a repository of git",
    "models/": "base, vae and lora.safetensors, 2 MB each; lora at 250 KB/s",
    REPOSITORY: "an application: a server that paints with the package brush",
    "simple/": "a package index, which has brush",
}
"""What is below the server's URL, and how it fails."""

IN_A_REPOSITORY = re.compile(r"/\w+\.git/")


class Page(Hosted):
    """A page that answers one request after another as *answers* say, from the beginning again after the last.

    None stands for the page itself.
    """

    def __init__(self, *answers: Answer | None) -> None:
        super().__init__(b"a page\n", media="text/plain")
        self._answers = answers
        self._requests = 0
        self._lock = threading.Lock()

    def fault(self, headers: Headers) -> Fault | None:
        """How the next request fails, if it does."""
        with self._lock:
            self._requests += 1
            return self._answers[(self._requests - 1) % len(self._answers)]


class Model(Hosted):
    """A file of *size* bytes, of which *fault_of* spoils some requests, by their headers."""

    def __init__(self, size: int, fault_of: Callable[[Headers], Fault | None], *, rate: float | None = None) -> None:
        super().__init__(safetensors(size), rate=rate)
        self._fault_of = fault_of

    def fault(self, headers: Headers) -> Fault | None:
        """How a request with these headers fails, if it does."""
        return self._fault_of(headers)


class PracticeServer(FileServer):
    """Serves what `TABLE` lists on 127.0.0.1, as a context manager; its repositories are made in *folder*.

    Args:
        folder: An empty folder. Without git on the machine, there are none.
        port: Where to listen; 0 means any free port. OSError if another process listens there.
        said: Takes a line for each request: ``GET /flaky 503``.
        seconds: How long a picture of the application takes.
    """

    def __init__(
        self, folder: Path, port: int = PORT, said: Callable[[str], None] = lambda _: None, *, seconds: float = 2.0
    ) -> None:
        super().__init__(_hosted(), port, _PracticeHandler)
        self.folder = folder
        self.said = said
        try:
            _make_repository(folder / "app.git")
            make_painter(folder, seconds=seconds)
        except FileNotFoundError:
            self.said("there is no program git, so there is no repository")


class _PracticeHandler(Handler):
    server: PracticeServer  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.said(f"{self.command} {self.path} {int(code)}")

    def do_GET(self) -> None:  # noqa: N802  # the base class calls it so
        if IN_A_REPOSITORY.match(self.path):
            self.respond_as_git(b"")
        else:
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802  # the base class calls it so
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if IN_A_REPOSITORY.match(self.path):
            self.respond_as_git(asked)
        else:
            super().do_GET()

    def respond_as_git(self, asked: bytes) -> None:
        self.close_connection = True
        status, headers, body = respond_as_git(self, self.server.folder, asked)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _hosted() -> dict[str, Hosted]:
    refused, busy = Answer(503, {"Content-Length": "0"}), Answer(429, {"Retry-After": "1", "Content-Length": "0"})
    denied = Answer(401, {"WWW-Authenticate": "Bearer", "Content-Length": "0"})
    return {
        **dict(painter_files()),
        "/flaky": Page(refused, refused, None),
        "/busy": Page(busy, None),
        "/down": Page(refused),
        "/model.safetensors": Model(2_000_000, lambda headers: None if "Range" in headers else Reset(at=0.5)),
        "/slow.safetensors": Model(2_000_000, lambda _: None, rate=250_000.0),
        "/private.safetensors": Model(
            1_000_000, lambda headers: None if headers.get("Authorization") == f"Bearer {TOKEN}" else denied
        ),
    }


def _make_repository(folder: Path) -> None:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "app.py").write_text('print("the application runs")\n', encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "the application")
