"""The setting of the demonstration: two servers, a plan, and the launch as a child process."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from adapters.demo.server import Answer, Fault, FileServer, Hosted, Request, Reset, Stall, free_port
from adapters.launcher.launch import Outcome
from events.codec import decode
from events.errors import CodecError
from events.event import Event

MB = 1_000_000
HOST_RETURNS_AFTER = 18.0

PLAN = """\
# Written by `recovery demo`.
root = "models"
retry = {max_retries = 12, initial_delay = 0.4, max_delay = 3.0}
circuit = {break_duration = 3.0}
wait = {host = 0}  # to show the circuit: else its calls wait until the host accepts connections
download = {parallel = 8, stall_timeout = 2.0}
"""
NO_PARTS_LEFT = "import pathlib, sys; sys.exit(any(pathlib.Path('files').glob('*.part*')))"


def _hosted(name: str, megabytes: int, *faults: Fault, rate: float = 4.0) -> Hosted:
    # The content is reproducible, not a secret.
    return Hosted(random.Random(name).randbytes(megabytes * MB), faults=faults, rate=rate * MB)


def _operation(**values: object) -> str:
    lines = (f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in values.items())
    return "[[operation]]\n" + "".join(lines)


def _download(name: str, server: str, **values: str) -> str:
    url, destination = f"{server}/{name}.bin", f"files/{name}.bin"
    return _operation(name=name, kind="download", url=url, destination=destination, **values)


class Stage:
    """The servers, the plan, and the files that must arrive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hosted = {
            "checkpoint": _hosted("checkpoint", 26, rate=1.5),
            "lora": _hosted("lora", 8, Reset(0.4), Reset(0.4)),
            "vae": _hosted("vae", 6, Answer(503, {"Retry-After": "2"})),
            "upscaler": _hosted("upscaler", 6, Answer(429, {"Retry-After": "2"}), Answer(429, {"Retry-After": "1"})),
            "clip": _hosted("clip", 8, Stall(0.5, seconds=8.0)),
        }
        self.mirrored = {name: _hosted(name, 4) for name in ("mirror-a", "mirror-b", "mirror-c")}
        self.expected = hosted | self.mirrored
        self.looks = 0
        self.too_short = 0
        self.server = FileServer({f"/{name}.bin": one for name, one in hosted.items()})
        self.mirror_port = free_port()
        self.mirror: FileServer | None = None
        self.plan = folder / "launch.toml"
        self.plan.write_text(self._plan_text(), encoding="utf-8")

    def _plan_text(self) -> str:
        steps = [_download("missing", self.server.url)]
        for name, hosted in self.expected.items():
            url = f"http://127.0.0.1:{self.mirror_port}" if name in self.mirrored else self.server.url
            steps.append(_download(name, url, sha256=hosted.sha256))
        run = [sys.executable, "-c", NO_PARTS_LEFT]
        steps.append(_operation(name="check", kind="command", run=run, needs=[*self.expected]))
        return "\n".join((PLAN, *steps))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Start the servers; the mirror's host is down at first.

        Look at every final name twenty times a second, and count in ``looks`` and ``too_short``.
        """
        stop, mirror_begins = threading.Event(), time.monotonic() + HOST_RETURNS_AFTER

        def watch() -> None:
            with ExitStack() as stack:
                while not stop.wait(0.05):
                    if self.mirror is None and time.monotonic() > mirror_begins:
                        files = {f"/{name}.bin": hosted for name, hosted in self.mirrored.items()}
                        self.mirror = stack.enter_context(FileServer(files, self.mirror_port))
                    for name in self.whole():
                        self.looks += 1
                        self.too_short += self.path(name).stat().st_size != len(self.expected[name].content)

        thread = threading.Thread(target=watch, name="demo-watcher", daemon=True)
        with self.server:
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived, at either host."""
        return [*self.server.requests, *(self.mirror.requests if self.mirror else ())]

    def path(self, name: str) -> Path:
        """The final path of a file."""
        return self.folder / "models" / "files" / f"{name}.bin"

    def whole(self) -> list[str]:
        """The names of the files that are there under their final name."""
        return [name for name in self.expected if self.path(name).exists()]

    def broken(self) -> list[str]:
        """The names of those files that are not what was served."""
        return [name for name in self.whole() if self.path(name).read_bytes() != self.expected[name].content]


class Child:
    """``recovery run --json`` in a process of its own; *take* gets its events, ``noise`` every other line.

    As a context manager, it ends with the block.
    """

    def __init__(self, plan: Path, take: Callable[[Event], object]) -> None:
        command = [sys.executable, "-m", "adapters", "run", str(plan), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        self.outcomes: dict[str, Outcome] = {}
        self.noise: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(take,), daemon=True)
        self._reader.start()

    def _read(self, take: Callable[[Event], object]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                take(decode(line))
            except CodecError:
                if line.startswith(b'{"outcomes"'):
                    self.outcomes = msgspec.json.decode(line, type=dict[str, dict[str, Outcome]])["outcomes"]
                else:
                    self.noise.append(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it runs, with the processes that it started."""
        self._process.terminate()
        self.end(10.0)

    def end(self, timeout: float) -> int:
        """Its exit code, when it ends; it is killed with SIGKILL after *timeout* seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        return code
