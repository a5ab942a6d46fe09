"""Give notifications to a command: JSON on its standard input, no shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from adapters.processes.query import query
from recovery import validation
from recovery.policies.retry import RetryPolicy
from recovery.redact import brief

MOST_OUTPUT = 65_536
"""Bytes of the error output that are kept, of its end."""


class Command:
    """A program that gets each notification as JSON on its standard input. It is run once for each.

        Command(["notify-send", "--app-name", "launcher", "a launch needs you"])

    Its words are fixed: nothing of an event becomes a part of them, and no shell reads them. What it prints is dropped.
    An exit code other than 0 is a failure, which is logged with the last lines of its error output.

    Args:
        argv: The program and its arguments.
        cwd: The folder it runs in; by default that of this process.
        timeout: Seconds that it, and what it starts, may take. After that all its processes are killed.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: *argv* is empty, or *timeout* is not above 0.
    """

    policy: ClassVar[RetryPolicy] = RetryPolicy(max_retries=0)

    def __init__(
        self, argv: Sequence[str | os.PathLike[str]], *, cwd: str | os.PathLike[str] | None = None, timeout: float = 10
    ) -> None:
        words = validation.items("argv", argv)
        if not words or not all(isinstance(word, str | os.PathLike) for word in words):
            raise ValueError(f"argv must be a program and its arguments, not {argv!r}")
        self._argv = [os.fspath(word) for word in argv]
        self._cwd = None if cwd is None else Path(cwd)
        self._timeout = validation.number("timeout", timeout, above=0.0)

    def __str__(self) -> str:
        return f"the command {brief(self._argv[0], 200)}"

    def __repr__(self) -> str:
        return f"<Command: {brief(' '.join(self._argv), 200)}>"

    def prepare(self) -> None:
        """Check that the program and the folder are there.

        Raises:
            LookupError: One is not.
        """
        if self._cwd is not None and not self._cwd.is_dir():
            raise LookupError(f"{self} cannot run in {brief(str(self._cwd), 200)}: there is no such folder")
        program = self._argv[0]
        where = program if os.path.dirname(program) == "" else os.path.join(self._cwd or "", program)
        if shutil.which(where) is None:
            raise LookupError(f"{self} is not there, or cannot be executed")

    async def send(self, notification: bytes) -> None:
        """Run the program with *notification* on its standard input.

        Raises:
            CalledProcessError: Its exit code is not 0.
            TimeoutError: It took longer than *timeout*.
            OSError: It cannot be started.
        """
        answer = await query(self._argv, cwd=self._cwd, timeout=self._timeout, stdin=notification, most=MOST_OUTPUT)
        if answer.code:
            raise subprocess.CalledProcessError(answer.code, self._argv, stderr=answer.errors)
