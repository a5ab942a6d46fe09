"""Random kills and stops of servers and workers, by a seed, and what was done when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from tests.cluster import guardian
from tests.cluster.servers import NatsCluster


class Disturbed(Protocol):
    """What can be killed, stopped and started again."""

    name: str

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def stop(self) -> None:
        """SIGSTOP."""
        ...

    def cont(self) -> None:
        """SIGCONT."""
        ...

    def restart(self) -> None:
        """Start it again."""
        ...


class WorkerProcess:
    """A worker in a process of its own, with its log.

    Args:
        name: Of its node.
        command: What to run.
        log: Where it writes what it prints; each life adds to it.
        environ: Its environment variables; None for those of the tests.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.command, self.log, self._environ = name, [*command], log, environ
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return at once."""
        with self.log.open("ab") as log:
            self.process = guardian.start(self.command, stdout=log, stderr=log, env=self._environ)

    def kill(self) -> None:
        """SIGKILL to it and its children, and wait for the end."""
        if self.process is not None:
            guardian.kill(self.process)

    def stop(self) -> None:
        """SIGSTOP to it and its children."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT to it and its children."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def restart(self) -> None:
        """Kill what is left of it, and start it."""
        self.kill()
        self.start()


class Disturbance(msgspec.Struct, frozen=True):
    """What happened to one server or worker. Times are seconds since the epoch.

    Args:
        name: Of the server or worker.
        kind: What happened to it.
        began: When it was killed or stopped.
        ended: When it was started again, or went on.
        settled: When all servers were up to date again, after the disturbance of one.
    """

    name: str
    kind: Literal["killed", "stopped"]
    began: float
    ended: float
    settled: float


class Disturbances:
    """Disturbs one server at a time, and one worker of each half, each in a thread of its own; a context manager.

    Three servers decide with two: the next one is disturbed once all are up to date again.

    Args:
        servers: They are killed for up to 3 s, or stopped for up to 8 s.
        workers: They are killed for up to 4 s, or stopped for up to *longest_stop* seconds.
        seed: Of the random moments.
        pause: Mean seconds between two disturbances in one thread.
        longest_stop: A lease and a bit, so that paused workers lose it.
    """

    def __init__(
        self,
        servers: NatsCluster,
        workers: Sequence[WorkerProcess],
        *,
        seed: int,
        pause: float = 10.0,
        longest_stop: float = 40.0,
    ) -> None:
        self.servers, self.pause, self.longest_stop = servers, pause, longest_stop
        self.done: list[Disturbance] = []
        self.errors: list[BaseException] = []
        self._is_over = threading.Event()
        halves = [half for half in (workers[::2], workers[1::2]) if half]
        works = [self._disturb_servers, *(partial(self._disturb_workers, half) for half in halves)]
        self._threads = [
            threading.Thread(target=self._caught, args=(work, random.Random(f"{seed} {at}")))
            for at, work in enumerate(works)
        ]

    def __enter__(self) -> Disturbances:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the disturbances: everything runs again."""
        self.end()

    def end(self) -> None:
        """End the disturbances, and wait until everything runs again."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _caught(self, work: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            work(rng)
        except BaseException as error:
            self.errors.append(error)

    def _disturb_servers(self, rng: random.Random) -> None:
        while not self._is_over.wait(rng.expovariate(1 / self.pause)):
            self._disturb(rng.choice(self.servers.servers), rng, (0.0, 3.0), (0.5, 8.0), self._settle)

    def _settle(self) -> None:
        self.servers.wait_ready()
        self.servers.wait_current()

    def _disturb_workers(self, workers: Sequence[WorkerProcess], rng: random.Random) -> None:
        while not self._is_over.wait(rng.expovariate(1 / self.pause)):
            self._disturb(rng.choice(workers), rng, (0.5, 4.0), (0.5, self.longest_stop))

    def _disturb(
        self,
        one: Disturbed,
        rng: random.Random,
        killed_for: tuple[float, float],
        stopped_for: tuple[float, float],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        is_kill = rng.random() < 0.5
        seconds = rng.uniform(*(killed_for if is_kill else stopped_for))
        began = time.time()
        one.kill() if is_kill else one.stop()
        self._is_over.wait(seconds)
        one.restart() if is_kill else one.cont()
        ended = time.time()
        settle()
        self.done.append(Disturbance(one.name, "killed" if is_kill else "stopped", began, ended, time.time()))
