"""Random kills and stops of servers and workers, by a seed, and what was done when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    """What happened to one server or worker, from *began* to *ended* in seconds since the epoch."""

    name: str
    kind: Literal["killed", "stopped"]
    began: float
    ended: float


class Disturbances:
    """Disturbs one server and one worker at a time, each in a thread of its own; a context manager.

    Three servers decide with two: the next one is disturbed once all are up to date again.

    Args:
        servers: They are killed for up to 3 s, or stopped for up to 8 s.
        workers: They are killed, or stopped for up to *longest_stop* seconds.
        seed: Of the random moments.
        pause: Mean seconds between two disturbances of servers; workers are disturbed twice as often.
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
        self.servers, self.workers, self.pause, self.longest_stop = servers, workers, pause, longest_stop
        self.done: list[Disturbance] = []
        self.errors: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._caught, args=(work, random.Random(f"{seed} {work.__name__}")))
            for work in (self._disturb_servers, self._disturb_workers)
        ]

    def __enter__(self) -> Disturbances:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the disturbances: everything runs again."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _caught(self, work: object, rng: random.Random) -> None:
        try:
            work(rng)  # type: ignore[operator]
        except BaseException as error:
            self.errors.append(error)

    def _disturb_servers(self, rng: random.Random) -> None:
        while not self._is_over.wait(rng.expovariate(1 / self.pause)):
            self._disturb(rng.choice(self.servers.servers), rng, killed_for=3.0, stopped_for=8.0)
            self.servers.wait_ready()
            self.servers.wait_current()

    def _disturb_workers(self, rng: random.Random) -> None:
        while not self._is_over.wait(rng.expovariate(2 / self.pause)):
            self._disturb(rng.choice(self.workers), rng, killed_for=1.0, stopped_for=self.longest_stop)

    def _disturb(self, one: Disturbed, rng: random.Random, killed_for: float, stopped_for: float) -> None:
        began = time.time()
        if rng.random() < 0.5:
            one.kill()
            self._is_over.wait(rng.uniform(0, killed_for))
            one.restart()
            self.done.append(Disturbance(one.name, "killed", began, time.time()))
        else:
            one.stop()
            self._is_over.wait(rng.uniform(0, stopped_for))
            one.cont()
            self.done.append(Disturbance(one.name, "stopped", began, time.time()))
