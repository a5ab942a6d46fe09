"""Keep a server running for a block: choose its port, run it, and decide what follows when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

import anyio
import msgspec

from adapters.processes.identity import is_living
from adapters.processes.running import file_name
from adapters.processes.silence import SilenceWatch
from adapters.servers.ports import LastPort, PortTakenError, free_port
from adapters.servers.probe import Answer, Kind
from adapters.servers.restarts import Ask, Ended, decide, names_of, words_of
from adapters.servers.run import Run
from adapters.servers.server import Server, ServerGoneError, restart_question
from adapters.servers.settings import Settings, State
from events.errors import Retryable
from events.evidence import Remedy
from recovery.explain import counted
from recovery.serialization.secret import Secret

FAILED_PAUSE, MOST_FAILED_PAUSE = 1.0, 60.0
"""Seconds of the pause once two starts in a row have failed (for want of processes, say); each further doubles them."""

log = logging.getLogger("recovery.launch")


class ServerEndedError(Retryable):
    """A server has ended by itself, and is started again."""


class Supervisor(Server):
    """Runs the server of a block. ``live`` is one attempt of the call "server": a start, and all until it ends.

    Args:
        settings: How it is started.
        secret: The value of a secret for the variable of that name.
    """

    def __init__(self, settings: Settings, secret: Callable[[str, Secret], str | Secret]) -> None:
        super().__init__(settings)
        self._secret = secret
        self._last_port = LastPort(settings.logs / f"{file_name(self.name)}.port")
        self._refreshed: set[str] = set()
        self._failures = self._said = 0
        self._has_run = self._has_been_ready = self.is_ending = False
        self._life = anyio.CancelScope()
        self.call = ""
        """The id of the call that runs it; "" before the first attempt."""
        self.call_over = anyio.Event()
        """Set once the block's wait for that call has ended."""
        self.has_returned = False
        """Whether ``live`` has returned: the call succeeds."""
        self._idle = anyio.Event()
        self._idle.set()

    async def live(self) -> None:
        """Start the server, or adopt the one that a killed launcher left, and return once it is ended on purpose.

        Raises:
            ServerEndedError: It has ended by itself, and is to be started again.
            ServerGoneError: It has ended by itself, and a person is to say whether it is started again.
            PortTakenError: Its port is not free.
            OSError, LookupError: As ``run_command``.
        """
        self._idle = anyio.Event()
        try:
            while not self.is_ending:
                with anyio.CancelScope() as self._life:
                    ended = await self._run_once()
                    if ended is not None:
                        await self._decide(ended)
            self.has_returned = True
        finally:
            self._idle.set()

    async def end(self) -> None:
        """End the server, because its block is over."""
        self.is_ending = True
        self._life.cancel()
        await self._idle.wait()
        if self.state != "gone":
            self._set("stopped")

    def gone(self, error: BaseException) -> None:
        """Note that it has ended for good. An error before it was ever ready is that of the whole block."""
        if self._has_been_ready and not isinstance(error, ServerGoneError):
            gone = ServerGoneError(f"{self.name} has ended for good: {error}")
            gone.__cause__ = error
            error = gone
        self.error = error
        self._set("gone")

    def watch_silence(self, allowed: float) -> SilenceWatch | None:
        """A watch that tells when it prints and does nothing for *allowed* seconds; ``None`` while it does not run.

        It is of the present run: make another one when ``starts`` has changed.
        """
        return None if self._run is None else self._run.watch_silence(allowed)

    # its runs

    async def _run_once(self) -> Ended | None:
        """Run it until it ends. Returns ``None`` if it is to be run again at once, and that is no restart."""
        self.port = self._choose()
        settings = msgspec.structs.replace(self._settings, argv=[*self._settings.argv, *self._more])
        self._run = Run(
            settings, self.port, self._secret, self._last_port, self._starts, self._stands, self._degraded
        )  # fmt: skip
        try:
            return await self._run.go()
        except PortTakenError as error:
            if self._settings.port == "auto":
                self.port = 0
                return None
            if not self._has_been_ready:
                raise
            self._set("asking")  # the block goes on: it is worth a question
            remedy = Remedy(f"End that process, then answer yes. {error}", question=restart_question(self.name))
            raise ServerGoneError(str(error), remedy=remedy) from error
        except Exception:
            if self._failures:
                await anyio.sleep(min(FAILED_PAUSE * 2 ** (self._failures - 1), MOST_FAILED_PAUSE))
            self._failures += 1
            raise
        finally:
            self._run, self.pid = None, None

    def _choose(self) -> int:
        """The port to try: the last one first, so that a server of a killed launcher is known by its command line."""
        if self._settings.port != "auto":
            return self._settings.port
        if not self._has_run:
            self._has_run, self.port = True, self._last_port.read() or 0
        return self.port or free_port(self._settings.host)

    def _starts(self, pid: int | None, is_orphan: bool) -> None:
        self.pid = pid
        self.starts += 1
        self._said = 0
        self._failures = 0
        self._set("starting")
        if is_orphan:
            log.warning("%s still runs as process %s, and is adopted: its launcher was killed", self.name, pid)

    def _stands(self, answer: Answer, *, is_first: bool) -> None:
        """Note how it answered, once it has been ready."""
        if is_first:
            self._has_been_ready = True
            log.info("%s is ready at %s", self.name, self.url)
        states: dict[Kind, State] = {Kind.READY: "ready", Kind.REFUSED: "refused"}
        state = states.get(answer.kind, "busy")
        if state not in ("ready", self.state) and self.pid is not None and is_living(self.pid):
            log.warning("%s %s; it lives, and is not ended for that", self.name, answer.said)
        self._set(state)
        self._say_what_it_lacks()

    def _say_what_it_lacks(self) -> None:
        """Warn of what its output says does not work, once for each part: the lines may come after the first answer."""
        new = self.degraded[self._said :]
        self._said = len(self.degraded)
        if new:
            text = "%s goes on without %s, which could not be loaded; its log says why: %s"
            log.warning(text, self.name, names_of(new), self._settings.logs / f"{file_name(self.name)}.log")
            if self.on_state is not None:
                self.on_state(self.state)

    # its end

    async def _decide(self, ended: Ended) -> NoReturn:
        self.last_end = words = words_of(ended)
        verdict, self._history = decide(self._settings.restarts, self._history, ended)
        if isinstance(verdict, Ask):
            if verdict.module and await self._is_installed(verdict.module):
                self._set("restarting")
                raise ServerEndedError(f"{self.name} {words}, without {verdict.module}, which is installed now")
            self._set("asking")
            raise _gone(self._settings, ended, verdict, words)
        self._set("restarting")
        number, most = verdict.number, self._settings.restarts.max_restarts
        count = f"restart {number} of {most}" if number else "its port was taken, so that this is no restart"
        log.warning("%s %s; it is started again in %g s (%s)", self.name, words, verdict.delay, count)
        raise ServerEndedError(f"{self.name} {words}{_said(ended)}", after=verdict.delay)

    async def _is_installed(self, module: str) -> bool:
        hook = self._settings.on_missing_module
        if hook is None or module in self._refreshed:
            return False
        self._refreshed.add(module)
        try:
            return await hook(module)
        except Exception as error:  # a person is asked, as if there was no hook
            text = "%s needs the Python module %s, and on_missing_module failed: %s: %s"
            log.warning(text, self.name, module, type(error).__name__, error)
            return False


def _gone(settings: Settings, ended: Ended, verdict: Ask, words: str) -> ServerGoneError:
    name = settings.name
    if verdict.module:
        problem = f"{name} needs the Python module {verdict.module}, which is not installed in its environment"
        cure = f"Install what {verdict.module} belongs to, then answer yes"
    else:
        most, within = settings.restarts.max_restarts, settings.restarts.within
        used = f"has used up its {counted(most, 'restart')} within {within:g} s" if most else "has no restarts"
        problem, cure = f"{name} {words}, and {used}", "Answer yes to start it again"
    problem = f"{problem}; all output is in {settings.logs / file_name(name)}.log{_said(ended)}"
    return ServerGoneError(problem, remedy=Remedy(f"{cure}. {problem}", question=restart_question(name)))


def _said(ended: Ended) -> str:
    """The last lines that it printed, for the end of a message; the very last one first, since lists cut a message."""
    *before, last = [line for line in ended.output if line.strip()] or [""]
    earlier = "".join(f"\n  {line}" for line in before)
    said = f"; it printed last:\n  {last.strip()}" if last else ""
    return f"{said}\nand before that:{earlier}" if before else said
