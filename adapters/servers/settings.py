"""What a server is started with, and the states in which it can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from adapters.servers.restarts import RestartPolicy
from recovery import validation
from recovery.serialization.secret import Secret

OnStuck: TypeAlias = Literal["notify", "restart"]
State: TypeAlias = Literal["starting", "ready", "busy", "refused", "restarting", "asking", "stopped", "gone"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is started with; ``Launcher.server`` says what the fields mean."""

    name: str
    argv: Sequence[str]
    ready: str
    port: int | Literal["auto"]
    env: Mapping[str, str | Secret]
    cwd: Path
    logs: Path
    restarts: RestartPolicy
    ready_timeout: float = 600.0
    on_stuck: OnStuck = "notify"
    on_output: Callable[[str], object] | None = None
    on_missing_module: Callable[[str], Awaitable[bool]] | None = None
    degraded_by: Callable[[str], str] | None = None
    confirm: Callable[[str, Sequence[str]], Awaitable[str]] | None = None
    before_stop: Callable[[int], object] | None = None
    every: float = 5.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.restarts, RestartPolicy):
            raise TypeError(f"restarts must be a RestartPolicy, not {self.restarts!r}")
        validation.number("ready_timeout", self.ready_timeout, above=0.0)
        validation.choice("on_stuck", self.on_stuck, get_args(OnStuck))
        validation.number("every", self.every, above=0.0)
        validation.number("grace", self.grace)

    @property
    def host(self) -> str:
        """The host of *ready*."""
        return urlsplit(with_port(self.ready, 1)).hostname or "127.0.0.1"


def with_port(text: str, port: int) -> str:
    """*text* with the port in the place of ``{port}``."""
    return text.replace("{port}", str(port))
