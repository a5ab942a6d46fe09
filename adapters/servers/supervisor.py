"""Run a server: find a port, start it, probe it until it ends, and decide what follows."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
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
from adapters.servers.server import Server, ServerGoneError, Settings, State, with_port
from events.errors import Retryable
from events.evidence import Remedy
from recovery.serialization.secret import Secret

FIRST_PROBES = 0.1
MOST_BETWEEN_FIRST_PROBES = 1.0
"""Seconds between two probes of a server that starts; they grow by a tenth."""

log = logging.getLogger("recovery.launch")


class ServerEndedError(Retryable):
    """A server has ended by itself, and is started again."""


class Supervisor(Server):
    """Runs the server of a block. ``live`` is one attempt of the call "server": a start, and all until it ends.

    Args:
        settings: How it is started.
        environment: Finds the values of its variables, at each start.
    """

    def __init__(self, settings: Settings, environment: Callable[[], Mapping[str, str | Secret]]) -> None:
        super().__init__(settings)
        self._environment = environment
        self._last_port = LastPort(settings.logs / f"{self._files}.port")
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._tree: Tree | None = None
        self._is_adopted = self._is_taken = self.is_ending = False
        self._watch: SilenceWatch | None = None
        self._ready_since: float | None = None
        self._refreshed: set[str] = set()
        self._stuck = ""
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
                self._wants_restart = False
                ended = await self._run()
                if ended is not None:
                    await self._decide(ended)
            self.has_returned = True
        finally:
            self._idle.set()

    async def end(self) -> None:
        """End the server, because its block is over."""
        self.is_ending = True
        if self._scope is not None:
            self._scope.cancel()
        await self._idle.wait()
        self._set("stopped")

    def gone(self, error: BaseException) -> None:
        """Note that it has ended for good."""
        self.error = error
        self._set("gone")

    # one run

    async def _run(self) -> Ended | None:
        """Run it until it ends. Returns ``None`` if the launcher ended it, or it is started on another port."""
        self.port = self._choose()
        self._tree, self._is_adopted, self._is_taken, self._stuck = None, False, False, ""
        self._tail.clear()
        self._ready_since = None
        failure: Exception | None = None
        code: int | None = 0
        with anyio.CancelScope() as self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._probe)
                try:
                    await self._command()
                except subprocess.CalledProcessError as error:
                    code = error.returncode
                except Exception as error:  # it leaves the group as it is
                    failure = error
                group.cancel_scope.cancel()
        self._scope, self.pid = None, None
        if failure is not None:
            raise failure
        if self._is_taken:
            if self._settings.port != "auto":
                holder = await anyio.to_thread.run_sync(holder_of, self.port)
                cure = "end that, or give another port"
                raise PortTakenError(f"{self.name} was not started: {holder} holds its port {self.port}; {cure}")
            self.port = 0
            return None
        if self.is_ending or self._wants_restart:
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
        last = self.port or (self._last_port.read() if self._is_first else None)
        self._is_first = False
        return last or free_port(self._host)

    _is_first = True

    async def _command(self) -> None:
        one = self._settings
        await run_command(
            self.name,
            [with_port(word, self.port) for word in one.argv],
            cwd=one.cwd,
            logs=one.logs,
            env={
                key: with_port(value, self.port) if isinstance(value, str) else value
                for key, value in self._environment().items()
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
        self._tree, self._is_adopted, self.pid = tree, is_orphan, tree.group
        self._watch = SilenceWatch(self._settings.ready_timeout, tree)
        self.starts += 1
        self._set("starting")
        if is_orphan:
            log.warning("%s still runs as process %s, and is adopted: its launcher was killed", self.name, self.pid)

    def _printed(self, line: str) -> None:
        self._tail.append(line)
        if self._watch is not None:
            self._watch.start_over()
        if self._settings.on_output is not None:
            self._settings.on_output(line)

    # probes

    async def _probe(self) -> None:
        """Ask it again and again how it is, from its start on."""
        pause, reminder = FIRST_PROBES, Reminder()
        async with Probe() as probe:
            while True:
                if self._tree is not None and self._watch is not None:
                    answer = await probe.ask(with_port(self._settings.ready, self.port))
                    self._take(answer)
                    if answer.kind is not Kind.READY and self._watch.is_over() and reminder.is_due():
                        self._is_stuck(answer)
                pause = self._settings.every if self.is_ready else min(pause * 1.1, MOST_BETWEEN_FIRST_PROBES)
                await anyio.sleep(pause)

    def _take(self, answer: Answer) -> None:
        if answer.kind is not Kind.REFUSED and self._watch is not None:
            self._watch.start_over()
        if answer.kind is Kind.READY:
            if self._ready_since is None:
                self._ready_since = time.monotonic()
                log.info("%s is ready at %s", self.name, self.url)
            self._set("ready")
        elif self._ready_since is not None:
            state: State = "busy" if answer.kind is Kind.BUSY else "refused"
            if state != self.state:
                log.warning("%s %s; it lives, and is not ended for that", self.name, answer.said)
            self._set(state)

    def _is_stuck(self, answer: Answer) -> None:
        seconds = self._settings.ready_timeout
        problem = f"it {answer.said}, and printed nothing and did nothing for {seconds:g} s"
        if self._settings.on_stuck == "notify" or self._scope is None:
            log.warning("%s may be stuck: %s; it is not ended for that", self.name, problem)
            return
        self._stuck = problem
        self._scope.cancel()

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
        problem = f"{name} {words}, and has used up its {most} restarts within {within:g} s"
        cure = "Answer yes to start it again"
    remedy = Remedy(f"{cure}: {problem}.{_said(ended)}", question=f"restart:{name}")
    return ServerGoneError(f"{problem}{_said(ended)}", remedy=remedy)


def _said(ended: Ended) -> str:
    """The last lines, for the end of a message."""
    return "".join(f"\n  {line}" for line in ended.output)
