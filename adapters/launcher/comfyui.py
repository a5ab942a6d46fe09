"""The brick for ComfyUI: a server, and a queue of prompts before it that survives crashes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypedDict, Unpack

import anyio
import msgspec

from adapters.comfyui import identity, server
from adapters.comfyui.comfy import Comfy
from adapters.comfyui.queue import PromptQueue, Watch
from adapters.comfyui.record import PromptRecord
from adapters.comfyui.result import Wish
from adapters.comfyui.serving import Serving
from adapters.comfyui.suspects import Suspects
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.asked_again import NotAskedForError
from adapters.launcher.comfyui_command import plan as command_of
from adapters.launcher.server import ServerBrick
from adapters.launcher.stuck import LOOK_EVERY, StuckBrick
from adapters.processes.running import file_name
from adapters.processes.silence import SAMPLES
from adapters.servers.restarts import RestartPolicy
from adapters.servers.supervisor import Supervisor
from events.attempt import Attempt
from events.errors import CallRejectedError, StaysPendingError
from recovery import context, validation
from recovery.policies.backoff import Constant
from recovery.serialization.secret import Secret
from recovery.suggestions import refuse_unknown

RESTARTS = RestartPolicy(max_restarts=3, within=600.0)

FOLDER = "comfyui"
"""The folder of what is known of prompts and deaths, in that of logs."""

REMEMBERED = 10 * 365 * 86_400.0
"""Seconds for which the result of a prompt is good. Its files are asked for in any case."""

# What an attempt has learnt is in its record, and the server decides when it may go on.
POLICY: Mapping[str, Any] = {
    "max_retries": None, "backoff": Constant(0.0), "jitter": "none", "max_elapsed": None, "attempt_timeout": None,
    "stall_timeout": None, "progress_resets": 0,
}  # fmt: skip

MOST_WINDOW = 2


class ComfyUIOptions(TypedDict, total=False):
    """The options of ``Launcher.comfyui``.

    Args:
        window: How many prompts the server has at a time, 1 or 2 (the default); the others wait in the journal.
        python: The interpreter for the folder of ComfyUI; by default that of its environment.
        stuck_after: Seconds without a sign of life of the prompt that runs (a message, output, processor time) after
            which a person is asked, with the question ``stuck:NAME``; by default 1800. None never asks.
        ready_timeout: As of ``server``.
        env: As of ``server``.
    """

    window: int
    python: str | os.PathLike[str] | None
    stuck_after: float | None
    ready_timeout: float
    env: Mapping[str, str | Secret] | None


class ComfyUIBrick(ServerBrick, StuckBrick):
    """ComfyUI.

    Each prompt is a resumable call. It belongs to a block of the program, as a server does: a prompt that a killed
    launcher left waits until the program enters such a block again, and then goes on at its old place.
    """

    def _declare(self) -> None:
        super()._declare()
        self._comfies: dict[str, Comfy] = {}
        self._starting: set[str] = set()
        self._recoverable(
            "comfyui-prompt",
            self._prompt,
            lambda _shown, _server, key, *_: key,
            policy=POLICY,
            key=lambda shown, *_: shown,
            remember=REMEMBERED,
            on_conflict="join",
        )

    @asynccontextmanager
    async def comfyui(
        self,
        path_or_argv: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        port: int | Literal["auto"] = "auto",
        restarts: RestartPolicy = RESTARTS,
        *,
        name: str = "comfyui",
        **options: Unpack[ComfyUIOptions],
    ) -> AsyncIterator[Comfy]:
        """Hold a ComfyUI server, and run prompts in it that survive its crashes, and those of the launcher.

            async with launcher.comfyui("ComfyUI") as comfy:
                result = await comfy.prompt(graph)

        When the block is over, prompts that are not done stay in the journal: the next run goes on with them once it
        enters a block with the same *name*.

        Args:
            path_or_argv: The folder of ComfyUI, the one with ``main.py``, below the root. Or a program and its
                arguments, as ``[python, "ComfyUI/main.py", "--lowvram"]``, which run in the root. Or the URL of a
                server that runs already: it is never started, restarted or ended.
            port: Its port, or "auto": the one that it had the last time if that is free, or else any free one.
            restarts: How often it is started again before a person is asked. A prompt that is done gives all back.
            name: What it is called. Prompts belong to a server by its name.
            options: Those of ``ComfyUIOptions``: window, python, env, ...

        Raises:
            InvalidRequestError: The folder is none of ComfyUI or outside the root, the words are unusable.
            TypeError: There is no such option.
            CallRejectedError: A server of that name is held already.
            ModuleNotFoundError: The extra "comfyui" is not installed.
            ServerGoneError, PortTakenError, OSError: As ``server``.
        """
        refuse_unknown("comfyui", options, tuple(ComfyUIOptions.__annotations__), "option")
        window, python = options.get("window", 2), options.get("python")
        validation.whole("window", window, least=1)
        if window > MOST_WINDOW:
            raise ValueError(f"window must be 1 or {MOST_WINDOW}, not {window!r}: the others wait in the journal")
        if name in self._comfies:
            raise CallRejectedError(f"comfyui {name}", "one of that name is held already; give this one another name=")
        import_module("adapters.comfyui.feed")  # here: a launcher works without the extra "comfyui"
        how = {key: one for key, one in dict[str, Any](options).items() if key in ("window", "stuck_after")}
        folder = self.logs / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        suspects = Suspects(folder / f"{file_name(name)}.json")
        if isinstance(path_or_argv, str) and path_or_argv.lower().startswith(("http://", "https://")):
            async with self._comfy(name, suspects, path_or_argv, how) as comfy:
                yield comfy
            return
        plan = command_of(path_or_argv, self.root, port=port, python=python)
        self._inside(plan.cwd or ".")
        settings: dict[str, Any] = {
            "cwd": plan.cwd, "env": options.get("env"), "name": name,
            "ready_timeout": options.get("ready_timeout", 600.0),
            "degraded_by": server.import_failed, "confirm": server.confirm,
            "before_stop": lambda pid: suspects.note_stop(identity.of(pid)),
        }  # fmt: skip
        held = self.server(plan.argv, plan.ready, port, restarts, **settings)
        async with self._comfy(name, suspects, held, how) as comfy:
            yield comfy

    def _inside(self, folder: str) -> None:
        """Raises InvalidRequestError, with what to write instead, if *folder* is outside the root."""
        try:
            self.place(folder)
        except InvalidRequestError as error:
            words = f"[python, {os.path.join(folder, 'main.py')!r}]"
            raise InvalidRequestError(f"{error}; give Launcher a root that holds it, or the words {words}") from None

    @asynccontextmanager
    async def _comfy(self, name: str, suspects: Any, where: Any, how: dict[str, Any]) -> AsyncIterator[Comfy]:
        """A queue before the server of the block *where*, or at the URL *where*. Its tasks outlive that block."""
        error: BaseException | None = None
        async with anyio.create_task_group() as group:
            try:
                async with AsyncExitStack() as stack:
                    self._starting.add(name)
                    stack.callback(self._starting.discard, name)
                    server: Supervisor | None = None
                    if not isinstance(where, str):
                        server = await stack.enter_async_context(where)
                    serving = Serving(name, server, "" if server is not None else where)
                    await stack.enter_async_context(serving)
                    await serving.until_ready()
                    suspects.forget_stop(serving.identity)  # it lives: its launcher was killed before the signal
                    queue = PromptQueue(serving, suspects, **how)
                    comfy = self._comfies[name] = Comfy(name, queue, self.service, self._call_prompt, group)
                    try:
                        group.start_soon(queue.run, self._watching(name, queue, server))
                        yield comfy
                    finally:
                        with anyio.CancelScope(shield=True):
                            await comfy.leave()
                        del self._comfies[name]
            except (Exception, KeyboardInterrupt, SystemExit) as raised:
                error = raised  # it leaves the block as it is, and not in a group
            group.cancel_scope.cancel()
        if error is not None:
            raise error

    def _watching(self, name: str, queue: PromptQueue, server: Supervisor | None) -> Watch | None:
        """Asks about a prompt that seems to be stuck, where a server of this launcher runs it."""
        if server is None or queue.stuck.after is None:
            return None
        return partial(
            self.watch_stuck, name, queue.is_stuck, queue.stuck.sign, queue.stuck_words, server.restart,
            min(LOOK_EVERY, queue.stuck.after / SAMPLES),
        )  # fmt: skip

    async def _call_prompt(self, shown: str, server: str, key: str, wish: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = await self._call("comfyui-prompt", shown, server, key, wish)
        return found

    async def _prompt(self, shown: str, server: str, key: str, wish: dict[str, Any]) -> dict[str, Any]:
        attempt = context.current.get()
        assert isinstance(attempt, Attempt)
        saved = context.saved()
        record = None if saved is None else msgspec.convert(saved, PromptRecord)
        if server not in self._comfies and record is not None:
            # Another checkpoint than the last: the deaths of this process are not counted against what waits.
            context.checkpoint(msgspec.structs.replace(record, taken_up=record.taken_up + 1))
        try:
            await self._asked_again.until(
                lambda: server in self._comfies,
                shown,
                f"it belongs to a block of the program that holds {server}, which has not begun yet",
                is_coming=lambda: server in self._starting,
            )
        except NotAskedForError as error:
            left = StaysPendingError(str(error))
            left.attempt = attempt
            raise left from None
        result = await self._comfies[server].run(shown, key, msgspec.convert(wish, Wish), attempt, record)
        found: dict[str, Any] = msgspec.to_builtins(result)
        return found
