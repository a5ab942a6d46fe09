"""A forked process that runs a function, to be waited for or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Child:
    """A forked process: its *pid*, and the lines that it says."""

    def __init__(self, pid: int, said: int) -> None:
        self.pid = pid
        self._said = os.fdopen(said)

    def next_line(self) -> str:
        """Its next line; "" once it has ended."""
        return self._said.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for its end."""
        os.kill(self.pid, number)
        self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit code, negative if a signal ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """Kill it if it has not been waited for."""
        self._said.close()
        with suppress(ProcessLookupError, ChildProcessError):
            self.end()


@contextmanager
def forked(work: Callable[[Callable[[str], object]], object]) -> Iterator[Child]:
    """Run *work* in a forked process. It is given a function that says a line to this one."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(out)
            work(lambda line: os.write(into, f"{line}\n".encode()))
            code = 0
        finally:
            os._exit(code)
    os.close(into)
    child = Child(pid, out)
    try:
        yield child
    finally:
        child.close()
