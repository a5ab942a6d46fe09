"""``kind = "server"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from adapters.launcher.kinds.command import variables_of, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Place, Problem
from adapters.launcher.kinds.supervised import Supervised
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_ready_url

PORT = "{port}"
"""Where the port of the server goes."""


class Server(Supervised, frozen=True, kw_only=True, tag="server"):
    """``kind = "server"``: a program that serves while the launch lasts. What needs it begins when it is ready.

    A server that ends by itself is started again. One that a killed launch left running is taken over by the next.

    Args:
        run: The program and its arguments; `{port}` stands for its port, also in `ready` and `env`.
        ready: The URL that is asked whether it is ready: an answer of 2xx means that it is.
        cwd: The folder in which it runs, below the root.
    """

    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    ready: str
    cwd: str = "."

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
        async with launcher.server(
            self.run,
            self.ready,
            self.port,
            self.restarts,
            cwd=self.cwd,
            env=env,
            name=self.name,
            ready_timeout=self.ready_timeout,
        ) as server:
            await self.held(server, servers)
