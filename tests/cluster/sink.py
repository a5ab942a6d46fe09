"""What bodies of a cluster do to the world outside: a sink that refuses lower fence numbers, and notes what it hears.

It is a server in a thread of the tests, and no shared file: a worker that is stopped must not hold a lock.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

UP, BEGIN, RESULT, END = "up", "begin", "result", "end"


class Note(msgspec.Struct):
    """What a worker said.

    Args:
        what: "up" (it takes calls now), "begin" and "end" of a body, "result", or the number of a step.
        node: The node.
        pid: Its process.
        number: Of the call.
        fence: Under which the body runs.
        attempt: Its number.
        at: When it was said, in seconds since the epoch.
        first: The step with which a body begins, for its call has saved the one before.
        lag: Seconds that the loop of the worker was late at most, in the second before.
        taken: Whether the sink took it: no higher fence had spoken before.
    """

    what: str
    node: str
    pid: int
    number: int = -1
    fence: int = 0
    attempt: int = 0
    at: float = 0.0
    first: int = 0
    lag: float = 0.0
    taken: bool = True


class RefusedWriteError(Exception):
    """The sink has heard of a higher fence."""


class Sink:
    """The server, in a thread; a context manager. ``notes`` has what it heard, in its order.

    Args:
        path: Of its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[Note] = []
        self._highest: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_unix_server(self._serve, self.path)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.05, self._loop.stop)  # transports end in between
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if line := await reader.readline():
                writer.write(b"+" if self.take(msgspec.json.decode(line, type=Note)) else b"-")
        finally:
            writer.close()

    def take(self, note: Note) -> bool:
        """Note what a worker said; whether it is taken. The end of a body is none of the things that are refused."""
        if note.what not in (UP, END):
            highest = self._highest.get(note.number, 0)
            note.taken = note.fence >= highest
            self._highest[note.number] = max(note.fence, highest)
        self.notes.append(note)
        return note.taken


class Body:
    """What one body says to the sink.

    Args:
        path: The sink's socket.
        node: The node that runs it.
        number: The number of its call.
        fence: Under which it runs.
        attempt: Its number.
    """

    def __init__(self, path: Path, node: str, number: int, fence: int, attempt: int) -> None:
        self._path = path
        self._said = Note("", node, os.getpid(), number, fence, attempt)

    def say(self, what: str, *, first: int = 0, lag: float = 0.0) -> None:
        """Say *what*. Raises RefusedWriteError if a higher fence has spoken before."""
        note = msgspec.structs.replace(self._said, what=what, at=time.time(), first=first, lag=lag)
        if not tell(self._path, note):
            raise RefusedWriteError(f"{what} of call {note.number} under fence {note.fence} comes too late")


def tell(path: Path, note: Note) -> bool:
    """Say *note* to the sink at *path*; whether it took it."""
    with socket.socket(socket.AF_UNIX) as told:
        told.connect(str(path))
        told.sendall(msgspec.json.encode(note) + b"\n")
        return told.recv(1) == b"+"
