"""A process that has imported everything and forks a child for each request: real processes in milliseconds.

A child runs one function, then ends as any interpreter does: it waits for its threads and runs its exit handlers.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "asyncio",
    "trio",
    "anyio._backends._asyncio",
    "anyio._backends._trio",
    "adapters.sqlite",
    "recovery",
    "tests.torture",
)
LIFETIME = 120
"""Seconds after which a child is killed by its own alarm, in case its parent is gone."""


class Child:
    """A child of the fork server. *began*, *killed* and *ended* are on the monotonic clock that all share."""

    def __init__(self, fork_server: ForkServer, pid: int, out: Path) -> None:
        self._fork_server = fork_server
        self._handle = os.pidfd_open(pid)
        self.pid = pid
        self.out = out
        self.began = time.monotonic()
        self.ended = 0.0
        self.killed = 0.0

    def send(self, number: int) -> None:
        """Send it a signal; it may have ended."""
        try:
            signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            return

    def wait(self, timeout: float) -> int | None:
        """Its exit code (negative: the signal that killed it); None if it still runs after *timeout* seconds."""
        wait_for_ends([self], timeout)
        if not self.ended:
            return None
        os.close(self._handle)
        return int(self._fork_server.ask({"wait": self.pid}))

    def fileno(self) -> int:
        """A file descriptor that becomes readable when it ends."""
        return self._handle

    def kill(self) -> None:
        """Kill it with SIGKILL and wait for its end."""
        self.killed = time.monotonic()
        self.send(signal.SIGKILL)
        self.wait(30.0)


class ForkServer:
    """The server, which imports the modules *preloaded* first; use it as a context manager."""

    def __init__(self, preloaded: Iterable[str] = PRELOADED) -> None:
        self._preloaded = preloaded

    def __enter__(self) -> Self:
        # A session of its own: Ctrl+C in the terminal interrupts no child.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.fork_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        for name in self._preloaded:
            self.ask({"import": name})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(30.0)
        self._process.stdout.close()

    def ask(self, request: dict[str, Any]) -> Any:
        """Send *request*; returns the answer."""
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def fork(self, function: Callable[..., object], *arguments: object, out: Path, errors: Path | None = None) -> Child:
        """Call *function* in a child with *arguments* (plain data).

        Its output is appended to *out*, and what it writes to stderr to *errors*, by default to *out* too.
        """
        name, files = [function.__module__, function.__name__], [str(out), str(errors or out)]
        return Child(self, self.ask({"fork": name, "arguments": arguments, "files": files}), out)


def wait_for_ends(children: Iterable[Child], timeout: float) -> None:
    """Note the time at which each child ends; returns when all have, or after *timeout* seconds."""
    limit, running = time.monotonic() + timeout, [child for child in children if not child.ended]
    while running:
        ready, _, _ = select.select(running, [], [], max(limit - time.monotonic(), 0.0))
        if not ready:
            return
        for child in ready:
            child.ended = time.monotonic()
            running.remove(child)


def main() -> None:
    """Answer requests until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while line := os.read(0, 1 << 16):
        match json.loads(line):
            case {"import": name}:
                _import(name)
                answer: object = None
            case {"wait": pid}:
                answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            case {"fork": [module, name], "arguments": arguments, "files": files}:
                function = getattr(importlib.import_module(module), name)
                pid = os.fork()
                if pid == 0:
                    _prepare_child(*files)
                    function(*arguments)
                    return
                answer = pid
        os.write(1, json.dumps(answer).encode() + b"\n")


def _import(name: str) -> None:
    importlib.import_module(name)
    gc.freeze()  # a child that ends need not look through what it has inherited: that takes 0.1 s


def _prepare_child(out: str, errors: str) -> None:
    signal.alarm(LIFETIME)
    to_write = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for there, (path, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, to_write), (errors, to_write)]):
        here = os.open(path, flags, 0o600)
        os.dup2(here, there)
        os.close(here)


if __name__ == "__main__":
    main()
