"""The setting of the demonstration: two servers, a plan, and the launch as a child process."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from adapters.demo.server import FileServer, Hosted, Refuse, Request, Reset, Stall, free_port
from adapters.launcher.launch import Outcome
from events.codec import decode
from events.errors import CodecError
from events.event import Event

MB = 1_000_000
HOST_RETURNS_AFTER = 18.0

PLAN = """\
# Written by `recovery demo`.
root = "models"

[retry]
max_retries = 12
initial_delay = 0.4
max_delay = 3.0

[circuit]
break_duration = 3.0

[download]
parallel = 8
stall_timeout = 2.0
"""


class Stage:
    """The servers, the plan, and the files that must arrive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirror_port = free_port()
        self.hosted = {
            "checkpoint": Hosted(_bytes("checkpoint", 26 * MB), rate=1.5 * MB),
            "lora": Hosted(_bytes("lora", 8 * MB), faults=[Reset(0.4), Reset(0.4)], rate=4 * MB),
            "vae": Hosted(_bytes("vae", 6 * MB), faults=[Refuse(503, retry_after=2)], rate=4 * MB),
            "upscaler": Hosted(_bytes("upscaler", 6 * MB), faults=[Refuse(429, 2), Refuse(429, 1)], rate=4 * MB),
            "clip": Hosted(_bytes("clip", 8 * MB), faults=[Stall(0.5, seconds=8.0)], rate=4 * MB),
        }
        self.mirrored = {
            name: Hosted(_bytes(name, 4 * MB), rate=4 * MB) for name in ("mirror-a", "mirror-b", "mirror-c")
        }
        self.looks = 0
        self.too_short = 0
        self.server = FileServer({f"/{name}.bin": hosted for name, hosted in self.hosted.items()})
        self.mirror: FileServer | None = None
        self.plan = folder / "launch.toml"
        self.plan.write_text(self._plan_text(), encoding="utf-8")

    def _plan_text(self) -> str:
        mirror = f"http://127.0.0.1:{self.mirror_port}"
        steps = [_download(name, self.server.url, hosted.sha256) for name, hosted in self.hosted.items()]
        steps += [_download(name, mirror, hosted.sha256) for name, hosted in self.mirrored.items()]
        steps.append(_download("missing", self.server.url, None))
        check = "import pathlib, sys; sys.exit(any(pathlib.Path('files').glob('*.part*')))"
        command = msgspec.json.encode([sys.executable, "-c", check]).decode()
        needs = msgspec.json.encode([*self.hosted, *self.mirrored]).decode()
        steps.append(f'[[operation]]\nname = "check"\nkind = "command"\nrun = {command}\nneeds = {needs}\n')
        return "\n".join((PLAN, *steps))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Start the servers. The mirror's host is down at first."""
        with ExitStack() as stack:
            stack.enter_context(self.server)

            def rise() -> None:
                files = {f"/{name}.bin": hosted for name, hosted in self.mirrored.items()}
                self.mirror = stack.enter_context(FileServer(files, self.mirror_port))

            timer = threading.Timer(HOST_RETURNS_AFTER, rise)
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived, at either host."""
        return [*self.server.requests, *(self.mirror.requests if self.mirror else ())]

    def path(self, name: str) -> Path:
        """The final path of a file."""
        return self.folder / "models" / "files" / f"{name}.bin"

    def whole(self) -> list[str]:
        """The names of the files that are there under their final name."""
        return [name for name in (*self.hosted, *self.mirrored) if self.path(name).exists()]

    @contextmanager
    def is_observed(self) -> Iterator[None]:
        """Look at every final name twenty times a second, and count in ``looks`` and ``too_short``."""
        stop = threading.Event()

        def watch() -> None:
            sizes = {self.path(name): len(hosted.content) for name, hosted in {**self.hosted, **self.mirrored}.items()}
            while not stop.wait(0.05):
                for path, size in sizes.items():
                    if path.exists():
                        self.looks += 1
                        self.too_short += path.stat().st_size != size

        thread = threading.Thread(target=watch, name="demo-watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def broken(self) -> list[str]:
        """The names of those files that are not what was served."""
        known = {**self.hosted, **self.mirrored}
        return [
            name
            for name in self.whole()
            if hashlib.sha256(self.path(name).read_bytes()).hexdigest() != known[name].sha256
        ]


class Child:
    """``recovery run --json`` in a process of its own; *take* gets its events."""

    def __init__(self, plan: Path, take: Callable[[Event], object]) -> None:
        command = [sys.executable, "-m", "adapters.cli", "run", str(plan), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.outcomes: dict[str, Outcome] | None = None
        self.noise: list[bytes] = []
        self._take = take
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._take(decode(line))
            except CodecError:
                if line.startswith(b'{"outcomes"'):
                    self.outcomes = msgspec.json.decode(line, type=dict[str, dict[str, Outcome]])["outcomes"]
                else:
                    self.noise.append(line)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, or ``None`` if it did not end within *timeout* seconds (then it is killed)."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._reader.join()
        return code

    def errors(self) -> str:
        """Its stderr, and the lines of its stdout that are no events."""
        assert self._process.stderr is not None
        return b"".join((self._process.stderr.read(), *self.noise)).decode("utf-8", "replace")


def _bytes(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)  # reproducible content, not a secret


def _download(name: str, base: str, sha256: str | None) -> str:
    known = "" if sha256 is None else f'sha256 = "{sha256}"\n'
    return (
        f'[[operation]]\nname = "{name}"\nkind = "download"\nurl = "{base}/{name}.bin"\n'
        f'destination = "files/{name}.bin"\n{known}'
    )
