"""The brick for servers: programs that run beside a block of code, and are started again when they crash."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import anyio
import msgspec

from adapters.launcher.arguments import InvalidRequestError, check_variables, words_of
from adapters.launcher.bricks import Bricks
from adapters.launcher.checkpoint_words import ServerNote
from adapters.launcher.limits import wrong_ready_url
from adapters.launcher.variables import value_of
from adapters.servers.restarts import RestartPolicy
from adapters.servers.server import Server, restart_question
from adapters.servers.settings import OnStuck, Settings, State
from adapters.servers.supervisor import Supervisor
from events.errors import CallRejectedError, JoinedElsewhere
from recovery import context
from recovery.policies.backoff import Constant
from recovery.redact import brief
from recovery.serialization.secret import Secret

RESTARTS = RestartPolicy()

FOLDER = "servers"
"""The folder for the output of servers, in that of commands: a command may have the name of a server."""

RUNS: frozenset[State] = frozenset({"starting", "ready", "busy", "refused"})
"""The states in which it runs. The call tells the others."""

# The budget of restarts decides alone (``adapters.servers.restarts``), and its delays.
POLICY: Mapping[str, Any] = {
    "max_retries": None, "backoff": Constant(0.0), "jitter": "none", "max_elapsed": None, "attempt_timeout": None,
    "stall_timeout": None, "progress_resets": 0,
}  # fmt: skip


class ServerOptions(TypedDict, total=False):
    """The options of ``Launcher.server``.

    Args:
        cwd: The folder that it runs in, below the root; by default the root.
        env: Variables besides those of this process. A ``Secret`` that has no value is asked for.
        name: What it is called on the screen, in questions and in its log; by default the program's name. A launcher
            holds one server of a name at a time.
        ready_timeout: Seconds without any sign of life (output, processor time, input and output, an answer) after
            which a server that is not ready counts as stuck; by default 600.
        on_stuck: What happens then: "notify", the default, warns; "restart" ends it and uses up a restart.
        on_output: Called with each line of its output, redacted: for lines like ``IMPORT FAILED``.
        on_missing_module: Called with the name of a Python module that its environment lacks, once for each. It
            installs the module and returns True, and the server is started again. Without it a person is asked.
        degraded_by: Called with each line of its output, redacted. Returns the name of a part (a plug-in) that the line
            says does not work, or "". Such a server is ready all the same; ``Server.degraded`` has the names.
        confirm: Called with the URL of *ready* and the command line, before a server that a killed launcher left
            counts as ready, or one of which the system does not tell whether it has its port. It returns what shows
            that another program answers there, or ""; then it is not adopted, but ended and started again.
        before_stop: Called with its process id before the launcher sends it a signal, for whatever reason.
        every: Seconds between two probes of a server that is ready; by default 5.
        grace: Seconds from SIGTERM to SIGKILL for its processes when the block is over; by default 10.
    """

    cwd: str | os.PathLike[str] | None
    env: Mapping[str, str | Secret] | None
    name: str | None
    ready_timeout: float
    on_stuck: OnStuck
    on_output: Callable[[str], object] | None
    on_missing_module: Callable[[str], Awaitable[bool]] | None
    degraded_by: Callable[[str], str] | None
    confirm: Callable[[str, Sequence[str]], Awaitable[str]] | None
    before_stop: Callable[[int], object] | None
    every: float
    grace: float


class ServerBrick(Bricks):
    """Servers.

    A server is a resumable call, so that lists show it, with its starts as attempts. It belongs to a block of the
    program: a call that a killed launcher left waits until the program enters such a block again, and only then adopts
    the server that still runs, or starts one.
    """

    def _declare(self) -> None:
        super()._declare()
        self._servers: dict[str, Supervisor] = {}
        self._recoverable(
            "server", self._server, lambda name, *_: f"server {name}", policy=POLICY, key=lambda name, *_: name
        )

    @asynccontextmanager
    async def server(
        self,
        argv: Sequence[str | os.PathLike[str]],
        ready: str,
        port: int | Literal["auto"] = "auto",
        restarts: RestartPolicy = RESTARTS,
        **options: Unpack[ServerOptions],
    ) -> AsyncIterator[Server]:
        """Hold a server while the block runs: it is ready when the block begins, and started again when it crashes.

            argv = [python, "main.py", "--port", "{port}"]
            async with launcher.server(argv, ready="http://127.0.0.1:{port}/health") as server:
                await client.get(server.url)

        The server and all its processes end with the block. If it ends for good before, the block is cancelled, and
        ends with ServerGoneError. The server of a launcher that was killed lives on: the next block with the same name
        and words adopts it; with other words it is ended first.

        Args:
            argv: The program and its arguments. ``{port}`` is replaced here, in *ready* and in plain values of *env*.
            ready: The URL that is probed by GET: 2xx means ready. A refused connection, another status and a missing
                answer only mean "not yet". Proxies of the environment are ignored.
            port: Its port, or "auto": the one that it had the last time if that is free, or else any free one.
            restarts: How often it is started again before a person is asked, with the question ``restart:NAME``.
            options: Those of ``ServerOptions``: cwd, env, name, ...

        Raises:
            InvalidRequestError: There is no program, the URL is none, the folder is outside the root.
            CallRejectedError: A server of that name is held already.
            PortTakenError: Another process holds *port*; nothing was started.
            ServerGoneError: It has ended for good.
            OSError: It cannot be started.
        """
        words, given = words_of(argv), dict[str, Any](options)
        folder, env = os.fspath(given.pop("cwd", None) or "."), dict(given.pop("env", None) or {})
        name = given.pop("name", None) or Path(words[0]).name
        check_variables(env)
        _check(ready, port, words, env)
        settings = Settings(
            name=name, argv=words, env=env, cwd=self.place(folder), logs=self.logs / FOLDER,
            ready=ready, port=port, restarts=restarts, **given,
        )  # fmt: skip
        if name in self._servers:
            raise CallRejectedError(f"server {name}", "one of that name is held already; give this one another name=")
        server = self._servers[name] = Supervisor(settings, self._secret)
        try:
            if settings.cwd.exists() and not settings.cwd.is_dir():
                raise InvalidRequestError(f"{name} cannot run in {folder}, which is no folder")
            settings.cwd.mkdir(parents=True, exist_ok=True)
            async with self._held(server, [words, ready, port, folder]):
                yield server
        finally:
            del self._servers[name]

    @asynccontextmanager
    async def _held(self, server: Supervisor, arguments: Sequence[Any]) -> AsyncIterator[None]:
        error: BaseException | None = None
        body = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            try:
                with body:
                    group.start_soon(self._supervise, server, arguments, body)
                    try:
                        await server.until_ready()
                        yield
                    except (Exception, KeyboardInterrupt, SystemExit) as raised:
                        error = raised  # it leaves the block as it is, and not in a group
            finally:
                with anyio.CancelScope(shield=True):
                    await server.end()
                    if server.has_returned:
                        await server.call_over.wait()
                    elif server.call:  # it waits, in a task of this block or of the resumption
                        self.service.calls.cancel(server.call, "its block is over")
                group.cancel_scope.cancel()
        if error is not None:
            raise error
        if body.cancelled_caught and server.error is not None:
            raise server.error

    async def _supervise(self, server: Supervisor, arguments: Sequence[Any], body: anyio.CancelScope) -> None:
        try:
            while not server.is_ending:
                try:
                    await self._call("server", server.name, *arguments)
                except JoinedElsewhere:
                    continue  # it was held by another process, which has let it go
        except Exception as error:
            if not server.is_ending:
                server.gone(error)
                body.cancel()
        finally:
            server.call_over.set()

    async def _server(self, name: str, *_shown: Any) -> None:
        attempt = context.current.get()
        assert attempt is not None  # a resumable call has a context
        if attempt.call.saved is not None:  # what an earlier attempt noted is over
            attempt.checkpoint(msgspec.json.encode(ServerNote("starting", "")))
        await self._asked_again.until(
            lambda: name in self._servers, name, "it belongs to a block of the program, which has not begun yet"
        )
        server, question = self._servers[name], restart_question(name)
        if self.service.calls.answered(question) is False:  # a no ended an earlier call
            self.service.calls.reopen(question, "it is started again")
        server.call = attempt.call.id

        def note(state: State) -> None:
            if state in RUNS:
                attempt.checkpoint(msgspec.json.encode(ServerNote(state, server.url, server.degraded)))

        server.on_state = note
        try:
            await server.live()
        finally:
            server.on_state = None

    def _secret(self, variable: str, secret: Secret) -> str | Secret:
        return value_of(self.service.calls, variable, secret.reference)


def _check(ready: object, port: object, words: Sequence[str], env: Mapping[str, str | Secret]) -> None:
    """Raise InvalidRequestError for a port or a URL that no server can have."""
    if not isinstance(ready, str):
        raise InvalidRequestError(f"ready must be an http or https URL, not {ready!r}")
    if (reason := wrong_ready_url(ready)) is not None:
        raise InvalidRequestError(f"ready must be an http or https URL, and {brief(ready)} {reason}")
    if port != "auto":
        if type(port) is not int or not 0 < port < 65536:
            raise InvalidRequestError(f'port must be "auto" or 1 to 65535, not {port!r}')
        return
    if "{port}" not in ready:
        raise InvalidRequestError(f'with port="auto" the URL must have {{port}} in it: {ready!r} has none')
    if not any("{port}" in text for text in (*words, *(one for one in env.values() if isinstance(one, str)))):
        raise InvalidRequestError('with port="auto" the server must be told its port: put {port} into argv or env')
