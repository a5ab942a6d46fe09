"""Run a server: find a port, start it, probe it until it ends, and decide what follows."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from adapters.processes.command import run_command
from adapters.processes.running import Reminder, file_name
from adapters.processes.silence import SilenceWatch
from adapters.processes.tree import Tree
from adapters.servers.ports import LastPort, PortTakenError, free_port, holder_of, is_free
from adapters.servers.probe import Answer, Kind, Probe
from adapters.servers.restarts import LAST_LINES, Ask, Ended, decide, words_of
from adapters.servers.server import Server, ServerGoneError, Settings, State, restart_question, with_port
from events.errors import Retryable
from events.evidence import Remedy
from recovery.explain import counted
from recovery.serialization.secret import Secret

FIRST_PAUSE, GROWTH, MOST_PAUSE = 0.05, 1.2, 1.0
"""Seconds between two probes of a server that starts, and how they grow."""

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
        self._on_output = settings.on_output
        self._last_port = LastPort(settings.logs / f"{self._files}.port")
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._is_adopted = self._is_taken = self.is_ending = False
        self._is_first, self._has_been_ready = True, False
        self._watch: SilenceWatch | None = None
        self._ready_since: float | None = None
        self._refreshed: set[str] = set()
        self._stuck = ""
        self._life = anyio.CancelScope()
        self.call = ""
        """The id of the call that runs it; "" before the first attempt."""
        self.call_over = anyio.Event()
        """Set once the block's wait for that call has ended."""
        self.has_returned = False
        """Whether ``live`` has returned: the call succeeds."""
        self._idle = anyio.Event()
        self._idle.set()

    @property
    def _files(self) -> str:
        return file_name(f"server-{self.name}")

    @property
    def _host(self) -> str:
        return urlsplit(with_port(self._settings.ready, 1)).hostname or "127.0.0.1"

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
                    ended = await self._run()
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

    # one run

    async def _run(self) -> Ended | None:
        """Run it until it ends. Returns ``None`` if the launcher ended it, or it is started on another port."""
        self.port = self._choose()
        self._watch, self._is_adopted, self._is_taken, self._stuck = None, False, False, ""
        self._tail.clear()
        self._ready_since, self._wants_restart = None, False
        failure: Exception | None = None
        code: int | None = 0
        with anyio.CancelScope() as self._run_scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._probe)
                try:
                    await self._command()
                except subprocess.CalledProcessError as error:
                    code = error.returncode
                except Exception as error:  # it leaves the group as it is
                    failure = error
                group.cancel_scope.cancel()
        self._run_scope, self.pid = None, None
        if failure is not None:
            raise failure
        if self._is_taken:
            if self._settings.port != "auto":
                holder = await anyio.to_thread.run_sync(holder_of, self.port)
                cure = "end that, or give another port"
                raise PortTakenError(f"{self.name} was not started: {holder} holds its port {self.port}; {cure}")
            self.port = 0
            return None
        if self._wants_restart:
            return None
        return Ended(
            code=None if self._is_adopted or self._stuck else code,
            output=tuple(self._tail),
            ready_for=0.0 if self._ready_since is None else time.monotonic() - self._ready_since,
            is_port_held=not is_free(self.port, self._host),
            stuck=self._stuck,
        )

    def _choose(self) -> int:
        """The port to try: the last one first, so that a server of a killed launcher is known by its command line."""
        if self._settings.port != "auto":
            return self._settings.port
        if self._is_first:
            self._is_first, self.port = False, self._last_port.read() or 0
        return self.port or free_port(self._host)

    async def _command(self) -> None:
        one = self._settings
        await run_command(
            self.name,
            [with_port(word, self.port) for word in one.argv],
            cwd=one.cwd,
            logs=one.logs,
            env={
                key: with_port(value, self.port) if isinstance(value, str) else self._secret(key, value)
                for key, value in one.env.items()
            },
            orphans="adopt",
            grace=one.grace,
            on_output=self._printed,
            files=f"server-{self.name}",
            is_done=self._must_not_start,
            hold=self._started,
        )

    async def _must_not_start(self) -> bool:
        """Asked before the start: the server of a killed launcher has just ended, or the port is not free."""
        if not self._is_adopted:
            self._is_taken = not is_free(self.port, self._host)
            if not self._is_taken:
                self._last_port.write(self.port)
        return self._is_adopted or self._is_taken

    def _started(self, tree: Tree, is_orphan: bool) -> None:
        self._is_adopted, self.pid = is_orphan, tree.group
        self._watch = SilenceWatch(self._settings.ready_timeout, tree)
        self.starts += 1
        self._set("starting")
        if is_orphan:
            log.warning("%s still runs as process %s, and is adopted: its launcher was killed", self.name, self.pid)

    def _printed(self, line: str) -> None:
        self._tail.append(line)
        if self._watch is not None:
            self._watch.start_over()
        try:
            if self._on_output is not None:
                self._on_output(line)
        except Exception:  # the lines are needed here, too
            log.exception("the function that is told the output of %s failed, and is not called again", self.name)
            self._on_output = None

    # probes

    async def _probe(self) -> None:
        """Ask it again and again how it is, from its start on."""
        pause, reminder = FIRST_PAUSE, Reminder()
        async with Probe() as probe:
            while True:
                if self._watch is not None:
                    answer = await probe.ask(with_port(self._settings.ready, self.port))
                    self._take(answer)
                    if answer.kind is not Kind.READY and self._watch.is_over() and reminder.is_due():
                        self._is_stuck(answer)
                    pause = min(pause * GROWTH, MOST_PAUSE)
                await anyio.sleep(self._settings.every if self.is_ready else pause)

    def _take(self, answer: Answer) -> None:
        if answer.kind is Kind.OTHER and self._watch is not None:
            self._watch.start_over()
        if answer.kind is Kind.READY:
            if self._ready_since is None:
                self._ready_since, self._has_been_ready = time.monotonic(), True
                log.info("%s is ready at %s", self.name, self.url)
            self._set("ready")
        elif self._ready_since is not None:
            state: State = "refused" if answer.kind is Kind.REFUSED else "busy"
            if state != self.state:
                log.warning("%s %s; it lives, and is not ended for that", self.name, answer.said)
            self._set(state)

    def _is_stuck(self, answer: Answer) -> None:
        seconds = self._settings.ready_timeout
        problem = f"it {answer.said}, and printed nothing and did nothing for {seconds:g} s"
        if self._settings.on_stuck == "notify" or self._run_scope is None:
            log.warning("%s may be stuck: %s; it is not ended for that", self.name, problem)
            return
        self._stuck = problem
        self._run_scope.cancel()

    # its end

    async def _decide(self, ended: Ended) -> NoReturn:
        words = words_of(ended)
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
        return await hook(module)


def _gone(settings: Settings, ended: Ended, verdict: Ask, words: str) -> ServerGoneError:
    name = settings.name
    if verdict.module:
        problem = f"{name} needs the Python module {verdict.module}, which is not installed in its environment"
        cure = f"Install what {verdict.module} belongs to, then answer yes"
    else:
        most, within = settings.restarts.max_restarts, settings.restarts.within
        used = f"has used up its {counted(most, 'restart')} within {within:g} s" if most else "has no restarts"
        problem, cure = f"{name} {words}, and {used}", "Answer yes to start it again"
    remedy = Remedy(f"{cure}. {problem}{_said(ended)}", question=restart_question(name))
    return ServerGoneError(f"{problem}{_said(ended)}", remedy=remedy)


def _said(ended: Ended) -> str:
    """The last lines that it printed, for the end of a message."""
    lines = "".join(f"\n  {line}" for line in ended.output)
    return f"; it printed last:{lines}" if lines else ""
