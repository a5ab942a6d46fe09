"""One run of a server: started, or adopted from a killed launcher, and probed until it ends."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.to_thread

from adapters.processes.command import run_command
from adapters.processes.running import Reminder
from adapters.processes.silence import SilenceWatch
from adapters.processes.tree import Tree
from adapters.servers.degraded import Degraded
from adapters.servers.ports import LastPort, PortTakenError, holder_of, is_free, listeners
from adapters.servers.probe import Answer, Kind, Probe
from adapters.servers.restarts import LAST_LINES, Ended
from adapters.servers.settings import Settings, with_port
from recovery.redact import brief, redact
from recovery.serialization.secret import Secret

FIRST_PAUSE, GROWTH, MOST_PAUSE = 0.05, 1.2, 1.0
"""Seconds between two probes of a server that starts, and how they grow."""

DOUBT = 120.0
"""Seconds from the start after which an answer counts that comes from a process which is none of the server's."""

NOTICE, LATE_NOTICE = 10.0, 60.0
"""Seconds from the start to a warning that it is not ready: that it answers another status, and that it does not."""

log = logging.getLogger("recovery.launch")


class Stands(Protocol):
    """Is told how a server answers, from the first time that it is ready on."""

    def __call__(self, answer: Answer, /, *, is_first: bool) -> None:
        """*is_first* is true for the first answer of the run."""


class Run:
    """One run of a server.

    Args:
        settings: How it is started.
        port: Its port.
        secret: The value of a secret for the variable of that name.
        last_port: Where the port is noted before the start.
        starts: Called with its process id once it runs, and with whether a killed launcher had started it.
        stands: Called with its answers.
        degraded: What it lacks: cleared before a start, read before an adoption.
    """

    def __init__(
        self,
        settings: Settings,
        port: int,
        secret: Callable[[str, Secret], str | Secret],
        last_port: LastPort,
        starts: Callable[[int | None, bool], None],
        stands: Stands,
        degraded: Degraded,
    ) -> None:
        self._settings = settings
        self._port = port
        self._secret = secret
        self._last_port = last_port
        self._starts = starts
        self._stands = stands
        self._degraded = degraded
        self._told: dict[str, Callable[[str], object] | None] = {
            "on_output": settings.on_output, "degraded_by": self._tell_degraded if settings.degraded_by else None
        }  # fmt: skip
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._scope = anyio.CancelScope()
        self._watch: SilenceWatch | None = None
        self._watches: list[SilenceWatch] = []
        self._tree: Tree | None = None
        self._began = 0.0
        self._ready_since: float | None = None
        self._stuck = ""
        self._reminder = Reminder()
        self._is_adopted = self._is_taken = False
        self.wants_restart = False
        """Whether it is ended to be started again."""

    async def go(self) -> Ended | None:
        """Run it until it ends. Returns ``None`` if it was ended by ``restart``.

        Raises:
            PortTakenError: Another process holds its port; nothing was started.
            Exception: As ``run_command``: it could not be started.
        """
        code: int | None = 0
        failure: Exception | None = None
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._probe)
                try:
                    await self._command()
                except subprocess.CalledProcessError as error:
                    code = error.returncode
                except Exception as error:  # it leaves the group as it is
                    failure = error
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if self._is_taken:
            holder = await anyio.to_thread.run_sync(holder_of, self._port)
            cure = "end that, or give another port"
            raise PortTakenError(f"{self._settings.name} was not started: {holder} holds its port {self._port}; {cure}")
        if self.wants_restart:
            return None
        return Ended(
            code=None if self._is_adopted or self._stuck else code,
            output=tuple(self._tail),
            ready_for=0.0 if self._ready_since is None else time.monotonic() - self._ready_since,
            is_port_held=not is_free(self._port, self._settings.host),
            stuck=self._stuck,
        )

    def restart(self) -> None:
        """End it, to be started again."""
        self.wants_restart = True
        self._scope.cancel()

    def watch_silence(self, allowed: float) -> SilenceWatch | None:
        """A watch over its output and its processes; ``None`` before it runs."""
        if self._tree is None:
            return None
        self._watches.append(watch := SilenceWatch(allowed, self._tree))
        return watch

    # its command

    async def _command(self) -> None:
        one = self._settings
        await run_command(
            one.name,
            [with_port(word, self._port) for word in one.argv],
            cwd=one.cwd,
            logs=one.logs,
            env={
                key: with_port(value, self._port) if isinstance(value, str) else self._secret(key, value)
                for key, value in one.env.items()
            },
            orphans="adopt",
            grace=one.grace,
            on_output=self._printed,
            is_done=self._must_not_start,
            hold=self._started,
            before_end=one.before_stop,
        )

    async def _must_not_start(self) -> bool:
        """Asked before the start: the server of a killed launcher has just ended, or the port is not free."""
        if not self._is_adopted:
            self._is_taken = not is_free(self._port, self._settings.host)
            if not self._is_taken:
                self._last_port.write(self._port)
                self._degraded.clear()
        return self._is_adopted or self._is_taken

    def _started(self, tree: Tree, is_orphan: bool) -> None:
        self._tree, self._is_adopted, self._began = tree, is_orphan, time.monotonic()
        self._watch = SilenceWatch(self._settings.ready_timeout, tree)
        self._watches.append(self._watch)
        if is_orphan:
            self._degraded.read()
        self._starts(tree.group, is_orphan)

    def _printed(self, line: str) -> None:
        self._tail.append(line)
        for watch in self._watches:
            watch.start_over()
        for name, tell in self._told.items():
            try:
                if tell is not None:
                    tell(line)
            except Exception:  # the lines are needed here, too
                log.exception("%s of %s failed, and is not called again", name, self._settings.name)
                self._told[name] = None

    def _tell_degraded(self, line: str) -> None:
        if self._settings.degraded_by is not None and (name := self._settings.degraded_by(line)):
            self._degraded.add(name)

    # probes

    async def _probe(self) -> None:
        """Ask it again and again how it is, from its start on."""
        url, pause, reminder = with_port(self._settings.ready, self._port), FIRST_PAUSE, Reminder()
        async with Probe() as probe:
            while True:
                if self._watch is not None:
                    answer = await probe.ask(url)
                    if answer.kind is Kind.READY and self._ready_since is None:
                        answer = await self._checked(answer, url)
                    self._take(answer, self._watch)
                    if answer.kind is not Kind.READY and self._watch.is_over() and reminder.is_due():
                        self._is_stuck(answer)
                    pause = min(pause * GROWTH, MOST_PAUSE)
                await anyio.sleep(pause if self._ready_since is None else self._settings.every)

    async def _checked(self, answer: Answer, url: str) -> Answer:
        """*answer*, the first one, if it comes from the server: another process may have taken the port."""
        has_port = await self._has_port()
        if has_port is False:  # the server itself says so late, if at all
            return Answer(Kind.NONE, "does not listen on its port, but another process does")
        if self._settings.confirm is None or (has_port and not self._is_adopted):
            return answer
        try:
            problem = await self._settings.confirm(url, [with_port(word, self._port) for word in self._settings.argv])
        except Exception as error:
            return Answer(Kind.NONE, f"does not say what it is ({type(error).__name__}: {brief(str(error), 200)})")
        if not problem:
            return answer
        if self._is_adopted:
            log.warning("%s is not adopted: %s; it is ended, and started again", self._settings.name, problem)
            self.restart()
        return Answer(Kind.NONE, f"is not what was started: {problem}")

    async def _has_port(self) -> bool | None:
        """Whether a process of the server listens on its port; ``None`` if that cannot be told."""
        pids = await anyio.to_thread.run_sync(listeners, self._port)
        if not pids or self._tree is None or time.monotonic() > self._began + DOUBT:
            return None
        own = await anyio.to_thread.run_sync(self._tree.members)
        return not {one.pid for one in own}.isdisjoint(pids)

    def _take(self, answer: Answer, watch: SilenceWatch) -> None:
        if answer.kind is Kind.OTHER:
            watch.start_over()
        is_first = self._ready_since is None
        if is_first and answer.kind is Kind.READY:
            self._ready_since = time.monotonic()
        if self._ready_since is not None:
            self._stands(answer, is_first=is_first)
        else:
            self._remind(answer)

    def _remind(self, answer: Answer) -> None:
        """Say now and then why it is not ready yet. One that answers another status may do so for ever."""
        is_status, seconds = answer.kind is Kind.OTHER, time.monotonic() - self._began
        due = min(NOTICE, self._settings.ready_timeout) if is_status else LATE_NOTICE
        if seconds >= due and self._reminder.is_due():
            url = redact(with_port(self._settings.ready, self._port))
            cure = "; only 2xx means ready: is the path of ready= right?" if is_status else ""
            text = "%s is not ready after %.0f s: %s is asked, and it %s; it is waited for%s"
            log.warning(text, self._settings.name, seconds, url, answer.said, cure)

    def _is_stuck(self, answer: Answer) -> None:
        seconds = self._settings.ready_timeout
        problem = f"it {answer.said}, and printed nothing and did nothing for {seconds:g} s"
        if self._settings.on_stuck == "notify":
            log.warning("%s may be stuck: %s; it is not ended for that", self._settings.name, problem)
            return
        self._stuck = problem
        self._scope.cancel()
