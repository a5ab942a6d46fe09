"""``kind = "comfyui"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from adapters.launcher.kinds.command import variables_of, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Place, Problem
from adapters.launcher.kinds.supervised import Supervised
from adapters.launcher.launcher import Launcher


class ComfyUI(Supervised, frozen=True, kw_only=True, tag="comfyui"):
    """``kind = "comfyui"``: a ComfyUI server, held while the launch lasts, with a queue of prompts that survives it.

    A prompt that succeeds gives it its used restarts back.

    Args:
        path: The folder of ComfyUI, the one with `main.py`, below the root. Or give `run`.
        run: A program that starts ComfyUI, and its arguments; it gets `--port` where they do not name a port.
        python: The interpreter of the ComfyUI in `path`: a path below the root, or a program. Unset, it is that of its
            own `.venv` or `venv`, or else that of the launcher.
        window: How many prompts the server has at a time; the others wait in the journal.
    """

    path: str | None = None
    run: tuple[str, ...] = ()
    python: str | None = None
    window: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2

    def places(self) -> Iterator[Place]:
        """Its folder."""
        if self.path:
            yield Place("path", self.path, "read")

    def problems(self) -> Iterator[Problem]:
        """Words and variables that no server can have, and two servers, or none."""
        if self.path and self.run:
            yield "path", "is given, and run as well: leave one of them out"
        elif not self.path and not self.run:
            yield "path", "is missing: give the folder of ComfyUI, or the program in run"
        if self.run:
            yield from wrong_words("run", self.run)
            if self.python is not None:
                yield "python", "goes with path: it is the interpreter of the ComfyUI there"
        yield from wrong_variables(self.env)

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Hold it."""
        async with launcher.comfyui(
            self.path or self.run,
            self.port,
            self.restarts,
            name=self.name,
            window=self.window,
            python=self.python,
            ready_timeout=self.ready_timeout,
            env=variables_of(self.env, servers),
        ) as comfy:
            await self.held(comfy, servers)
