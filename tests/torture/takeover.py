"""Workers of one journal that are killed at random: the living ones go on with the calls, within their retries."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.sqlite.store import SQLiteStore
from events.errors import RecoveryError
from recovery import context
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import Child, ForkServer

RETRIES = 2
NAMES = tuple(f"call-{number}" for number in range(12))
WORKERS = 2
"""Workers that live at a time."""
KILLS = 300
MODES = ("plain", "asyncio", "trio")
MAX_SECONDS = 30.0
ENDS = {"succeeded", "gave up", "quarantined"}
SOON = JournalConfig(adopt_every=0.02, command_interval=0.005)


# the worker


class Worker:
    """A process that resumes what others leave, and asks for calls of its own."""

    def __init__(self, path: str, folder: str) -> None:
        self.folder = Path(folder)
        self.service = Recovery(store=SQLiteStore(path), journal_config=SOON, breaker=None)
        self._notes = os.open(self.folder / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, name: str) -> None:
        """Append a line to the notes of all processes."""
        line = {"what": what, "name": name, "call": context.key(), "pid": os.getpid(), "at": time.monotonic()}
        os.write(self._notes, json.dumps(line).encode() + b"\n")

    def steps(self, name: str) -> list[float]:
        """The sleeps of a body. In between, it may come further; at last, it may fail."""
        draw = random.Random(f"{name} {context.attempt()}")
        self.note("begin", name)
        return [draw.uniform(0.0, 0.06) for _ in range(draw.choice([1, 1, 2]))]

    def further(self, name: str) -> None:
        """Come further than all attempts before."""
        self.note("further", name)
        context.checkpoint(time.monotonic())

    def end(self, name: str) -> None:
        """End a body, well or not."""
        if random.Random(f"{name} {context.attempt()} end").random() < 0.4:
            self.note("fail", name)
            raise ConnectionError("no")
        self.note("end", name)

    def note_asked(self) -> None:
        """Note that its own calls are over."""
        (self.folder / f"asked-{os.getpid()}").touch()

    @property
    def is_finished(self) -> bool:
        """Whether the worker is to end."""
        return (self.folder / "finish").exists()

    def run(self, names: list[str]) -> None:
        """Work in threads."""

        @self.service.recoverable("work", resumable=True, durability="strict", max_retries=RETRIES, initial_delay=0.002)
        def work(name: str) -> None:
            for number, seconds in enumerate(self.steps(name)):
                if number:
                    self.further(name)
                time.sleep(seconds)
            self.end(name)

        def ask(name: str) -> None:
            with suppress(RecoveryError, ConnectionError):
                work(name)

        with self.service:
            self.service.resume()
            with ThreadPoolExecutor(len(names) or 1) as pool:
                list(pool.map(ask, names))
            self.note_asked()
            while not self.is_finished:
                time.sleep(0.005)

    async def arun(self, names: list[str]) -> None:
        """Work in tasks."""

        @self.service.recoverable("work", resumable=True, durability="strict", max_retries=RETRIES, initial_delay=0.002)
        async def work(name: str) -> None:
            for number, seconds in enumerate(self.steps(name)):
                if number:
                    self.further(name)
                await anyio.sleep(seconds)
            self.end(name)

        async def ask(name: str) -> None:
            with suppress(RecoveryError, ConnectionError):
                await work(name)

        async with self.service:
            self.service.resume()
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(ask, name)
            self.note_asked()
            while not self.is_finished:
                await anyio.sleep(0.005)


def be_worker(path: str, folder: str, mode: str, names: list[str]) -> None:
    """Be a worker that asks for the calls *names*."""
    logging.disable(logging.ERROR)  # of those that give up there are many
    worker = Worker(path, folder)
    if mode == "plain":
        worker.run(names)
    else:
        anyio.run(worker.arun, names, backend=mode)


# what is checked


class Note(msgspec.Struct, frozen=True):
    """A line that a worker wrote."""

    what: str
    name: str
    call: str
    pid: int
    at: float


class Tally(msgspec.Struct):
    """What came of it: *taken_over* counts attempts that a process made which lived when the one before it died."""

    kills: int = 0
    attempts: int = 0
    taken_over: int = 0
    states: Counter[str] = msgspec.field(default_factory=Counter)
    problems: list[str] = []


def kill_workers(fork_server: ForkServer, kills: int, mode: str, *, seed: int, folder: str | None) -> Tally:
    """Kill workers of one journal *kills* times at random, let the last ones finish, and check what they noted."""
    draw, began, killed = random.Random(seed), dict[int, float](), dict[int, float]()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "journal" / "calls.db"

        def start(*names: str) -> Child:
            out = Path(place) / "out"
            child = fork_server.fork(be_worker, str(path), place, mode, names, out=out)
            began[child.pid] = child.began
            return child

        written = 0
        workers = [start(*NAMES), *(start() for _ in range(WORKERS - 1))]
        for _ in range(kills):
            written = wait_until_longer(Path(place) / "notes", written)
            time.sleep(draw.uniform(0.0, 0.06))
            chosen = workers.pop(draw.randrange(len(workers)))
            killed[chosen.pid] = time.monotonic()
            chosen.kill()
            workers.append(start(*draw.sample(NAMES, 2)))
        status = settled(path, lambda: all((Path(place) / f"asked-{one.pid}").exists() for one in workers))
        (Path(place) / "finish").touch()
        codes = [worker.wait(MAX_SECONDS) for worker in workers]
        lines = (Path(place) / "notes").read_bytes().splitlines()
        notes = [msgspec.json.decode(line, type=Note) for line in lines]
        tally = Tally(kills, sum(note.what == "begin" for note in notes))
        if any(codes):
            tally.problems.append(f"a worker ended with {codes}: {(Path(place) / 'out').read_text()}")
    tally.states = Counter(call.state for call in status.calls)
    check(tally, notes, {call.call: call for call in status.calls}, began, killed)
    return tally


def wait_until_longer(path: Path, size: int) -> int:
    """The size of the file *path* once it is more than *size*, or after half a second."""
    limit = time.monotonic() + 0.5
    while (found := path.stat().st_size if path.exists() else 0) <= size and time.monotonic() < limit:
        time.sleep(0.002)
    return found


def settled(path: Path, have_asked: Callable[[], bool]) -> JournalStatus:
    """The journal at *path* once each call is over or quarantined; as it is after a time, if that is not so."""
    limit = time.monotonic() + MAX_SECONDS
    while not have_asked() and time.monotonic() < limit:
        time.sleep(0.005)
    while True:
        status = asyncio.run(read_status(path))
        if {call.state for call in status.calls} <= ENDS or time.monotonic() >= limit:
            return status
        time.sleep(0.02)


def check(
    tally: Tally, notes: list[Note], calls: dict[str, CallStatus], began: dict[int, float], killed: dict[int, float]
) -> None:
    """Note in *tally* what is wrong: attempts beyond the retries, calls that are lost or given up unseen, overlaps."""
    problems, bodies = tally.problems, defaultdict[str, list[tuple[Note, Note | None]]](list)
    by_call = defaultdict[str, Counter[str]](Counter)
    latest: dict[tuple[int, str], Note] = {}
    for note in notes:
        by_call[note.call][note.what] += 1
        if note.what == "begin":
            latest[note.pid, note.call] = note
            bodies[note.name].append((note, None))
        elif note.what != "further":
            begin = latest[note.pid, note.call]
            place = next(number for number, (one, _) in enumerate(bodies[note.name]) if one is begin)
            bodies[note.name][place] = begin, note
    for call, counts in by_call.items():
        if counts["begin"] > RETRIES + 1 + counts["further"]:
            problems.append(f"{call}: {counts} with {RETRIES} retries")
        status = calls.get(call)
        if status is None or status.state not in ENDS:
            problems.append(f"{call} is lost: {status}, {counts}")
        elif status.state == "gave up" and not counts["fail"]:
            problems.append(f"{call} was given up without a failure: {counts}")
        elif status.state == "quarantined" and status.attempt != RETRIES + 1:
            problems.append(f"{call} is quarantined too early: {status}, {counts}")
    for name, runs in bodies.items():
        for (one, end), (after, _) in itertools.pairwise(runs):
            over = end.at if end is not None else killed.get(one.pid, float("inf"))
            if after.at < over:
                problems.append(f"{name} ran beside itself: {one}, {end}, {after}")
            is_new = one.call != after.call
            tally.taken_over += not is_new and began[after.pid] < killed.get(one.pid, 0.0) and one.pid != after.pid


def takeover(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figures of workers that are killed at random."""
    figures = []
    for mode in MODES:
        tally = Tally()
        for round_ in range(10):
            one = kill_workers(fork_server, scaled(KILLS // 10, share), mode, seed=round_, folder=MEMORY_FOLDER)
            tally.kills += one.kills
            tally.attempts += one.attempts
            tally.taken_over += one.taken_over
            tally.states += one.states
            tally.problems += one.problems
        print(*tally.problems, sep="\n", file=sys.stderr)
        found = f"{len(tally.problems)} wrong in {tally.attempts} attempts, {tally.taken_over} taken over alive"
        passed = not tally.problems and tally.taken_over > 0
        figures.append(Figure(f"takeover: {mode}", f"{tally.kills} kills", found, "0", passed))
    return figures
