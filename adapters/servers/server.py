"""A server as the program sees it: where it listens, how it is, and the wait until it is ready again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import anyio
import msgspec

from adapters.servers.restarts import History, RestartPolicy
from events.errors import NeedsPerson
from recovery import validation
from recovery.serialization.secret import Secret

OnStuck: TypeAlias = Literal["notify", "restart"]
State: TypeAlias = Literal["starting", "ready", "busy", "refused", "restarting", "asking", "stopped", "gone"]

log = logging.getLogger("recovery.launch")


class ServerGoneError(NeedsPerson):
    """A server has ended, and is not started again unless a person says so. The message has its last lines."""


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
    every: float = 5.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.restarts, RestartPolicy):
            raise TypeError(f"restarts must be a RestartPolicy, not {self.restarts!r}")
        validation.number("ready_timeout", self.ready_timeout, above=0.0)
        validation.choice("on_stuck", self.on_stuck, get_args(OnStuck))
        validation.number("every", self.every, above=0.0)
        validation.number("grace", self.grace)


class Server:
    """A server that the launcher holds, as ``async with launcher.server(...) as server`` gives it.

    ``state`` is one of

    - "starting": it runs, or waits for another launch to end, and has not been ready yet;
    - "ready": the last probe was answered by 2xx;
    - "busy": it has been ready, and the last probe was answered too late or by another status;
    - "refused": it has been ready, lives, and refuses connections;
    - "restarting": it has ended by itself, and is started again;
    - "asking": it waits for the answer to the question ``restart:NAME``;
    - "stopped": the launcher has ended it, since the block is over;
    - "gone": it has ended for good, and ``error`` says why.

    Args:
        settings: How it is started.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.port = 0
        """Its port; 0 before the first start."""
        self.pid: int | None = None
        """The process id of its own process; ``None`` while none runs."""
        self.state: State = "starting"
        self.error: BaseException | None = None
        """Why it has ended for good."""
        self.starts = 0
        """How often it was started; that of an adopted server counts."""
        self._settings = settings
        self._changed = anyio.Event()
        self._history = History()
        self._run_scope: anyio.CancelScope | None = None
        self._wants_restart = False

    def __repr__(self) -> str:
        return f"<Server {self.name}: {self.state}, {self.url or 'not started'}>"

    @property
    def url(self) -> str:
        """Its address, as ``http://127.0.0.1:8188``, without a path; "" before the first start."""
        if not self.port:
            return ""
        parts = urlsplit(with_port(self._settings.ready, self.port))
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_ready(self) -> bool:
        """Whether it has been ready since its latest start, and lives."""
        return self.state in ("ready", "busy", "refused")

    async def until_ready(self) -> None:
        """Wait until it is ready, also after a restart.

        Raises:
            ServerGoneError: It has ended for good.
        """
        while not self.is_ready:
            if self.error is not None:
                raise self.error
            if self.state == "stopped":
                raise ServerGoneError(f"{self.name} was ended: its block is over")
            await self._changed.wait()

    async def until_gone(self) -> None:
        """Wait until it has ended for good, or its block is over."""
        while self.state not in ("gone", "stopped"):
            await self._changed.wait()

    def refill(self) -> None:
        """Give its restarts back: it has done useful work (finished a prompt, say)."""
        self._history = msgspec.structs.replace(self._history, restarts=())

    def restart(self, why: str) -> None:
        """End it and start it again, which uses up no restart. Wait with ``until_ready`` afterwards.

        Args:
            why: For the log.
        """
        if self._run_scope is not None and not self._wants_restart:
            log.warning("%s is ended and started again: %s", self.name, why)
            self._wants_restart = True
            self._set("restarting")
            self._run_scope.cancel()

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._changed.set()
            self._changed = anyio.Event()


def restart_question(name: str) -> str:
    """The question whether the server *name*, whose restarts are used up, is started again."""
    return f"restart:{name}"


def with_port(text: str, port: int) -> str:
    """*text* with the port in the place of ``{port}``."""
    return text.replace("{port}", str(port))
