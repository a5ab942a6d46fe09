"""What a ``server`` and a ``comfyui`` have in common: both are programs that serve while the launch lasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import anyio
import msgspec

from adapters.launcher.kinds.held_servers import Reachable, Servers
from adapters.launcher.kinds.operation import Operation
from adapters.servers.restarts import RestartPolicy
from recovery import validation


class Supervised(Operation, frozen=True, kw_only=True):
    """``kind = "server"`` and ``"comfyui"``: what both have.

    Args:
        port: Its port, or "auto": the one that it had the last time if that is free, or else any free one.
        env: As that of a command.
        max_restarts: Restarts that it may use up `within` so many seconds, before a person is asked whether it is
            started again. With 0 the first crash asks.
        within: Seconds for which it must have been ready after a restart until that no longer counts.
        ready_timeout: Seconds without a sign of life while it is not ready, after which a warning says that it may be
            stuck.
        hold: Whether the launch lasts until it is stopped, or the server has gone for good. With `false` the server is
            ended when all other operations have ended.
    """

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | Literal["auto"] = "auto"
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

    @property
    def restarts(self) -> RestartPolicy:
        """How often it may be started again."""
        return RestartPolicy(max_restarts=self.max_restarts, within=self.within)

    async def held(self, server: Reachable, servers: Servers) -> None:
        """Let what needs *server* begin, and wait until it may be ended."""
        servers.take(self.name, server)
        await (anyio.sleep_forever() if self.hold else servers.others_are_over.wait())
