"""A stand-in as a child process: where it lives, how it is started and ended, and what it has run."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import anyio.to_thread

from adapters.servers.ports import free_port
from tests.torture.fork_server import Child, ForkServer

ROOT = Path(__file__).parents[4]
LIFETIME = 1200
"""Seconds after which a stand-in ends in any case: one that a module shares lives for long."""
Dialect = Literal["old", "middle", "new"]


class LoggedRun(NamedTuple):
    """A run of a prompt; ``ended`` is "" if its process died before its end."""

    prompt_id: str
    pid: int
    ended: str


class Place:
    """The folder of a stand-in, with a ``main.py`` as ComfyUI's: it can be started from there by a launcher too.

    Args:
        folder: Created if it is missing.
        dialect: "old", "middle" or "new": see ``--help``.
        options: Own options of the stand-in, as ``--start-seconds 2``: in the ``main.py``, so not in its argv.
    """

    def __init__(self, folder: Path, dialect: Dialect = "new", options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.dialect = dialect
        folder.mkdir(parents=True, exist_ok=True)
        self.configure(*options)

    def configure(self, *options: str) -> None:
        """Write ``main.py`` again, with other options: the next start has them."""
        defaults = ["--folder", str(self.folder), "--dialect", self.dialect, *options]
        (self.folder / "main.py").write_text(
            f"import sys\n\nsys.path.insert(0, {str(ROOT)!r})\n\n"
            "from tests.adapters.comfyui.standin.__main__ import main\n\n"
            f"if __name__ == '__main__':\n    main({defaults!r})\n"
        )

    def argv(self, port: int | str = "{port}", *flags: str) -> list[str]:
        return [sys.executable, str(self.folder / "main.py"), "--port", str(port), *flags]

    def model(self, name: str, kind: str = "checkpoints") -> Path:
        """Put a model there."""
        path = self.folder / "models" / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"model")
        return path

    def node_class(self, name: str) -> None:
        """Put a custom node there, a class that passes a picture on: the next start has it."""
        path = self.folder / "custom_nodes" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def files(self) -> list[str]:
        """The files that prompts made, below the output folder."""
        return sorted(str(one.relative_to(self.output)) for one in self.output.rglob("*") if one.is_file())

    def _lines(self) -> list[list[str]]:
        try:
            return [line.split() for line in (self.folder / "runs.log").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def runs(self) -> list[LoggedRun]:
        """All runs of all processes, in the order of their begins."""
        runs: list[LoggedRun] = []
        for word, prompt_id, pid, *ended in self._lines():
            if word == "begin":
                runs.append(LoggedRun(prompt_id, int(pid), ""))
            elif word == "end":
                last = max(i for i, one in enumerate(runs) if one[:2] == (prompt_id, int(pid)))
                runs[last] = runs[last]._replace(ended=ended[0])
        return runs

    def successes(self) -> Counter[str]:
        """How many runs of each prompt succeeded."""
        return Counter(one.prompt_id for one in self.runs() if one.ended == "success")

    def charges(self) -> list[str]:
        """The prompts whose paid nodes were charged, each time."""
        return [line[1] for line in self._lines() if line[0] == "paid"]

    @property
    def starts(self) -> int:
        counts: dict[str, int] = json.loads((self.folder / "counts.json").read_text())
        return counts["starts"]


class Process(Protocol):
    """What a stand-in needs of its process, as ``subprocess.Popen`` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...


class Forked:
    """A fork of a process that has imported what a stand-in needs, which takes most of its start otherwise."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._code: int | None = None
        self.pid = child.pid

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._child.wait(0.0)
        return self._code

    def wait(self, timeout: float) -> int:
        if self._code is None:
            self._code = self._child.wait(timeout)
        assert self._code is not None, f"it runs after {timeout} s"
        return self._code


def started(argv: Sequence[str], log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A process as a shell starts it."""
    with log.open("ab") as file:
        return subprocess.Popen(argv, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=folder)


@cache
def fork_server() -> ForkServer:
    """The process that stand-ins are forks of; it ends with this one."""
    server = ForkServer(["tests.adapters.comfyui.standin.__main__"]).__enter__()
    atexit.register(server.__exit__)
    return server


def be_python(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """In a child: do as ``python WORDS`` does."""
    signal.alarm(LIFETIME)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


class Standin(Place):
    """A stand-in that runs as a child of the test: ``with Standin(tmp_path) as standin``, or ``async with``."""

    def __init__(
        self, folder: Path, dialect: Dialect = "new", options: Sequence[str] = (), *, flags: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, dialect, options)
        self.host, self.port = "127.0.0.1", free_port("127.0.0.1")
        self.flags = flags
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def argv(self, port: int | str = "{port}", *flags: str) -> list[str]:
        return super().argv(port, *self.flags, *flags)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "standin.log").read_text()

    def start(self, *, until_ready: bool = True) -> None:
        """Start it, and wait until it answers."""
        self.process = self.spawn(self.argv(self.port), self.folder / "standin.log")
        if until_ready:
            self.wait()

    def spawn(self, argv: list[str], log: Path) -> Process:
        """Start its process."""
        if not hasattr(os, "pidfd_open"):
            return started(argv, log, self.folder)
        return Forked(fork_server().fork(be_python, argv[1:], str(self.folder), dict(os.environ), out=log))

    def wait(self, within: float = 20.0) -> None:
        """Wait until it answers; fail if it ends."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            assert self.process is not None
            code = self.process.poll()
            assert code is None, f"it ended with {code}: {self.log}"
            try:
                if self.ask("GET", "/system_stats")[0] == 200:
                    return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"not ready within {within} s: {self.log}")

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it by a signal.

        Returns:
            How it ended, as ``Popen.returncode`` says it.
        """
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(10)

    def restart(self) -> None:
        """Kill it, and start it again at the same port."""
        self.kill()
        self.start()

    def ask(self, method: str, path: str, body: object = None, timeout: float = 10.0) -> tuple[int, Any]:
        """A request, as plain as can be.

        Returns:
            The status, and the JSON of the answer; its bytes if it is none.

        Raises:
            OSError: There is no answer.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            raw = response.read()
        except http.client.HTTPException as error:
            raise ConnectionResetError(str(error)) from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, raw

    def set(self, **faults: float) -> None:
        """Set faults: see ``Faults``."""
        assert self.ask("POST", "/standin/faults", faults)[0] == 200

    def do(self, word: str, **body: object) -> None:
        """Do at once: "die" (signal), "exit" (code), "block" (seconds), "forget", "release", "cut" (the websockets)."""
        try:
            status, answer = self.ask("POST", f"/standin/{word}", body)
        except OSError:
            assert word in ("die", "exit")
        else:
            assert status == 200, answer

    def __enter__(self) -> Standin:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.kill()

    async def __aenter__(self) -> Standin:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()
