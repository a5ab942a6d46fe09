"""A launcher for plain code: its methods block, and run in one thread of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal, Unpack

import anyio

from adapters.comfyui.blocking import BlockingComfy
from adapters.downloads.http import Downloaded
from adapters.git.destination import Repository
from adapters.git.update import LocalChanges
from adapters.launcher.comfyui import RESTARTS as COMFYUI_RESTARTS
from adapters.launcher.comfyui import ComfyUIOptions
from adapters.launcher.done_checks import Done
from adapters.launcher.launcher_thread import OUTSIDE, LauncherThread
from adapters.launcher.packages import PROTECTED, Texts
from adapters.launcher.saga import OnCrash
from adapters.launcher.server import RESTARTS, ServerOptions
from adapters.launcher.steps import Steps
from adapters.packages.install import Installed
from adapters.packages.venv import Venv
from adapters.servers.blocking import BlockingServer
from adapters.servers.restarts import RestartPolicy
from adapters.servers.server import Server
from recovery.resume.handles import Resumption
from recovery.serialization.secret import Secret


class BlockingSteps:
    """What ``BlockingLauncher.steps`` returns: as ``Steps``, for plain code.

    Args:
        steps: The steps.
        call: Runs an async function in the thread of the launcher.
    """

    def __init__(self, steps: Steps, call: Callable[[Callable[[], Awaitable[dict[str, Any]]]], dict[str, Any]]) -> None:
        self.step = steps.step
        self._steps = steps
        self._call = call

    def run(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """As ``Steps.run``."""
        return self._call(lambda: self._steps.run(name, **arguments))


class BlockingLauncher(LauncherThread):
    """What ``Launcher.blocking`` returns: the bricks and ``register`` of a launcher, for plain code.

        with Launcher.blocking(presets.launcher(store=SQLiteStore("journal.db")), "models") as launcher:
            launcher.download("https://example.org/model.gguf", to="model.gguf")

    In the main thread SIGTERM, SIGHUP and Ctrl-C stop what runs, as under ``async with``. Safe to use from any thread.
    """

    def download(
        self,
        source: str | Sequence[str],
        to: str | os.PathLike[str],
        sha256: str | None = None,
        size: int | None = None,
        *,
        name: str | None = None,
    ) -> Downloaded:
        """As ``Launcher.download``."""
        return self._call(lambda: self._launcher.download(source, to, sha256, size, name=name))

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | Secret] | None = None,
        silence: float | None = None,
        done: Done | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """As ``Launcher.run``."""
        self._call(lambda: self._launcher.run(argv, cwd, env, silence, done, name=name))

    def clone(
        self,
        url: str,
        to: str | os.PathLike[str],
        ref: str | None = None,
        mirrors: Sequence[str] = (),
        depth: int | None = None,
        *,
        name: str | None = None,
    ) -> Repository:
        """As ``Launcher.clone``."""
        return self._call(lambda: self._launcher.clone(url, to, ref, mirrors, depth, name=name))

    def update(
        self,
        repo: str | os.PathLike[str],
        ref: str,
        on_local_changes: LocalChanges = "ask",
        *,
        name: str | None = None,
    ) -> Repository:
        """As ``Launcher.update``."""
        return self._call(lambda: self._launcher.update(repo, ref, on_local_changes, name=name))

    def packages(
        self,
        python: str | os.PathLike[str],
        requirements: Texts,
        protect: Sequence[str] = PROTECTED,
        indexes: Sequence[str | Secret] = (),
        tool: Literal["auto", "pip", "uv"] = "auto",
        *,
        name: str | None = None,
    ) -> Installed:
        """As ``Launcher.packages``."""
        return self._call(lambda: self._launcher.packages(python, requirements, protect, indexes, tool, name=name))

    @contextmanager
    def server(
        self,
        argv: Sequence[str | os.PathLike[str]],
        ready: str,
        port: int | Literal["auto"] = "auto",
        restarts: RestartPolicy = RESTARTS,
        **options: Unpack[ServerOptions],
    ) -> Iterator[BlockingServer]:
        """As ``Launcher.server``.

        Raises:
            ServerGoneError: Also at the end of a block whose server is gone.
        """
        entered, leaving = Future[Server](), anyio.Event()

        async def hold() -> None:
            try:
                async with self._launcher.server(argv, ready, port, restarts, **options) as server:
                    entered.set_result(server)
                    await leaving.wait()
            except BaseException as error:
                if not entered.done():
                    entered.set_exception(error)
                raise

        with self._begun(hold) as held:
            portal = self._portal
            assert portal is not None
            yield BlockingServer(entered.result(), portal)
            portal.call(leaving.set)
            held.result()

    @contextmanager
    def comfyui(
        self,
        path_or_argv: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        port: int | Literal["auto"] = "auto",
        restarts: RestartPolicy = COMFYUI_RESTARTS,
        *,
        name: str = "comfyui",
        **options: Unpack[ComfyUIOptions],
    ) -> Iterator[BlockingComfy]:
        """As ``Launcher.comfyui``.

        Raises:
            ServerGoneError: Also at the end of a block whose server is gone.
        """
        entered, leaving = Future[BlockingComfy](), anyio.Event()

        async def hold() -> None:
            try:
                async with self._launcher.comfyui(path_or_argv, port, restarts, name=name, **options) as comfy:
                    entered.set_result(BlockingComfy(comfy, self._call))
                    await leaving.wait()
            except BaseException as error:
                if not entered.done():
                    entered.set_exception(error)
                raise

        with self._begun(hold) as held:
            portal = self._portal
            assert portal is not None
            yield entered.result()
            portal.call(leaving.set)
            held.result()

    def steps(self, name: str, *, on_crash: OnCrash = "finish") -> BlockingSteps:
        """As ``Launcher.steps``; ``run`` of what it returns blocks."""
        return BlockingSteps(self._launcher.steps(name, on_crash=on_crash), self._call)

    def venv(
        self, path: str | os.PathLike[str], python: str | os.PathLike[str] | None = None, *, name: str | None = None
    ) -> Venv:
        """As ``Launcher.venv``."""
        return self._call(lambda: self._launcher.venv(path, python, name=name))

    def resume(self) -> Resumption:
        """As ``Launcher.resume``; ``service.resume`` would be called outside the thread that resumes calls.

        Raises:
            RuntimeError: It is called outside ``with``.
        """
        if self._portal is None:
            raise RuntimeError(OUTSIDE)
        (resumption,) = self._portal.call(lambda: (self._launcher.resume(),))  # the portal awaits what can be awaited
        return resumption
