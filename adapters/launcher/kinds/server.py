"""``kind = "server"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import anyio
import msgspec

from adapters.launcher.kinds.command import variables_of, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_ready_url
from adapters.servers.restarts import RestartPolicy
from recovery import validation

PORT = "{port}"
"""Where the port of the server goes."""


class Server(Operation, frozen=True, kw_only=True, tag="server"):
    """``kind = "server"``: a program that serves while the launch lasts. What needs it begins when it is ready.

    A server that ends by itself is started again. One that a killed launch left running is taken over by the next.

    Args:
        run: The program and its arguments; `{port}` stands for its port, also in `ready` and `env`.
        ready: The URL that is asked whether it is ready: an answer of 2xx means that it is.
        port: Its port, or "auto": the one that it had the last time if that is free, or else any free one.
        cwd: The folder in which it runs, below the root.
        env: As that of a command.
        max_restarts: Restarts that it may use up `within` so many seconds, before a person is asked whether it is
            started again. With 0 the first crash asks.
        within: Seconds for which it must have been ready after a restart until that no longer counts.
        ready_timeout: Seconds without a sign of life while it is not ready, after which a warning says that it may be
            stuck.
        hold: Whether the launch lasts until it is stopped, or the server has gone for good. With `false` the server is
            ended when all other operations have ended.
    """

    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    ready: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | Literal["auto"] = "auto"
    cwd: str = "."
    env: dict[str, str] = msgspec.field(default_factory=dict)
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
        yield Place("cwd", self.cwd, "read")

    def problems(self) -> Iterator[Problem]:
        """Words, variables and URLs that no server can have."""
        yield from wrong_words("run", self.run)
        yield from wrong_variables(self.env)
        if (reason := wrong_ready_url(self.ready)) is not None:
            yield "ready", f"{self.ready!r} {reason}"
        if self.port != "auto":
            return
        if PORT not in self.ready:
            yield "ready", f'{self.ready!r} has no {PORT}: with port = "auto" the port is known at the start alone'
        if not any(PORT in text for text in (*self.run, *self.env.values())):
            yield "run", f'has no {PORT}, and env has none: with port = "auto" the server must be told its port'

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Hold it."""
        env = variables_of(self.env, servers)
        restarts = RestartPolicy(max_restarts=self.max_restarts, within=self.within)
        async with launcher.server(
            self.run,
            self.ready,
            self.port,
            restarts,
            cwd=self.cwd,
            env=env,
            name=self.name,
            ready_timeout=self.ready_timeout,
        ) as server:
            servers.take(self.name, server)
            await (anyio.sleep_forever() if self.hold else servers.others_are_over.wait())
