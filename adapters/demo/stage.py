"""The setting of the demonstration: servers that misbehave, a plan, and the launch as a child process."""

from __future__ import annotations

import os
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

from adapters.demo.git_server import ALONE as GIT_ALONE
from adapters.demo.git_server import GitServer
from adapters.demo.plugin import LARGE, index_files, make_repository
from adapters.demo.server import Answer, Fault, FileServer, Hosted, Request, Reset, Stall, free_port
from adapters.launcher.launch import Outcome
from events.codec import decode
from events.errors import CodecError
from events.event import Event

MB = 1_000_000
ALONE = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "GIT_"))},
    **GIT_ALONE, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "NO_PROXY": "127.0.0.1",
}  # fmt: skip
"""The environment of the launch: no settings of git and pip."""
HOST_RETURNS_AFTER = 15.0

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
    return "[[operation]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()


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
        self.plugin = folder / "models" / "plugin"
        self.looks = 0
        self.too_short = 0
        self.server = FileServer({f"/{name}.bin": one for name, one in hosted.items()} | dict(index_files()))
        self.git_server = GitServer(folder / "served", statuses=[503], cuts=1)
        self.commit = make_repository(folder / "served")
        self.mirror_port = free_port()
        self.mirror: FileServer | None = None
        self.plan = folder / "launch.toml"
        self.plan.write_text(self._plan_text(), encoding="utf-8")

    def _plan_text(self) -> str:
        steps = [_download("missing", self.server.url)]
        for name, hosted in self.expected.items():
            url = f"http://127.0.0.1:{self.mirror_port}" if name in self.mirrored else self.server.url
            steps.append(_download(name, url, sha256=hosted.sha256))
        python, settings = "../env/bin/python", {"cwd": "plugin", "needs": ["plugin"]}
        moves = [
            {"name": "keep", "run": ["mv", "settings.ini", "settings.old"],
             "undo": ["mv", "settings.old", "settings.ini"], "creates": "plugin/settings.old"},
            {"name": "replace", "run": ["cp", "settings.new", "settings.ini"], "undo": ["rm", "-f", "settings.ini"]},
        ]  # fmt: skip
        steps += [
            _operation(name="plugin", kind="git", url=f"{self.git_server.url}/plugin.git", destination="plugin"),
            _operation(name="python", kind="venv", destination="env"),
            _operation(
                name="packages", kind="packages", environment="env", files=["plugin/requirements.txt"],
                indexes=[f"{self.server.url}/refusing/", f"{self.server.url}/simple/"], tool="pip",
                needs=["plugin", "python"],
            ),
            _operation(name="settings", kind="steps", steps=moves, **settings),
            _operation(
                name="server", kind="server", run=[python, "server.py", "{port}"],
                ready="http://127.0.0.1:{port}/health", cwd="plugin", hold=False, needs=["packages", "settings"],
            ),
            _operation(
                name="prompts", kind="command", run=[python, "prompts.py"], cwd="plugin", creates="plugin/prompts.done",
                env={"SERVER": "{server.url}"}, needs=["server"],
            ),
            _operation(
                name="check", kind="command", run=[sys.executable, "-c", NO_PARTS_LEFT], needs=[*self.expected],
            ),
        ]  # fmt: skip
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
        with self.server, self.git_server:
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

    def count(self, path: str) -> int:
        """How many requests there were for what begins with *path*."""
        return sum(request.path.startswith(path) for request in self.server.requests)

    def is_installing(self) -> bool:
        """Whether the large package is fetched again after its first transfer broke off."""
        return self.count(f"/wheels/{LARGE}") > 1

    def lines(self, name: str) -> list[str]:
        """The lines of a log that the plug-in writes."""
        log = self.plugin / name
        return log.read_text().splitlines() if log.exists() else []

    def broken(self) -> list[str]:
        """The names of those files that are not what was served."""
        return [name for name in self.whole() if self.path(name).read_bytes() != self.expected[name].content]


class Child:
    """``recovery run --json`` in a process of its own; *take* gets its events, *note* every other line.

    As a context manager, it ends with the block.
    """

    def __init__(self, plan: Path, take: Callable[[Event], object], note: Callable[[str], object]) -> None:
        command = [sys.executable, "-m", "adapters", "run", str(plan), "--json"]
        self._process = subprocess.Popen(command, env=ALONE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        self.outcomes: dict[str, Outcome] = {}
        self._reader = threading.Thread(target=self._read, args=(take, note), daemon=True)
        self._reader.start()

    def _read(self, take: Callable[[Event], object], note: Callable[[str], object]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                take(decode(line))
            except CodecError:
                if line.startswith(b'{"outcomes"'):
                    self.outcomes = msgspec.json.decode(line, type=dict[str, dict[str, Outcome]])["outcomes"]
                else:
                    note(line.decode("utf-8", "replace").rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it runs, with the processes that it started."""
        self._process.terminate()
        self.end(10.0)

    def kill(self, is_time: Callable[[], bool], timeout: float) -> None:
        """Kill it with SIGKILL once *is_time* says so, or after *timeout* seconds."""
        due = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < due and not is_time():
            time.sleep(0.02)
        self.end(0.0)

    def end(self, timeout: float) -> int:
        """Its exit code, when it ends; it is killed with SIGKILL after *timeout* seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        return code
