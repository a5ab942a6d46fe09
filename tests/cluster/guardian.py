"""Processes that never outlive the tests, even if these are killed: a guardian kills what is left.

The guardian is one process of its own session. Each process that is started here tells it its id before it runs its
program. The guardian waits until the tests' process is gone, then kills every group that was not reported as ended.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

TELL_AND_RUN = 'echo "+$$" >&0; exec "$@" </dev/null'
"""A shell that tells its id, and becomes the program: no moment is left in which a kill of the tests forgets it."""


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start *command* in a session and process group of its own, without standard input.

    Args:
        command: The program and its arguments.
        options: Of ``subprocess.Popen``: ``stdout``, ``cwd``, ``env``.
    """
    told = ["sh", "-c", TELL_AND_RUN, "sh", *command]
    return subprocess.Popen(told, stdin=_guardian(), start_new_session=True, **options)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group of *process* with SIGKILL, one that is stopped too, and wait for its end."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    ended(process)


def ended(process: subprocess.Popen[bytes], within: float = 10.0) -> int:
    """Wait for the end of *process*; returns its exit code.

    Raises:
        subprocess.TimeoutExpired: It still runs after *within* seconds.
    """
    code = process.wait(within)
    _guardian().write(f"-{process.pid}\n".encode())
    return code


@cache
def _guardian() -> IO[bytes]:
    """The pipe to the guardian, which is started with the first process."""
    command = [sys.executable, "-ES", __file__, str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
    assert process.stdin is not None
    atexit.register(_end, process)
    return process.stdin


def _end(guardian: subprocess.Popen[bytes]) -> None:
    """Let the guardian kill what is left, and wait for it."""
    assert guardian.stdin is not None
    guardian.stdin.close()
    guardian.wait(10)


def guard(tests: int) -> None:
    """Wait for the end of the process *tests*, or of the pipe to it; then kill the groups that it left."""
    try:
        its_end = os.pidfd_open(tests)
    except ProcessLookupError:
        its_end = os.open(os.devnull, os.O_RDONLY)
    told = b""
    while True:
        ready, _, _ = select.select([0, its_end], [], [])
        data = os.read(0, 65536) if 0 in ready else b""
        told += data
        if not data:  # a fork of the tests may keep the pipe open
            break
    left: set[int] = set()
    for line in told.decode().split():
        (left.add if line[0] == "+" else left.discard)(int(line[1:]))
    for group in left:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    guard(int(sys.argv[1]))
