"""A file on a real server that does what servers of large files do: it cuts, rotates, ignores, caps and changes.

Small in the tests, 256 MB in ``make torture``.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import msgspec

PIECE = 64 * 1024
LONG_AGO = "Mon, 05 Jan 2026 12:00:00 GMT"


class Rough(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves.

    Args:
        cut: A body ends after so many bytes, at random between the two; None for whole ones.
        ignore_every: Each such answer to a range is the whole file; 0 for none.
        ignored: So are those with these numbers, from 1 on.
        if_range: Whether ``If-Range`` is heeded, never fits, or is ignored, as by some proxies.
        block: A range begins with the block of so many bytes in which its first byte is.
        cap: A range has at most so many bytes.
        etag: Whether answers have the entity tag of the file, a new one each time, or none.
        modified: Whether answers have the date of the last change.
        signed: Whether the file is behind a redirect to another port, with a new signature each time.
        linked: What the redirect says of the file: its sha256, an id that is no hash, or nothing.
        change_after: The file becomes another one once so many bytes were sent.
        rate: Bytes per second.
    """

    cut: tuple[int, int] | None = None
    ignore_every: int = 0
    ignored: tuple[int, ...] = ()
    if_range: Literal["heeded", "refused", "ignored"] = "heeded"
    block: int = 1
    cap: int | None = None
    etag: Literal["fixed", "new", "none"] = "fixed"
    modified: bool = False
    signed: bool = False
    linked: Literal["sha256", "id", ""] = ""
    change_after: int | None = None
    rate: float | None = None


@lru_cache(maxsize=4)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class RoughServer:
    """Serves *content* at *url*, and counts what it sends; a context manager.

    Attributes:
        sent: Bytes of bodies.
        again: Those of them that a whole file has below the byte that was asked for.
        outdated: Those that were sent before the file changed.
        asked: The headers of each request for bytes.
    """

    def __init__(self, content: bytes, rough: Rough, *, changed: bytes | None = None, seed: int = 0) -> None:
        self.content, self.rough, self._changed = content, rough, changed
        self.sent = self.again = self.outdated = 0
        self.asked: list[dict[str, str]] = []
        self._rng = random.Random(seed)
        self._ranges = 0
        self._lock = threading.Lock()
        self._storage = _Server(self.answer)
        self._front = _Server(self.redirect) if rough.signed else self._storage
        self.url = f"{self._front.url}/model.bin"

    def __enter__(self) -> Self:
        for server in {self._storage, self._front}:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in {self._storage, self._front}:
            server.shutdown()
            server.server_close()

    @property
    def sha256(self) -> str:
        return _sha256(self.content)

    def ratio(self) -> float:
        """Bytes sent for each byte of the file: those it needed, not what a change or an ignored range made it send."""
        return (self.sent - self.again - self.outdated) / len(self.content)

    def redirect(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer as the hub that signs a URL of its storage."""
        handler.send_response(302)
        handler.send_header("Location", f"{self._storage.url}/blob?Signature={self._rng.getrandbits(64):x}")
        if self.rough.linked:
            tag = self.sha256 if self.rough.linked == "sha256" else self.sha256[:40]
            handler.send_header("X-Linked-Etag", f'"{tag}"')
            handler.send_header("X-Linked-Size", str(len(self.content)))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer with bytes of the file."""
        rough, content = self.rough, self.content
        with self._lock:
            self.asked.append({name.lower(): value for name, value in handler.headers.items()})
        etag = f'"{self._tag()}"' if rough.etag != "none" else None
        asked, fits = self._asked(handler, etag)
        start = self._start(asked) if fits else None
        if start is not None and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        end = len(content)
        if start is None:
            handler.send_response(200)
        else:
            end = min(end, start + rough.cap) if rough.cap else end
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        handler.send_header("Content-Length", str(end - (start or 0)))
        if etag is not None:
            handler.send_header("ETag", etag)
        if rough.modified:
            handler.send_header("Last-Modified", LONG_AGO)
        handler.end_headers()
        is_ignored = start is None and (fits or rough.if_range == "refused")
        self._send(handler, content, start or 0, end, below=asked or 0 if is_ignored else 0)

    def _tag(self) -> str:
        return f"{self._rng.getrandbits(64):x}" if self.rough.etag == "new" else self.sha256[:16]

    def _asked(self, handler: BaseHTTPRequestHandler, etag: str | None) -> tuple[int | None, bool]:
        """The byte from which on the file was asked for, and whether it is the version that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition, mode = handler.headers.get("If-Range"), self.rough.if_range
        validator = etag if etag is not None else LONG_AGO if self.rough.modified else None
        fits = condition is None or mode == "ignored" or (mode == "heeded" and condition == validator)
        return int(match[1]) if match else None, fits

    def _start(self, wanted: int | None) -> int | None:
        if wanted is None:
            return None
        self._ranges += 1
        every = self.rough.ignore_every
        is_ignored = self._ranges in self.rough.ignored or (every > 0 and self._ranges % every == 0)
        return None if is_ignored else wanted // self.rough.block * self.rough.block

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, start: int, end: int, below: int) -> None:
        cut = self.rough.cut
        last = min(end, start + self._rng.randint(*cut)) if cut else end
        view, at, began = memoryview(content), start, time.monotonic()
        while at < last:
            piece = view[at : min(at + PIECE, last)]
            handler.wfile.write(piece)
            with self._lock:
                self._count(content, len(piece), len(piece) if at + len(piece) <= below else max(below - at, 0))
            at += len(piece)
            if self.rough.rate is not None:
                time.sleep(max(0.0, (at - start) / self.rough.rate - (time.monotonic() - began)))
        handler.close_connection = handler.close_connection or last < end

    def _count(self, content: bytes, sent: int, again: int) -> None:
        self.sent += sent
        if content is not self.content or self._is_due():
            self.outdated += sent
        else:
            self.again += again
        if self._is_due():
            assert self._changed is not None
            self.content, self._changed = self._changed, None
            self.outdated, self.again = self.sent, 0

    def _is_due(self) -> bool:
        due = self.rough.change_after
        return due is not None and self._changed is not None and self.sent >= due


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away or are killed."""
