"""What the launchers install that are killed: each says what its servers were asked for, and what is wrong at last."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, Protocol

import anyio
import httpx2

from adapters.demo.server import FileServer, Hosted
from adapters.launcher.launcher import Launcher
from adapters.launcher.step_run import StepsUndoneError
from tests import application

PYTHON = "venv/bin/python"
WITHOUT_PIP = f"""#!/bin/sh
case "$*" in
*find_spec*) {sys.executable} "$@" | sed 's/True$/False/' ;;
*) exec {sys.executable} "$@" ;;
esac
"""
SILENT_IF_WHOLE = ("fsck --full", "status --porcelain", "ls-files --deleted")
MODEL = bytes(range(256)) * 40


class Installer(Protocol):
    """Something that is installed: where it comes from, how a launcher does it, and what must be there at last."""

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        """Start its servers, which end with *stack*; returns what ``install`` needs."""
        ...

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        """Resume, and install it, in the process that is killed."""
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
        launcher.resume()
        async with anyio.create_task_group() as group:
            group.start_soon(launcher.download, needs["model"], "model.bin")
            await launcher.run(["sh", "-ec", self.CLONE], done=self.done("plugin"), name="clone")
            await launcher.run(["sh", "-ec", self.INSTALL], done=self.done("packages/installed"), name="install")

    def done(self, path: str) -> str | None:
        """What tells that a program is done."""
        return path

    def begun(self) -> Counter[str]:
        return noted(self._folder) + Counter({"model.bin": len(self._server.requests)})

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


class Application:
    """An application: its models, repository, environment, package and server, and a prompt."""

    tool: Literal["pip", "uv"] = "pip"
    check: Sequence[str] = (PYTHON, "-m", "pip", "check")
    interpreter: str | None = None

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        self._folder = folder
        self._app = application.Application(folder.parent / "repositories", stack)
        return {"files": self._app.files.url, "repository": self._app.repository, "index": self._app.index.url}

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        launcher.resume()
        async with anyio.create_task_group() as group:
            for name in application.MODELS:
                group.start_soon(launcher.download, f"{needs['files']}/{name}", f"models/{name}")
            await launcher.clone(needs["repository"], "program")
            await launcher.venv("venv", self.interpreter)
            await launcher.packages("venv", "program/requirements.txt", indexes=[needs["index"]], tool=self.tool)
        argv = [launcher.root / PYTHON, "server.py", "{port}"]
        async with (
            launcher.server(argv, ready="http://127.0.0.1:{port}/", cwd="program") as server,
            httpx2.AsyncClient(timeout=30.0) as client,
        ):
            (await client.put(f"{server.url}/tree")).raise_for_status()

    def begun(self) -> Counter[str]:
        return self._app.begun()

    def wrong(self) -> list[str]:
        models = {f"models/{name}": one.content for name, one in self._app.models.items()}
        wrong = [name for name, wanted in models.items() if not is_file_with(self._folder / name, wanted)]
        said = {f"git {one}": said_by(["git", *one.split()], self._folder / "program") for one in SILENT_IF_WHOLE}
        said["check"] = said_by(self.check, self._folder, is_silent=True)
        painted = said_by([PYTHON, "-c", "import brush; print(brush.paint('x'))"], self._folder)
        pictures = [one.read_text() for one in self._folder.glob("pictures/*.txt")]
        prompts = (self._folder / "pictures/notes").read_text().count("begins tree")
        wrong += [f"{what} says {text!r}" for what, text in said.items() if text]
        wrong += [f"the package says {painted!r}"] if painted != "a picture of x\n" else []
        wrong += [f"the pictures are {pictures}"] if pictures != ["a picture of tree"] else []
        return wrong + ([f"the prompt was begun {prompts} times"] if prompts != 1 else [])


class ApplicationByUv(Application):
    """The same, installed by uv."""

    tool = "uv"
    check = (sys.executable, "-m", "uv", "pip", "check", "--python", PYTHON)


class ApplicationWithoutPip(ApplicationByUv):
    """The same with an interpreter that has no ensurepip, as Debian's: its environment takes 0.1 s, and not 3."""

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        program = folder.parent / "python"
        program.write_text(WITHOUT_PIP)
        program.chmod(0o755)
        return {**super().serve(stack, folder), "interpreter": str(program)}

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        self.interpreter = needs["interpreter"]
        await super().install(launcher, needs)


class Steps:
    """An update in two steps, which write a version each. A run that finds both versions does nothing."""

    on_crash: Literal["finish", "undo"] = "finish"

    def serve(self, stack: ExitStack, folder: Path) -> dict[str, str]:
        self._folder = folder
        self._write("source", "1")
        self._write("packages", "1")
        return {"folder": str(folder)}

    async def install(self, launcher: Launcher, needs: dict[str, str]) -> None:
        self._folder = Path(needs["folder"])
        update = launcher.steps("update", on_crash=self.on_crash)

        @update.step(before=self.version, undo=self.put_back, done=self.is_moved)
        async def move(to: str) -> str:
            self._note("move")
            self._write("source", to)
            return to

        @update.step(undo=self.reinstall)
        def install(move: str) -> None:
            self._note("install")
            self._write("packages", "")
            self._write("packages", move)

        await launcher.resume()
        while self.versions() != ["2", "2"]:
            with suppress(StepsUndoneError):  # the resumption has undone them
                await update.run("program", to="2")
            if self.versions() not in (["1", "1"], ["2", "2"]):
                raise AssertionError("it is neither finished nor undone")

    def version(self) -> str:
        return self.versions()[0]

    def is_moved(self, to: str) -> str | None:
        return to if self.version() == to else None

    def put_back(self, before: str) -> None:
        self._write("source", before)

    def reinstall(self) -> None:
        self._write("packages", "1")

    def versions(self) -> list[str]:
        return [(self._folder / name).read_text() for name in ("source", "packages")]

    def begun(self) -> Counter[str]:
        return noted(self._folder)

    def wrong(self) -> list[str]:
        return [] if self.versions() == ["2", "2"] else [f"the versions are {self.versions()}"]

    def _note(self, step: str) -> None:
        with (self._folder / "begun").open("a") as file:
            print(step, file=file)

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)


class UndoneSteps(Steps):
    """The same, where a run whose process died is undone, and begun again."""

    on_crash = "undo"

    def begun(self) -> Counter[str]:
        return Counter()  # what is undone is done again


INSTALLERS: dict[str, Callable[[], Installer]] = {
    "stub": Stub,
    "application": Application,
    "application by uv": ApplicationByUv,
    "application without pip": ApplicationWithoutPip,
    "steps": Steps,
    "undone steps": UndoneSteps,
    "forgetful": Forgetful,
}
QUICK = ("stub", "application without pip", "steps", "undone steps")
REAL = ("application", "application by uv")


def noted(folder: Path) -> Counter[str]:
    """How often each thing was begun, say the lines of the file ``begun``."""
    notes = folder / "begun"
    return Counter(notes.read_text().split()) if notes.exists() else Counter()


def is_file_with(path: Path, content: bytes) -> bool:
    """Whether *path* is a file with that *content*."""
    return path.is_file() and path.read_bytes() == content


def said_by(command: Sequence[str], folder: Path, *, is_silent: bool = False) -> str:
    """What *command* prints in *folder*, if it is not *is_silent*; how it failed, if it did."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    printed = "" if is_silent else done.stdout
    return f"{done.stdout}{done.stderr} (exit code {done.returncode})" if done.returncode else printed
