"""A launcher that installs, killed at each write of its journal: the next run finishes it, and repeats nothing.

Whether something is done is read from the journal's files after each kill. How often it began is counted outside of it:
programs write a line when they begin, and servers list their requests.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import anyio
import msgspec

from adapters.launcher.launcher import Launcher
from adapters.launcher.saga import RunRecord
from events.operation_events import (
    CheckpointSaved,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
)
from recovery import presets
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import ForkServer
from tests.torture.installers import INSTALLERS, QUICK, REAL
from tests.torture.killing_store import KillingStore
from tests.torture.recovered_files import Stored

BACKENDS = ("asyncio", "trio")
LAST_SECONDS = 60.0
"""Seconds that a run has that is not killed."""
SEED = 0
KILLS = 10
SECONDS = (0.1, 4.5)
"""When a run with real git and pip is killed; by itself it ends after about five."""


def launch(installer: str, folder: str, needs: dict[str, str], at: int, backend: str) -> None:
    """Be the launcher, in a process of its own; how many moments it had is in a file, if it lives."""
    store = KillingStore(Path(folder, "journal", "calls.db"), at)

    async def run() -> None:
        async with Launcher(presets.launcher(store=store), folder) as launcher:
            await INSTALLERS[installer]().install(launcher, needs)

    anyio.run(run, backend=backend)
    Path(folder, "moments").write_text(str(store.moments))


class Tally(msgspec.Struct):
    """What became of installations that were killed: *moments* is how many the last run had."""

    kills: int = 0
    moments: int = 0
    problems: list[str] = []


def kill_at(fork_server: ForkServer, installer: str, moments: Sequence[int | float], backend: str = "asyncio") -> Tally:
    """Install with a launcher that is killed at each of *moments*, in a run of its own; a last run is not killed.

    A moment is the number of a write of the journal, or seconds (a float) since the run began.
    """
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name, ExitStack() as stack:
        folder, one, done = Path(name, "root"), INSTALLERS[installer](), Counter[str]()
        folder.mkdir()
        needs = one.serve(stack, folder)
        for run, at in enumerate([*moments, 0]):
            write, seconds = (0, at) if isinstance(at, float) else (at, LAST_SECONDS)
            child = fork_server.fork(launch, installer, str(folder), needs, write, backend, out=Path(name, "out"))
            code = child.wait(seconds)
            if isinstance(at, float) and code is None:
                child.send(signal.SIGKILL)
                code = child.wait(LAST_SECONDS)
            tally.kills += code == -signal.SIGKILL
            if code is None:
                child.kill()
            if code != 0 and not (at and code == -signal.SIGKILL):
                tally.problems.append(f"run {run} ended with {code}: {Path(name, 'out').read_text()[-1000:]}")
            begun = one.begun()
            tally.problems += [
                f"{what} is done after {times}, and began {begun[what]} times until the end of run {run}"
                for what, times in done.items()
                if begun[what] != times
            ]
            done.update({what: begun[what] for what in succeeded(folder, Path(name)) - done.keys()})
        tally.problems = tally.problems or one.wrong()
        tally.problems = [f"{installer}, {backend}, killed at {moments}: {problem}" for problem in tally.problems]
        if not tally.problems:
            tally.moments = int((folder / "moments").read_text())
    return tally


def succeeded(folder: Path, scratch: Path) -> set[str]:
    """The names of the calls that have succeeded, and of the steps that are done, says the journal."""
    names, ended = dict[str, str](), set[str]()
    for event in Stored.read(folder / "journal" / "calls.db", scratch).rows.values():
        match event:
            case OperationStarted(arguments=arguments) | OperationResumed(arguments=arguments) if arguments:
                names[event.call] = str(msgspec.json.decode(arguments)[0][0])
            case OperationSucceeded() | OperationRecovered() if event.call in names:
                ended.add(names[event.call])
            case CheckpointSaved(data=data) if event.operation.startswith("steps "):
                ended |= msgspec.json.decode(data, type=RunRecord).results.keys()
    return ended


def installs(fork_server: ForkServer, share: float) -> list[Figure]:
    """The row of ``make torture``: a kill at each write, and then one more in the run after it, at a random one."""
    rng, figures = random.Random(SEED), list[Figure]()
    for installer in QUICK:
        for backend in BACKENDS:
            undisturbed = kill_at(fork_server, installer, [], backend)
            tallies = [undisturbed]
            for at in range(1, undisturbed.moments + 1, max(round(1 / share), 1)):
                tallies.append(kill_at(fork_server, installer, [at, rng.randint(1, undisturbed.moments)], backend))
            about = f"at {undisturbed.moments} moments of writes, seed {SEED}"
            figures.append(_figure(f"{installer}, {backend}, killed at a write", tallies, about))
    return figures


def launches(fork_server: ForkServer, share: float) -> list[Figure]:
    """The row of ``make torture`` with real git, pip and uv: killed at random moments, each alone and all in a row."""
    rng, figures = random.Random(SEED), list[Figure]()
    for number, installer in enumerate(REAL):
        moments = [rng.uniform(*SECONDS) for _ in range(scaled(KILLS, share))]
        backend = BACKENDS[number % len(BACKENDS)]
        alone = [kill_at(fork_server, installer, [at], backend) for at in moments]
        figures.append(_figure(f"{installer}, {backend}, killed at a random moment", alone, f"seed {SEED}"))
        in_a_row = [kill_at(fork_server, installer, moments, backend)]
        figures.append(_figure(f"{installer}, {backend}, the same in a row", in_a_row, f"seed {SEED}"))
    return figures


def _figure(what: str, tallies: Sequence[Tally], about: str) -> Figure:
    problems = [problem for tally in tallies for problem in tally.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    kills = f"{sum(tally.kills for tally in tallies)} kills, {about}"
    return Figure(f"install, {what}: repeated, or not whole", kills, f"{len(problems)}", "0", not problems)
