"""``Comfy``: one ComfyUI server and the prompts before it, as ``launcher.comfyui(...)`` gives it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import anyio
import anyio.abc
import msgspec

from adapters.comfyui import graph as graphs
from adapters.comfyui import names
from adapters.comfyui.answers import OutputFile
from adapters.comfyui.errors import Refused, ServerBusyError, ServerDownError
from adapters.comfyui.notes import Notes
from adapters.comfyui.paid import Paid
from adapters.comfyui.prompt_run import PromptRun
from adapters.comfyui.queue import PromptQueue
from adapters.comfyui.queued_run import PAUSE, has_all
from adapters.comfyui.record import PromptRecord
from adapters.comfyui.result import OnUnknown, Priority, PromptResult, PromptState, QueuedPrompt, Wish, texts
from adapters.comfyui.turns import queued_at
from adapters.servers.server import Server
from events.attempt import Attempt
from events.errors import JoinedElsewhere, StaysPendingError
from recovery import validation
from recovery.service import Recovery
from recovery.waiting.description import WaitingCall

LEAVE_INTERVAL = 0.01

LEAVE_TIMEOUT = 5.0
"""Seconds that prompts have to be left once the block is over."""

log = logging.getLogger("recovery.launch")

Call = Callable[[str, str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Makes the recoverable call "comfyui-prompt": its name, the server's, its key, and what is asked."""


class _Made:
    """A call that a caller waits for: it runs in a task of its own, which the end of the block does not cancel."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.result: PromptResult | None = None
        self.error: Exception | None = None


class Comfy:
    """One ComfyUI server and the prompts before it.

    Args:
        name: What the server is called.
        queue: The prompts.
        service: Runs the calls.
        call: Makes the call of a prompt.
        group: Its tasks outlive the block until the prompts are left.
    """

    def __init__(
        self, name: str, queue: PromptQueue, service: Recovery, call: Call, group: anyio.abc.TaskGroup
    ) -> None:
        self.name = name
        self._queue = queue
        self._service = service
        self._call = call
        self._group = group
        self._made: set[_Made] = set()
        self._fresh: dict[str, int] = {}
        self._latest = 0.0
        self._asked: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Comfy {self.name}: {len(self._queue.runs)} prompts, {self._queue.serving.shown}>"

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._queue.serving.url

    @property
    def server(self) -> Server | None:
        """The server, if the launcher started it."""
        return self._queue.serving.server

    @property
    def degraded(self) -> tuple[str, ...]:
        """The custom nodes that the server could not load; empty for a server that the launcher did not start."""
        return () if self.server is None else self.server.degraded

    async def prompt(
        self,
        graph: dict[str, Any],
        outputs: Literal["all"] | Sequence[str] = "all",
        paid: Paid = "ask",
        name: str | None = None,
        *,
        priority: Priority = "normal",
        on_unknown: OnUnknown = "ask",
        partial: bool = False,
        on_memory: Sequence[str] | None = None,
    ) -> PromptResult:
        """Have the server run *graph*, once, whatever dies meanwhile: the server, this process, the machine.

        An equal graph joins the one that waits or runs, or gets its result while its files are there. Another *name*
        or another seed makes it a prompt of its own. A result of more than 1 MiB of JSON is not remembered.

        Args:
            graph: The graph, in the API format (Workflow > Export (API)).
            outputs: The ids of the nodes whose outputs are wanted, or "all". Their files of type "output" must be there
                before the prompt is done; previews need not.
            paid: Whether nodes that cost money may run: "ask" a person (the question ``pay:NAME``), "allow", "refuse".
            name: What it is called in lists and questions; by default ``prompt`` and the begin of its digest.
            priority: "high", "normal" or "low": those that wait are sent in this order, then as they were asked for.
            on_unknown: What follows where it is gone from the server and no sign says that it did not run: "ask" (the
                question ``resubmit:NAME``), or "resubmit". Prompts with nodes that cost money always ask.
            partial: Whether it runs although the server finds some of its outputs wrong.
            on_memory: Arguments for the server, as ``["--lowvram"]``: it is started again with them once, where neither
                unloading models nor a restart has made room. Without it a person is asked (``memory:NAME``).

        Raises:
            InvalidGraphError: The graph is unusable; the message says which node, and what to do.
            PromptRefusedError: The server does not take it.
            PromptFailedError: A node failed.
            NeedsPerson: A person has said no, or nothing for an hour.
            CallCancelledError: It was cancelled by its call's id or name.
            StaysPendingError: The block is over: a later run goes on with it.
            ServerGoneError: The server has ended for good: likewise.
        """
        validation.choice("paid", paid, get_args(Paid))
        validation.choice("priority", priority, get_args(Priority))
        validation.choice("on_unknown", on_unknown, get_args(OnUnknown))
        if name is not None and (not isinstance(name, str) or not graphs.is_text(name)):
            raise ValueError(f"name must be a text that can be written as UTF-8, not {name!r:.80}")
        checked = graphs.check(graph, outputs)
        digest = graphs.digest(checked, name)
        arguments = None if on_memory is None else texts("on_memory", on_memory)
        # A copy of the graph, now: its owner may change it for the next prompt.
        wish = msgspec.to_builtins(Wish(graph, checked.wanted, paid, priority, on_unknown, partial, arguments))
        shown, generation = names.shown_name(digest, name), 0
        while True:
            key = names.key_of(self.name, digest, generation)
            before = self._fresh.get(key, 0)
            result = await self._make(shown, key, wish)
            if self._fresh.get(key, 0) != before or await self._has_all(result):
                return result
            generation += 1
            log.debug("%s: its files of run %d are gone from %s", shown, generation, self.name)

    async def _has_all(self, result: PromptResult) -> bool:
        level = logging.WARNING
        while not self._queue.is_leaving:
            if self.server is not None:
                await self.server.until_ready()
            try:
                return await has_all((await self._queue.serving.client()).has, result.outputs)
            except (ServerDownError, ServerBusyError, Refused) as error:
                log.log(level, "%s is asked again for files that it made: %s", self.name, error)
                level = logging.DEBUG
            await anyio.sleep(PAUSE)
        raise StaysPendingError(f"the files of a prompt are not known to be there: {self._queue.why_leaving}")

    async def _make(self, shown: str, key: str, wish: dict[str, Any]) -> PromptResult:
        made = _Made()
        self._made.add(made)
        self._asked.setdefault(key, self._now())  # in the order of the calls; their bodies may begin in any
        self._group.start_soon(self._run_call, made, shown, key, wish)
        try:
            await made.over.wait()
        except anyio.get_cancelled_exc_class():
            if not self._is_leaving:
                made.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await made.over.wait()
            raise
        gone = None if self.server is None else self.server.error
        if isinstance(made.error, StaysPendingError) and gone is not None:
            raise gone
        if made.error is not None:
            raise made.error
        if made.result is None:  # the journal was closed
            raise StaysPendingError(f"{shown} stays pending: {self._queue.why_leaving}")
        return made.result

    async def _run_call(self, made: _Made, shown: str, key: str, wish: dict[str, Any]) -> None:
        try:
            with made.scope:
                while made.result is None:
                    try:
                        found = await self._call(shown, self.name, key, wish)
                        made.result = msgspec.convert(found, PromptResult)
                    except JoinedElsewhere:
                        continue  # another process held the server, and has let it go
        except Exception as error:
            made.error = error
        finally:
            self._asked.pop(key, None)
            made.over.set()
            self._made.discard(made)

    @property
    def _is_leaving(self) -> bool:
        journal, server = self._service.journal, self.server
        return self._queue.is_leaving or journal is None or journal.is_closed or (
            server is not None and server.error is not None
        )  # fmt: skip

    # the body of the call

    async def run(
        self, shown: str, key: str, wish: Wish, attempt: Attempt, record: PromptRecord | None
    ) -> PromptResult:
        """One attempt of a prompt: the body of its call."""
        queued = self._asked.pop(key, None) or self._now()
        if record is None and names.is_again(key):
            log.info("%s is run again: its files are gone from %s", shown, self.name)
            with suppress(ServerDownError, ServerBusyError, Refused):
                await self._queue.serving.forget_outputs()
        run = PromptRun(self._queue, shown, key, wish, Notes(self._service, attempt, record, queued))
        result = await run.run()
        self._fresh[key] = self._fresh.get(key, 0) + 1
        return result

    def _now(self) -> float:
        self._latest = queued_at(time.time(), self._latest)
        return self._latest

    # people

    def queue(self) -> list[QueuedPrompt]:
        """The prompts that are not done: those in the server first, then those that wait, in their order."""
        found, running = [], self._queue.running()
        listed = [*self._queue.in_server(), *self._queue.waiting()]
        for place, run in enumerate(listed):
            state: PromptState = "running" if run is running else "sent" if run.is_in_server else "waiting"
            found.append(QueuedPrompt(run.shown, state, place, run.record.progress, run.notes.call))
        for one in self._asking():
            found.append(QueuedPrompt(one.key, "asking", len(found), PromptRecord(queued=0.0).progress, one.call))
        return found

    def _asking(self) -> list[WaitingCall]:
        """The prompts of this server, and of no other, that wait for an answer."""
        waiting = (one for one in self._service.calls.waiting() if one.operation.partition(" ")[0] == "comfyui-prompt")
        return [one for one in waiting if names.server_of(one.idempotency_key) == self.name]

    def pause(self, reason: str = "") -> None:
        """Send no more prompts, until ``unpause``. Those in the server go on. A new block is not paused."""
        self._queue.pause(reason or "paused")

    def unpause(self) -> None:
        """Send prompts again."""
        self._queue.pause(None)

    async def restart(self, why: str) -> None:
        """Start the server again once it has no prompt. One that the launcher did not start is left alone."""
        await self._queue.restart(why, self._queue.serving.identity, waits=True)

    def cancel(self, name: str) -> bool:
        """Cancel the prompts of that *name*: their callers get CallCancelledError. Returns whether there was one."""
        calls = [one.call for one in self.queue() if one.name == name]
        cancelled = [self._service.calls.cancel(call, "its program cancelled it") for call in calls]
        return any(cancelled)

    def skip(self) -> str:
        """Cancel the prompt that runs, and go on with the next; its name, or "" if none runs."""
        running = next((one for one in self.queue() if one.state == "running"), None)
        if running is None:
            return ""
        self._service.calls.cancel(running.call, "it was skipped")
        return running.name

    async def fetch(self, file: OutputFile, to: str | os.PathLike[str]) -> None:
        """Write *file* of a result to *to*, a path or a folder that is there. It appears whole.

        Raises:
            FileNotFoundError: The server does not have it any more.
            PermissionError: It, or a gateway before it, does not give it out.
            ServerBusyError, ServerDownError: The server does not answer.
        """
        client = await self._queue.serving.client()
        path = Path(to)
        await client.fetch(file, path / Path(file.filename).name if path.is_dir() else path)

    # the end

    async def leave(self) -> None:
        """The block is over: leave what is not done to a later call or process."""
        await self._queue.look_last()
        self._queue.leave_all()
        journal = self._service.journal
        if journal is not None and not journal.is_closed:
            with anyio.move_on_after(LEAVE_TIMEOUT):
                await self._until_left()
            if busy := list(self._queue.runs.values()):  # those that wait for an answer of the server
                for run in busy:
                    run.abandon()
                with anyio.move_on_after(LEAVE_TIMEOUT):
                    await self._until_left()
        for made in list(self._made):  # after a stop no end is journalled
            made.scope.cancel()
        while self._made:
            await next(iter(self._made)).over.wait()
        await self._queue.end()

    async def _until_left(self) -> None:
        """Let the prompts that run, or wait for an answer, find out that the block is over."""
        while self._made:
            self._queue.leave_all()
            for one in self._asking():
                self._service.calls.retry_now(one.call, "the block of its server is over")
            await anyio.sleep(LEAVE_INTERVAL)
