"""``kind = "comfyui"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import anyio
import msgspec

from adapters.launcher.kinds.command import variables_of, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.servers.restarts import RestartPolicy
from recovery import validation


class ComfyUI(Operation, frozen=True, kw_only=True, tag="comfyui"):
    """``kind = "comfyui"``: a ComfyUI server, held while the launch lasts, with a queue of prompts that survives it.

    Args:
        path: The folder of ComfyUI, the one with `main.py`, below the root. Or give `run`.
        run: A program that starts ComfyUI, and its arguments; it gets `--port` where they do not name a port.
        python: The interpreter of the ComfyUI in `path`: a path below the root, or a program. Unset, it is that of its
            own `.venv` or `venv`, or else that of the launcher.
        port: Its port, or "auto": the one that it had the last time if that is free, or else any free one.
        env: As that of a command.
        window: How many prompts the server has at a time; the others wait in the journal.
        max_restarts: Restarts that it may use up `within` so many seconds, before a person is asked whether it is
            started again. A prompt that succeeds gives them all back.
        within: Seconds for which it must have been ready after a restart until that no longer counts.
        ready_timeout: Seconds without a sign of life while it is not ready, after which a warning says that it may be
            stuck.
        hold: Whether the launch lasts until it is stopped, or the server has gone for good. With `false` the server is
            ended when all other operations have ended.
    """

    path: str | None = None
    run: tuple[str, ...] = ()
    python: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | Literal["auto"] = "auto"
    env: dict[str, str] = msgspec.field(default_factory=dict)
    window: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2
    max_restarts: int = 3
    within: float = 600.0
    ready_timeout: float = 600.0
    hold: bool = True

    CALLS = ("server",)
    LASTS: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validation.whole("max_restarts", self.max_restarts, least=0)
        validation.number("within", self.within, above=0.0)
        validation.number("ready_timeout", self.ready_timeout, above=0.0)

    @property
    def variables(self) -> Mapping[str, str]:
        """Its ``env``."""
        return self.env

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
        restarts = RestartPolicy(max_restarts=self.max_restarts, within=self.within)
        async with launcher.comfyui(
            self.path or self.run,
            self.port,
            restarts,
            name=self.name,
            window=self.window,
            python=self.python,
            ready_timeout=self.ready_timeout,
            env=variables_of(self.env, servers),
        ) as comfy:
            servers.take(self.name, comfy)
            await (anyio.sleep_forever() if self.hold else servers.others_are_over.wait())
