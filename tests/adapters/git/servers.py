"""Real servers of git: ``git daemon``, and smart HTTP over ``git http-backend`` that fails as it is told to."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CHUNK = 8192


@dataclass
class Fault:
    """What goes wrong with requests.

    Args:
        on: A part of the path and query of the requests: ``info/refs``, or ``/git-upload-pack`` for the transfer.
        status: The HTTP status that is answered in place of what git says.
        headers: Headers of that answer.
        cut: Bytes of the body after which the connection is closed.
        silent: Seconds for which nothing more is sent after *cut* bytes, or from the beginning.
        rate: Bytes a second that are sent.
        has: What the body of the request must hold: ``b"deepen"`` for a transfer with a depth.
        lacks: What it must not hold.
        times: Requests that are concerned.
    """

    on: str = "/git-upload-pack"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    silent: float = 0.0
    rate: float | None = None
    has: bytes = b""
    lacks: bytes = b"no such thing"
    times: int = 1_000_000


class GitServer:
    """Smart HTTP for the repositories in a folder; a context manager.

        with GitServer(folder, Fault(cut=1000, times=1)) as server:
            git clone {server.url("plugin")}

    Args:
        folder: The repositories.
        faults: What goes wrong; of several that concern a request, the first.
        password: What a request must bring as the password of any user.
        protocol: The newest version of git's protocol that it speaks; older ones refuse commits that no ref shows.
    """

    def __init__(self, folder: Path, *faults: Fault, password: str = "", protocol: int = 2) -> None:
        self.folder = folder
        self.faults = list(faults)
        self.password = password
        self.protocol = protocol
        self.requests: list[tuple[str, str]] = []
        self.is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"git": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str = "plugin") -> str:
        """The URL of the repository *name*."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def asked_for(self, part: str) -> int:
        """How many requests had *part* in their path."""
        return sum(part in path for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    git: GitServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        git = self.git
        authorization = self.headers.get("Authorization", "")
        git.requests.append((self.path, authorization))
        self.close_connection = True
        given = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")[2]
        if git.password and given != git.password:
            return self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        fault = next((one for one in git.faults if self._concerns(one, body)), Fault())
        fault.times -= 1
        if fault.status:
            return self._send(fault.status, fault.headers, b"no")
        status, headers, content = self._by_git(body)
        return self._send(status, headers, content, fault)

    def _concerns(self, fault: Fault, body: bytes) -> bool:
        is_of_kind = fault.on in self.path and fault.has in body and fault.lacks not in body
        return fault.times > 0 and is_of_kind and not (fault.on == "/git-upload-pack" and b"command=ls-refs" in body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
        fault = fault or Fault()
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            end = fault.cut if fault.cut is not None else 0 if fault.silent else len(body)
            step = CHUNK if fault.rate is None else max(1, int(fault.rate / 50))
            for start in range(0, min(end, len(body)), step):
                self.wfile.write(body[start : min(start + step, end)])
                if fault.rate is not None and self.git.is_over.wait(step / fault.rate):
                    return
            if fault.silent:
                self.git.is_over.wait(fault.silent)

    def _by_git(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path, _, query = self.path.partition("?")
        version = self.headers.get("Git-Protocol", "") if self.git.protocol == 2 else ""
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.git.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": version,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        said = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = said.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        return int(headers.pop("Status", "200").split()[0]), headers, content

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """A ``git daemon`` for the repositories in *folder*: gives the URL before their names."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = (f"--base-path={folder}", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}")
    process = subprocess.Popen(["git", "daemon", *options], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 10
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < end, "git daemon has not started"
            time.sleep(0.005)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(10)


def git(folder: Path, *words: str) -> str:
    """What ``git WORDS`` prints in *folder*."""
    settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", "-c", "gc.auto=0")
    done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_repository(
    folder: Path, name: str = "plugin", *, commits: int = 3, size: int = 20_000, files: dict[str, str] | None = None
) -> dict[str, str]:
    """A bare repository *name* in *folder*: its commits by name.

    ``main`` has *commits* commits, of which ``first`` is the oldest; the branch ``dev`` and the tag ``v1`` are at other
    ones, and ``gone`` is a commit that no ref shows.
    """
    work = folder / f"{name}.work"
    work.mkdir(parents=True)
    git(work, "init", "--quiet")
    known: dict[str, str] = {}

    def commit(text: str) -> str:
        (work / "data.bin").write_bytes(os.urandom(size))
        (work / "node.py").write_text(f"{text}\n")
        git(work, "add", "-A")
        git(work, "commit", "--quiet", "-m", text)
        return git(work, "rev-parse", "HEAD")

    known["first"] = commit("first")
    git(work, "tag", "-a", "v1", "-m", "one")
    for number in range(1, commits):
        known["main"] = commit(f"commit {number}")
    git(work, "checkout", "--quiet", "-b", "dev", known["first"])
    known["dev"] = commit("of dev")
    known["gone"] = commit("no ref shows it")
    git(work, "push", "--quiet", str(_bare(folder, name)), "main", "dev~1:refs/heads/dev", "v1", "dev:refs/pull/1/head")
    bare = folder / name
    git(bare, "update-ref", "-d", "refs/pull/1/head")
    return known


def _bare(folder: Path, name: str) -> Path:
    bare = folder / name
    bare.mkdir()
    git(bare, "init", "--bare", "--quiet")
    return bare
