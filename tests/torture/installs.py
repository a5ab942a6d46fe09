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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import anyio
import msgspec

from adapters.demo.server import FileServer, Hosted
from adapters.launcher.launcher import Launcher
from events.operation_events import OperationRecovered, OperationResumed, OperationStarted, OperationSucceeded
from recovery import presets
from tests.torture.figures import MEMORY_FOLDER, Figure
from tests.torture.fork_server import ForkServer
from tests.torture.killing_store import KillingStore
from tests.torture.recovered_files import Stored

BACKENDS = ("asyncio", "trio")
LAST_SECONDS = 60.0
"""Seconds that a run has that is not killed."""
SEED = 0
MODEL = bytes(range(256)) * 40


class Installer(Protocol):
    """Something that is installed: where it comes from, how a launcher does it, and what must be there at last."""

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        """Start its servers, which end with *stack*; returns what ``install`` needs."""
        ...

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        """Install it, in the process that is killed."""
        ...

    def begun(self) -> Counter[str]:
        """How often each thing was begun, by the name of its call."""
        ...

    def wrong(self) -> list[str]:
        """What is not as it must be, once a run has ended well."""
        ...


class Stub:
    """A download, and two programs: the first is like a clone, the other like the installation of a package."""

    CLONE = """
        echo clone >> begun
        rm -rf plugin.cloning && mkdir -p plugin.cloning
        echo one > plugin.cloning/one; echo two > plugin.cloning/two
        mv plugin.cloning plugin"""
    INSTALL = """
        echo install >> begun
        mkdir -p packages; echo 2 > packages/version; cp plugin/one packages/module
        : > packages/installed"""

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        self._folder = folder
        self._server = stack.enter_context(FileServer({"/model": Hosted(MODEL)}))
        return {"model": f"{self._server.url}/model"}

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(launcher.download, needs["model"], "model.bin")
            await launcher.run(["sh", "-ec", self.CLONE], done=self.done("plugin"), name="clone")
            await launcher.run(["sh", "-ec", self.INSTALL], done=self.done("packages/installed"), name="install")

    def done(self, path: str) -> str | None:
        """What tells that a program is done."""
        return path

    def begun(self) -> Counter[str]:
        notes = self._folder / "begun"
        programs = Counter(notes.read_text().split()) if notes.exists() else Counter[str]()
        return programs + Counter({"model.bin": len(self._server.requests)})

    def wrong(self) -> list[str]:
        content = {
            "model.bin": MODEL, "plugin/one": b"one\n", "plugin/two": b"two\n",
            "packages/version": b"2\n", "packages/module": b"one\n",
        }  # fmt: skip
        return [name for name, wanted in content.items() if not is_file_with(self._folder / name, wanted)]


class Forgetful(Stub):
    """The same without a look at what is there: the bug that must be noticed."""

    def done(self, path: str) -> None:
        return None


INSTALLERS: dict[str, Callable[[], Installer]] = {"stub": Stub, "forgetful": Forgetful}
SOUND = ("stub",)


def is_file_with(path: Path, content: bytes) -> bool:
    """Whether *path* is a file with that *content*."""
    return path.is_file() and path.read_bytes() == content


def launch(installer: str, folder: str, needs: dict[str, str], at: int, backend: str) -> None:
    """Be the launcher, in a process of its own; how many moments it had is in a file, if it lives."""
    store = KillingStore(Path(folder, "journal", "calls.db"), at)

    async def run() -> None:
        async with Launcher(presets.launcher(store=store), folder) as launcher:
            launcher.resume()
            await INSTALLERS[installer]().install(launcher, needs)

    anyio.run(run, backend=backend)
    Path(folder, "moments").write_text(str(store.moments))


class Tally(msgspec.Struct):
    """What became of installations that were killed: *moments* is how many the last run had."""

    kills: int = 0
    moments: int = 0
    problems: list[str] = []


def kill_at(fork_server: ForkServer, installer: str, moments: list[int], backend: str = "asyncio") -> Tally:
    """Install with a launcher that is killed at each of *moments*, in a run of its own; a last run is not killed."""
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name, ExitStack() as stack:
        folder, one, done = Path(name, "root"), INSTALLERS[installer](), Counter[str]()
        folder.mkdir()
        needs = one.serve(stack, folder)
        for run, at in enumerate([*moments, 0]):
            child = fork_server.fork(launch, installer, str(folder), needs, at, backend, out=Path(name, "out"))
            code = child.wait(LAST_SECONDS)
            tally.kills += code == -signal.SIGKILL
            if code is None or (code != 0 and not (at and code == -signal.SIGKILL)):
                child.kill()
                tally.problems.append(f"run {run} ended with {code}: {Path(name, 'out').read_text()[-3000:]}")
            begun = one.begun()
            tally.problems += [
                f"{what} is done after {times}, and began {begun[what]} times until the end of run {run}"
                for what, times in done.items()
                if begun[what] != times
            ]
            done.update({what: begun[what] for what in succeeded(folder, Path(name)) - done.keys()})
        tally.problems += [f"{what} is wrong at last" for what in one.wrong()]
        tally.problems = [f"{installer}, {backend}, killed at {moments}: {problem}" for problem in tally.problems]
        if not tally.problems:
            tally.moments = int((folder / "moments").read_text())
    return tally


def succeeded(folder: Path, scratch: Path) -> set[str]:
    """The names of the calls that have succeeded, says the journal."""
    names, ended = dict[str, str](), set[str]()
    for event in Stored.read(folder / "journal" / "calls.db", scratch).rows.values():
        match event:
            case OperationStarted(arguments=arguments) | OperationResumed(arguments=arguments) if arguments:
                names[event.call] = str(msgspec.json.decode(arguments)[0][0])
            case OperationSucceeded() | OperationRecovered():
                ended.add(event.call)
    return {names[call] for call in ended}


def installs(fork_server: ForkServer, share: float) -> list[Figure]:
    """The row of ``make torture``: a kill at each moment, and then one more in the run after it, at a random one."""
    figures = []
    rng = random.Random(SEED)
    for installer in SOUND:
        for backend in BACKENDS:
            undisturbed = kill_at(fork_server, installer, [], backend)
            tallies = [undisturbed]
            for at in range(1, undisturbed.moments + 1, max(round(1 / share), 1)):
                tallies.append(kill_at(fork_server, installer, [at, rng.randint(1, undisturbed.moments)], backend))
            problems = [problem for tally in tallies for problem in tally.problems]
            for problem in problems:
                print(problem, file=sys.stderr)
            kills = f"{sum(tally.kills for tally in tallies)} kills at {undisturbed.moments} moments, seed {SEED}"
            figures.append(
                Figure(
                    f"killed at a write, {installer}, {backend}: repeated or not whole",
                    kills,
                    f"{len(problems)}",
                    "0",
                    not problems,
                )
            )
    return figures
