"""``resume()`` and the same calls again, killed at random moments: one body at a time, and no unit of work twice."""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from tests.torture.asking_process import Options, ask_again
from tests.torture.figures import Figure, scaled
from tests.torture.fork_server import ForkServer
from tests.torture.jobs import Job, job

LIVES = 30
SEED = 0
MAX_SECONDS = 0.3
"""A process is killed at a random moment of this time after it was forked."""
LAST_SECONDS = 30.0
"""Seconds that the last process has for every result."""
BACKENDS = ("threads", "asyncio", "trio")


class Tally(msgspec.Struct):
    """The notes of all lives of a program, checked."""

    kills: int = 0
    bodies: int = 0
    units: int = 0
    joined: int = 0
    owed: int = 0
    handed_over: int = 0
    beside: list[str] = []
    twice: list[str] = []
    wrong: list[str] = []

    @property
    def broken(self) -> list[str]:
        """What must not happen, and did."""
        return [*self.beside, *self.twice, *self.wrong]


class Program:
    """A program that is killed and started again, on one journal, until its last life ends well."""

    def __init__(self, folder: Path, fork_server: ForkServer, backend: str, rng: random.Random) -> None:
        self._folder = folder
        self._fork_server = fork_server
        self._backend = backend
        self._rng = rng
        self._lives = 0
        self._asked: dict[int, None] = {}
        self._kept = set[int]()
        self._saved: dict[str, int] = {}  # units, by call
        self._begun = defaultdict[str, int](int)  # lives
        self._done = defaultdict[str, Counter[int]](Counter)
        self.tally = Tally()

    def live(self, seconds: float | None) -> None:
        """One life: the program asks for what has no result yet; it is killed after *seconds*, or ends by itself."""
        is_last = seconds is None
        notes, out = self._folder / f"notes-{self._lives}", self._folder / "out"
        options = Options(
            path=str(self._folder / "journal" / "calls.db"),
            notes=str(notes),
            seed=self._rng.getrandbits(32),
            backend=self._backend,
            jobs=list(self._asked),
            new=None if is_last else 1000 * self._lives,
            waits=is_last or self._lives % 2 == 1,
        )
        self._lives += 1
        process = self._fork_server.fork(ask_again, msgspec.to_builtins(options), out=out)
        if seconds is not None:
            time.sleep(seconds)
            process.send(signal.SIGKILL)
            self.tally.kills += 1
        code = process.wait(LAST_SECONDS)
        if code != (0 if is_last else -signal.SIGKILL):
            process.kill()
            self.tally.wrong.append(f"life {self._lives} ended with {code}: {out.read_text()[-2000:]}")
        self._check(notes.read_text().splitlines() if notes.exists() else [])

    def _check(self, lines: list[str]) -> None:
        life = Life(f"life {self._lives}", self.tally, set(self._kept), self._saved)
        for line in lines:
            life.take(*line.split(" "))
        for about, units in life.done.items():
            self._done[about].update(units)
        for about in life.begun:
            self._begun[about] += 1
        self._asked |= dict.fromkeys(life.asked)
        self._kept |= life.kept
        for number in life.got:
            self._asked.pop(number, None)

    def end(self) -> None:
        """The last life, and what all lives have done."""
        self.live(None)
        tally = self.tally
        tally.wrong += [f"{job(number)} has no result" for number in self._asked]
        for about, units in self._done.items():
            operation, number = about.split("-")
            expected = set(range(Job(operation, int(number)).units))
            if set(units) != expected:
                tally.wrong.append(f"{about} has done {sorted(units)} of {sorted(expected)}")
            # It was killed in all lives in which its body began, but the last of them.
            tally.twice += [
                f"{about} {unit}, {n} times in {self._begun[about]} lives"
                for unit, n in units.items()
                if n > self._begun[about]
            ]


class Life:
    """What one process has noted, line by line."""

    def __init__(self, name: str, tally: Tally, kept_before: set[int], saved: dict[str, int]) -> None:
        self._name = name
        self._tally = tally
        self._kept_before = kept_before
        self._saved = saved
        self._call: dict[str, str] = {}
        self.kept = set[int]()
        self._running: dict[str, str] = {}
        self._ran: set[tuple[str, str]] = set()
        self._ended = set[str]()
        self._asks: dict[str, bool] = {}  # whether the body had ended before
        self.begun: dict[str, str] = {}  # by which caller, the latest time
        self.asked: list[int] = []
        self.got: list[int] = []
        self.done = defaultdict[str, Counter[int]](Counter)

    def take(self, word: str, about: str, value: str, caller: str, thread: str) -> None:
        tally, me = self._tally, f"{self._name}: {about}"
        match word:
            case "begins":
                if about in self._running:
                    tally.beside.append(f"{me} runs in {self._running[about]} and in {caller}/{thread}")
                if int(about.split("-")[1]) in self._kept_before:
                    tally.twice.append(f"{me} runs again, and its end is committed")
                tally.handed_over += caller != self.begun.get(about, caller)
                self._call[about] = value
                self._running[about], self.begun[about] = f"{caller}/{thread}", caller
                self._ran.add((about, caller))
                tally.bodies += 1
            case "ends":
                self._running.pop(about, None)
                self._ended.add(about)
            case "unit":
                self.done[about][int(value)] += 1
                tally.units += 1
                if self.done[about][int(value)] > 1 or int(value) < self._saved.get(self._call[about], 0):
                    tally.twice.append(f"{me}: unit {value} in {caller}/{thread}")
            case "saved":
                self._saved[self._call[about]] = int(value)
            case "asks":
                self._asks[caller] = about in self._ended and about not in self._running
                self.asked.append(int(about.split("-")[1]))
            case "got":
                number = int(about.split("-")[1])
                if value != job(number).result:
                    tally.wrong.append(f"{me}: {caller} got {value}, not {job(number).result}")
                self.got.append(number)
                if (about, caller) not in self._ran:
                    tally.owed += self._asks[caller]
                    tally.joined += not self._asks[caller]
            case "kept":
                self.kept.add(int(about.split("-")[1]))
            case "left" | "frees":
                pass
            case _:
                tally.wrong.append(f"{me}: {value}")


def run_lives(fork_server: ForkServer, backend: str, lives: int, *, seed: int = 0, folder: str | None = None) -> Tally:
    """Kill a program *lives* times, then let it end.

    Args:
        fork_server: Starts its processes.
        backend: "threads", "asyncio" or "trio".
        lives: How often it is killed, the last time after MAX_SECONDS, so that calls are pending.
        seed: Of the moments, and of the delays in the processes.
        folder: Where its journal is.
    """
    rng = random.Random(f"{backend} {seed}")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        program = Program(Path(place), fork_server, backend, rng)
        for number in range(1, lives + 1):
            program.live(rng.uniform(0.0, MAX_SECONDS) if number < lives else MAX_SECONDS)
        program.end()
    return program.tally


def asked_again(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figures of programs that ask again."""
    figures = []
    for backend in BACKENDS:
        tally = run_lives(fork_server, backend, scaled(LIVES, share), seed=SEED)
        for problem in tally.broken:
            print(f"asked again, {backend}: {problem}", file=sys.stderr)
        kinds = f"{tally.joined} joined, {tally.owed} owed, {tally.handed_over} handed over"
        how_often = f"{tally.kills} kills, seed {SEED}: {kinds}"
        counts = f"{len(tally.beside)} of {tally.bodies}, {len(tally.twice)} of {tally.units}, {len(tally.wrong)}"
        what = f"asked again, {backend}: side by side, twice, wrong"
        figures.append(Figure(what, how_often, counts, "0, 0, 0", not tally.broken))
    return figures
