"""A queue of prompts whose server and launcher are killed at random: each ends with one result, but the one that kills.

The server is a stand-in for ComfyUI. It and the launchers note what they do in one file, whose lines are judged at last
(``prompt_log``), with the files that are there and the journal. No prompt is hit by two kills of the server: it would
be set aside, as it should.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil

from adapters.comfyui.answers import ABSENT, Finished, Standing
from adapters.comfyui.client import Client
from adapters.comfyui.errors import PromptQuarantinedError
from adapters.comfyui.parsing import Accepted
from adapters.launcher import Launcher, RestartPolicy
from adapters.sqlite import SQLiteStore
from events.operation_events import OperationRecovered, OperationSucceeded
from recovery import presets
from tests.adapters.comfyui.graphs import Graph, killer, picture
from tests.adapters.comfyui.standin.child import Dialect, Place
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import Child, ForkServer
from tests.torture.prompt_log import Files, PromptLog
from tests.torture.recovered_files import Stored

PROMPTS = 20
KILLS = 5
SEED = 0
DIALECTS: tuple[Dialect, ...] = ("old", "new")
BACKENDS = ("asyncio", "trio")
KILLER = "killer"
RESTARTS = RestartPolicy(max_restarts=20, delay=0.1)
SECONDS = (0.1, 0.6)
"""How long a picture takes."""
GAP = (0.1, 1.2)
"""Seconds from one kill to the next, besides those until the next one may come."""
LIMIT = 90.0
"""Seconds that one launcher has to end the queue; the fork server's children live for little longer."""


def append(log: Path, *words: str) -> None:
    """Add a line, in one write: other processes do the same."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (" ".join(words).replace("\n", " ") + "\n").encode())
    finally:
        os.close(file)


def graphs(count: int, seed: int, pace: float = 1.0) -> dict[str, Graph]:
    """The prompts by their names: *count*, of which one, near the middle, kills its server each time."""
    rng = random.Random(seed)
    made = {
        f"picture-{number}": picture(number + 1, pace * rng.uniform(*SECONDS), f"picture-{number}")
        for number in range(count)
    }
    names = list(made)
    names[count // 2] = KILLER
    return {name: made.get(name) or killer(count) for name in names}


def launch(folder: str, log: str, count: int, seed: int, pace: float, backend: str, wrong: str) -> None:
    """Be the launcher: queue all prompts, and note what comes back. It ends once no prompt is left.

    One that is *wrong* "sends twice", or takes what is "lost" for "done".
    """
    spoil(wrong)
    anyio.run(_launch, Path(folder), Path(log), graphs(count, seed, pace), backend=backend)


def spoil(wrong: str) -> None:
    """Make this process wrong, to see whether it is noticed."""
    submit, standing = Client.submit, Client.standing

    async def submit_twice(self: Client, *given: Any) -> Accepted:
        await submit(self, *given)
        return await submit(self, *given)

    async def never_absent(self: Client, prompt_id: str) -> Standing:
        found = await standing(self, prompt_id)
        return Standing("finished", finished=Finished(succeeded=True)) if found == ABSENT else found

    if wrong == "sends twice":
        Client.submit = submit_twice  # type: ignore[assignment,method-assign]
    elif wrong == "lost is done":
        Client.standing = never_absent  # type: ignore[method-assign]


async def _launch(folder: Path, log: Path, wanted: dict[str, Graph]) -> None:
    left = set(wanted)
    async with Launcher(presets.launcher(store=SQLiteStore(folder / "journal" / "calls.db")), folder) as launcher:
        launcher.resume()
        async with launcher.comfyui("ComfyUI", restarts=RESTARTS) as comfy, anyio.create_task_group() as group:
            for name, graph in wanted.items():
                group.start_soon(_ask, comfy, folder, log, name, graph, left)
                await anyio.sleep(0)  # the first one first
            while left:
                for question in launcher.service.calls.questions():
                    if question.name == f"run-again:{KILLER}":
                        if left == {KILLER}:
                            append(log, "quarantined", KILLER, question.text)
                            launcher.service.calls.answer(question.name, False)
                    else:
                        append(log, "asked", question.name, question.text)
                        os._exit(3)
                await anyio.sleep(0.05)


async def _ask(comfy: Any, folder: Path, log: Path, name: str, graph: Graph, left: set[str]) -> None:
    try:
        result = await comfy.prompt(graph, name=name)
    except PromptQuarantinedError as error:
        append(log, "quarantined", name, str(error))
    else:
        names = [f"{one.subfolder}/{one.filename}".lstrip("/") for one in result.files]
        missing = [one for one in names if not (folder / "ComfyUI" / "output" / one).is_file()]
        append(log, "result", name, result.prompt_id, msgspec.json.encode(Files(names, missing)).decode())
    left.discard(name)


class Tally(msgspec.Struct):
    """What became of a queue: *server_kills* and *launcher_kills* were ours, *deaths* are all of servers."""

    server_kills: int = 0
    launcher_kills: int = 0
    deaths: int = 0
    reposts: int = 0
    results: int = 0
    seconds: float = 0.0
    problems: list[str] = []


class KilledQueue:
    """A queue in *folder*, and the processes that work on it."""

    def __init__(self, folder: Path, fork_server: ForkServer, dialect: Dialect, backend: str, wrong: str = "") -> None:
        self.log = folder / "log"
        self.log.touch()
        self.out = folder / "out"
        self.root = folder / "root"
        self.place = Place(self.root / "ComfyUI", dialect, ["--runs", str(self.log)])
        self._fork = partial(fork_server.fork, launch, str(self.root), str(self.log), out=self.out)
        self._how = backend, wrong
        self._servers: dict[int, psutil.Process] = {}
        self._lock = threading.Lock()

    def start(self, count: int, seed: int, pace: float) -> Child:
        """Start a launcher."""
        return self._fork(count, seed, pace, *self._how)

    def read(self) -> PromptLog:
        return PromptLog.read(self.log.read_text())

    def watch(self) -> None:
        """Note each death of a server, once."""
        with self._lock:
            for pid in {run.pid for run in self.read().runs if run.died is None} - self._servers.keys():
                with suppress(psutil.NoSuchProcess):
                    self._servers[pid] = psutil.Process(pid)
                    continue
                append(self.log, "dead", str(pid))
            for pid, process in list(self._servers.items()):
                if not _lives(process):
                    del self._servers[pid]
                    append(self.log, "dead", str(pid))

    def kill_server(self, within: float = 30.0) -> bool:
        """Kill the server as soon as what runs was hit by no death before; returns whether that came."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            run = self.read().running
            if run is not None:
                with suppress(ProcessLookupError):
                    os.kill(run.pid, signal.SIGSTOP)  # nothing ends while it is decided
                    log = self.read()
                    if log.running == run and log.may_be_killed():
                        os.kill(run.pid, signal.SIGKILL)
                        self.watch()
                        return True
                    os.kill(run.pid, signal.SIGCONT)
            time.sleep(0.01)
        return False

    def end(self) -> None:
        """End the servers that are left."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.place.folder / "main.py") in process.cmdline():
                    process.kill()

    def judged(self, names: list[str], scratch: Path) -> tuple[PromptLog, list[str]]:
        """The lines, and all that is wrong: with them, with the files, and in the journal."""
        log = self.read()
        problems = log.problems(names, KILLER)
        runs, prompt_of = Counter(run.prompt for run in log.runs), {name: prompt for _, name, prompt, _ in log.results}
        made = Counter(file.rpartition("_00")[0] for file in self.place.files())
        problems += [  # a result that was lost with its server leaves its file behind
            f"{name} has {made[name]} files of {runs[prompt]} runs"
            for name, prompt in prompt_of.items()
            if not 1 <= made[name] <= runs[prompt]
        ]
        done = Counter(
            event.call
            for event in Stored.read(self.root / "journal" / "calls.db", scratch).rows.values()
            if isinstance(event, OperationSucceeded | OperationRecovered)
            and event.operation.startswith("comfyui-prompt")
        )
        if sorted(done.values()) != [1] * (len(names) - 1):
            problems.append(f"the journal has {sum(done.values())} results of {len(done)} prompts")
        return log, problems


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_queue(
    fork_server: ForkServer,
    dialect: Dialect,
    backend: str,
    *,
    seed: int,
    count: int = PROMPTS,
    kills: int = KILLS,
    pace: float = 1.0,
    wrong: str = "",
) -> Tally:
    """Queue *count* prompts, and kill server and launcher *kills* times each; at a *pace* of 0.5 twice as fast."""
    rng, tally = random.Random(seed), Tally()
    moments = ["server"] * kills + ["launcher"] * kills
    rng.shuffle(moments)
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
        queue = KilledQueue(Path(name), fork_server, dialect, backend, wrong)
        is_over, began = threading.Event(), time.monotonic()
        watcher = threading.Thread(target=_watch, args=(queue, is_over))
        watcher.start()
        child, code = queue.start(count, seed, pace), None
        try:
            for moment in moments:
                time.sleep(pace * rng.uniform(*GAP))
                if moment == "server":
                    tally.server_kills += queue.kill_server()
                elif code is None and (code := child.wait(0.0)) is None:
                    child.kill()
                    tally.launcher_kills += 1
                    child = queue.start(count, seed, pace)
            code = child.wait(LIMIT) if code is None else code
            tally.seconds = time.monotonic() - began
        finally:
            if code is None:
                child.kill()
            is_over.set()
            watcher.join()
            queue.end()
        log, tally.problems = queue.judged(list(graphs(count, seed)), Path(name))
        if code != 0:
            tally.problems.append(f"the last launcher ended with {code}: {queue.out.read_text()[-3000:]}")
        if (tally.server_kills, tally.launcher_kills) != (kills, kills):
            tally.problems.append(f"{tally.server_kills} and {tally.launcher_kills} kills in place of {kills} each")
        tally.deaths, tally.reposts, tally.results = log.deaths, log.reposts, len({one[1] for one in log.results})
    return tally


def _watch(queue: KilledQueue, is_over: threading.Event) -> None:
    while not is_over.wait(0.02):
        queue.watch()


def prompts(fork_server: ForkServer, share: float) -> list[Figure]:
    """The row of ``make torture``: both dialects, on both backends."""
    figures = list[Figure]()
    for number, (dialect, backend) in enumerate((one, other) for one in DIALECTS for other in BACKENDS):
        seed, count = SEED + number, max(scaled(PROMPTS, share), 6)
        tally = kill_queue(fork_server, dialect, backend, seed=seed, count=count, kills=scaled(KILLS, share))
        for problem in tally.problems:
            print(f"prompts, {dialect}, {backend}, seed {seed}: {problem}", file=sys.stderr)
        kills = f"{tally.server_kills} kills of the server, {tally.launcher_kills} of the launcher, seed {seed}"
        about = f"{tally.results} results and 1 set aside of {count}; {tally.deaths} deaths, {tally.reposts} sent again"
        what = f"prompts, {dialect} dialect, {backend}: lost, doubled, or wrongly done"
        found = f"{len(tally.problems)}; {about}; {tally.seconds:.0f} s"
        figures.append(Figure(what, kills, found, "0", not tally.problems))
    return figures
