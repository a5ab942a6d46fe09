"""A server as the program sees it: where it listens, how it is, and the wait until it is ready again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import anyio
import msgspec

from adapters.processes.identity import is_living
from adapters.processes.running import file_name
from adapters.servers.degraded import Degraded
from adapters.servers.restarts import History
from adapters.servers.run import Run
from adapters.servers.settings import Settings, State, with_port
from events.errors import NeedsPerson

log = logging.getLogger("recovery.launch")


class ServerGoneError(NeedsPerson):
    """A server has ended, and is not started again unless a person says so. The message has its last lines."""


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
        self.last_end = ""
        """How it ended the last time that it did so by itself, in words that follow its name; "" if it never did."""
        self.starts = 0
        """How often it was started; that of an adopted server counts."""
        self.on_state: Callable[[State], object] | None = None
        """Called with each new state."""
        self._settings = settings
        self._more: tuple[str, ...] = ()
        self._degraded = Degraded(settings.logs / f"{file_name(self.name)}.degraded")
        self._changed = anyio.Event()
        self._history = History()
        self._run: Run | None = None

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
        """Whether it has been ready since its latest start, lives, and does not refuse connections."""
        return self.state in ("ready", "busy") and self.pid is not None and is_living(self.pid)

    @property
    def degraded(self) -> tuple[str, ...]:
        """The parts that its output says do not work (plug-ins), since its latest start: it is ready without them."""
        return self._degraded.names

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

    def restart(self, why: str, more: Sequence[str] = ()) -> None:
        """End it and start it again, which uses up no restart. Wait with ``until_ready`` afterwards.

        Args:
            why: For the log.
            more: Arguments that it gets after its own from now on, in the place of those of an earlier call.
        """
        self._more = tuple(more)
        if self._run is not None and not self._run.wants_restart:
            log.warning("%s is ended and started again: %s", self.name, why)
            self._set("restarting")
            self._run.restart()

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._changed.set()
            self._changed = anyio.Event()
            if self.on_state is not None:
                self.on_state(state)


def restart_question(name: str) -> str:
    """The question whether the server *name*, whose restarts are used up, is started again."""
    return f"restart:{name}"
