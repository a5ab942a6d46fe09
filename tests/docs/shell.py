"""A shell in a folder, as a reader has one: commands run one after another, and what each prints is returned."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.docs.examples import fits

END = "-- end of the command --"
GOES_ON = re.compile(r"^\.\.\.\n", re.MULTILINE)
"""The line of a page after which a command in a second terminal prints the rest later."""
KILLED = re.compile(r"bash: line \d+: +\d+ (Killed|Terminated|Interrupt)\b.*$", re.MULTILINE)


class Shell:
    """Bash in *folder*, with this Python first on PATH and a terminal of 80 columns.

    Args:
        folder: Where the commands run.
        timeout: How many seconds a command may take. A longer one fails with TimeoutError.
    """

    def __init__(self, folder: Path, *, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.others: list[subprocess.Popen[str]] = []
        self.unfinished: list[tuple[str, str, str, subprocess.Popen[str]]] = []
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "RECOVERY_"))
        }
        self.env = {**kept, "PATH": path, "COLUMNS": "80", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
        self.bash = self.start("bash", stdin=subprocess.PIPE)

    def start(self, *argv: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start *argv* in the folder, with both outputs in one."""
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True, encoding="utf-8", errors="replace",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*self.others, self.bash]:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.communicate()

    def run(self, command: str) -> str:
        """Run *command*, and return what it prints; a death by a signal is shown as a terminal shows it."""
        assert self.bash.stdin is not None
        assert self.bash.stdout is not None
        self.bash.stdin.write(f"{command.rstrip()}\necho '{END}'\n")
        self.bash.stdin.flush()
        late = threading.Timer(self.timeout, lambda: os.killpg(self.bash.pid, signal.SIGKILL))
        late.start()
        printed = ""
        try:
            for line in self.bash.stdout:
                printed += line
                if printed.endswith(f"{END}\n"):
                    return KILLED.sub(r"\1", printed.removesuffix(f"{END}\n"))
        finally:
            late.cancel()
        raise TimeoutError(f"{command!r} took more than {self.timeout} s, or ended the shell, after:\n{printed}")

    def run_beside(self, command: str, shown: str) -> str:
        """Start *command* in a second terminal; return what it prints until that has as many lines as *shown*.

        A line ``...`` in *shown* says that the page goes on there; `see_the_end` awaits what follows that line.
        """
        other = self.start("bash", "-c", f"exec {command}")
        self.others.append(other)
        first, *later = GOES_ON.split(shown)
        printed = self.read_lines(other, first.count("\n"))
        if not first:
            time.sleep(0.2)
        if later:
            self.unfinished.append((command, shown, printed, other))
            return printed + shown.removeprefix(first)
        assert other.stdout is not None
        threading.Thread(target=other.stdout.read, daemon=True).start()
        return printed

    def see_the_end(self) -> Iterator[tuple[str, str, str]]:
        """The commands beside that went on: each with what is shown, and what it has printed in the end."""
        for command, shown, printed, other in self.unfinished:
            last = ["", *GOES_ON.sub("", shown).splitlines(keepends=True)][-1]
            while not fits(f"...\n{last}", printed) and (line := self.read_lines(other, 1)):
                printed += line
            yield command, shown, printed

    def read_lines(self, other: subprocess.Popen[str], count: int) -> str:
        """The next *count* lines that *other* prints, or fewer if it ends or takes too long; then it is killed."""
        assert other.stdout is not None
        late = threading.Timer(self.timeout, other.kill)
        late.start()
        printed = ""
        while printed.count("\n") < count and (line := other.stdout.readline()):
            printed += line
        late.cancel()
        return printed
