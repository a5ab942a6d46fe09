"""What the launchers install that are killed: each says what its servers were asked for, and what is wrong at last."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import anyio

from adapters.demo.server import FileServer, Hosted
from adapters.launcher.launcher import Launcher
from tests.application import MODELS, Application

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


class Cloned:
    """The models and the repository of an application."""

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        self._folder = folder
        self._app = Application(folder.parent / "repositories", stack)
        return {"files": self._app.files.url, "repository": self._app.repository, "index": self._app.index.url}

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        async with anyio.create_task_group() as group:
            for name in MODELS:
                group.start_soon(launcher.download, f"{needs['files']}/{name}", f"models/{name}")
            await launcher.clone(needs["repository"], "program")

    def begun(self) -> Counter[str]:
        return self._app.begun()

    def wrong(self) -> list[str]:
        models = {f"models/{name}": one.content for name, one in self._app.models.items()}
        wrong = [name for name, wanted in models.items() if not is_file_with(self._folder / name, wanted)]
        return wrong + [
            f"program: git {words} says {said!r}"
            for words in ("fsck --full", "status --porcelain", "ls-files --deleted")
            if (said := said_by(["git", *words.split()], self._folder / "program"))
        ]


INSTALLERS: dict[str, Callable[[], Installer]] = {"stub": Stub, "cloned": Cloned, "forgetful": Forgetful}
SOUND = ("stub", "cloned")


def is_file_with(path: Path, content: bytes) -> bool:
    """Whether *path* is a file with that *content*."""
    return path.is_file() and path.read_bytes() == content


def said_by(command: Sequence[str], folder: Path) -> str:
    """What *command* prints in *folder*; how it failed, if it did."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + (f"{done.stderr} (exit code {done.returncode})" if done.returncode else "")
