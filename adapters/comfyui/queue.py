"""The prompts before one server: their order, their turns, and one look for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.abc import TaskGroup

from adapters.comfyui.blame import blame
from adapters.comfyui.errors import Refused, ServerBusyError, ServerDownError
from adapters.comfyui.messages import Executing, Failed, Interrupted, Message, Succeeded
from adapters.comfyui.parsing import Queue
from adapters.comfyui.queued_run import QueuedRun
from adapters.comfyui.reconcile import fell
from adapters.comfyui.serving import Serving
from adapters.comfyui.stuck import STUCK_AFTER, StuckWatch
from adapters.comfyui.suspects import Suspects
from adapters.comfyui.turns import InServer, in_order, may_post
from adapters.servers.server import ServerGoneError

if TYPE_CHECKING:
    from adapters.comfyui.feed import Feed, FeedState

INTERVAL, MOST_INTERVAL = 0.5, 10.0
"""Seconds between two looks into the queue of the server, and those to which they slow down where nothing changes."""

MOST_PLACES, PLACES_EVERY = 20, 1.0
"""So many of those that wait next are told their place, and after so many seconds again: all would cost too much."""

SETTLES, RETURN_TIMEOUT = 0.05, 2.0
"""Seconds until the first prompt goes to an idle server, and for which those that it has lost are waited for at most:
calls made at once begin in any order, and keep theirs."""

Watch: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""A task of the queue, as one that asks about a prompt that is stuck, until it is cancelled."""

log = logging.getLogger("recovery.launch")


class PromptQueue:
    """The prompts of this launcher before one server.

    Args:
        serving: The server.
        suspects: What is known of prompts that were running when it died.
        window: How many prompts the server has at a time.
        stuck_after: As of ``StuckWatch``.
        interval: Seconds between two looks.
    """

    def __init__(
        self,
        serving: Serving,
        suspects: Suspects,
        *,
        window: int = 2,
        stuck_after: float | None = STUCK_AFTER,
        interval: float = INTERVAL,
    ) -> None:
        self.serving = serving
        self.stuck = StuckWatch(serving.server, stuck_after)
        self.suspects = suspects
        self.feed: Feed | None = None
        self.pause_reason: str | None = None
        self.is_leaving, self.why_leaving = False, "the block of its server is over"
        """Whether the block ends, or the server is gone: what waits stays in the journal."""
        self.runs: dict[str, QueuedRun] = {}
        self._sent: dict[str, QueuedRun] = {}  # those that had a turn: of thousands that wait, a few
        self._window = window
        self._interval = interval
        self._holds = 0
        self._foreign: list[str] = []
        self._lost: set[str] = set()
        self._found, self._same_since = Queue((), ()), 0.0
        self._changed = anyio.Event()
        self._looks = anyio.Event()
        self._life, self._is_over = anyio.CancelScope(), anyio.Event()
        self._group: TaskGroup | None = None

    # what the prompts ask

    def enter(self, run: QueuedRun) -> None:
        """*run* is an attempt of a prompt that begins."""
        self.runs[run.key] = run
        if run.is_in_server:
            self._sent[run.key] = run
        run.why_left = self.why_leaving if self.is_leaving else ""
        self.change()

    def leave(self, run: QueuedRun) -> None:
        """The attempt *run* is over."""
        if self.runs.get(run.key) is run:
            del self.runs[run.key]
            self._sent.pop(run.key, None)
        (self._lost.add if run.is_lost else self._lost.discard)(run.key)
        self.change()

    def change(self) -> None:
        """Something has changed that the turns depend on."""
        self._changed.set()
        self._changed = anyio.Event()

    def pause(self, reason: str | None) -> None:
        """Give no more turns, for that *reason*; None gives them again."""
        self.pause_reason = reason
        self.change()

    def leave_all(self) -> None:
        """The block ends: every prompt is left to a later call or process."""
        self.is_leaving = True
        for run in self.runs.values():
            run.why_left = self.why_leaving
            run.wake()
        self.change()

    def look_soon(self) -> None:
        """Look into the queue of the server now, and often for a while: it has changed, or will."""
        self._looks.set()
        self._same_since = anyio.current_time()

    def in_server(self) -> list[QueuedRun]:
        """The prompts that the server has, or may have, in the order in which they were sent."""
        return sorted(
            (one for one in self._sent.values() if one.is_in_server),
            key=lambda one: (one.number is None, one.number or 0.0, one.sent_at),
        )

    def waiting(self) -> list[QueuedRun]:
        """The prompts that the server does not have, in their order: their turn comes, or they get ready for it."""
        waiting = (one.as_waiting() for one in self.runs.values() if not one.is_in_server)
        return [self.runs[one.id] for one in in_order(waiting)]

    def numbered(self, run: QueuedRun, number: float) -> None:
        """The server has taken *run* as *number*: each new process begins at 0."""
        for one in self.in_server():
            if one is not run and one.record.posted is not None and fell(one.record.posted, number):
                one.number_fell = True

    def running(self) -> QueuedRun | None:
        """The prompt that the server executes, as last seen: of two the later one, since the first has ended."""
        return next((one for one in reversed(self.in_server()) if one.is_running), None)

    def is_stuck(self) -> bool:
        """Whether the prompt that runs gives no sign of life."""
        return self.stuck.is_due(run.prompt_id if (run := self.running()) else "")

    def stuck_words(self) -> str:
        """What seems to be stuck, as a sentence without its end."""
        run = self.running()
        said = f"{self.serving.name} has given no sign of life for {self.stuck.after or 0.0:g} s"
        return f"{said} while it runs {run.shown}" if run else said

    # restarts

    async def restart(self, why: str, of: str, *, waits: bool, more: tuple[str, ...] = ()) -> None:
        """End the process *of* of the server, and start another one.

        Args:
            why: For the log.
            of: The process; if another one runs by now, nothing is done.
            waits: Whether the prompts that it has are waited for.
            more: Further arguments from now on.
        """
        if (server := self.serving.server) is None:
            return
        self._holds += 1
        try:
            while waits and self.in_server() and not self.is_leaving:
                await self._changed.wait()
            if self.serving.identity == of or more:
                server.restart(why, more)
            await server.until_ready()
        finally:
            self._holds -= 1
            self.change()

    # its tasks

    async def run(self, watch: Watch | None = None) -> None:
        """Do all of this, until ``end``, and *watch*."""
        try:
            with self._life:
                async with anyio.create_task_group() as self._group:
                    tasks = (self.dispatch, self.tell_places, self.listen, self.look, self.watch_server)
                    for task in (*tasks, watch) if watch else tasks:
                        self._group.start_soon(task)
        finally:
            self._is_over.set()

    def do_later(self, task: Watch) -> None:
        """Do *task* while the queue runs: its prompt does not wait for it."""
        if self._group is not None and not self._is_over.is_set():
            self._group.start_soon(task)

    async def end(self) -> None:
        """End its tasks."""
        self._life.cancel()
        await self._is_over.wait()

    async def dispatch(self) -> None:
        """Give turns, one after another, until it is cancelled."""
        while True:
            if not self._sent:
                await anyio.sleep(SETTLES)
            with anyio.move_on_after(RETURN_TIMEOUT):
                while self._are_missing():
                    await self._changed.wait()
            self._lost.clear()
            changed = self._changed
            if not self._holds and not any(one.has_turn for one in self._sent.values()):
                waiting = (one.as_waiting() for one in self.runs.values() if one.waits_for_turn)
                ours = [InServer(one.key, one.is_suspected) for one in self.in_server()]
                in_server = ours + [InServer()] * len(self._foreign)
                ids = may_post(waiting, in_server, self._window, self.pause_reason is not None)
                if ids:
                    self._sent[ids[0]] = self.runs[ids[0]]
                    self.runs[ids[0]].take_turn()
            await changed.wait()

    def _are_missing(self) -> bool:
        waiting = (key in self.runs and self.runs[key].waits_for_turn for key in self._lost)
        return any(one.is_lost for one in self._sent.values()) or not all(waiting)

    async def tell_places(self) -> None:
        """Tell those that wait next their places, once a second at most, until it is cancelled."""
        while True:
            changed, before = self._changed, len(self.in_server())
            for place, run in enumerate(self.waiting()[:MOST_PLACES]):
                run.notes.tell_place(before + place, self.pause_reason or "")
            await anyio.sleep(PLACES_EVERY)
            await changed.wait()

    async def watch_server(self) -> None:
        """Leave all prompts once the server has ended for good."""
        if (server := self.serving.server) is not None:
            await server.until_gone()
            self.why_leaving = str(server.error or self.why_leaving)
            self.leave_all()

    async def listen(self) -> None:
        """Receive the messages of the server, until it is cancelled."""
        while True:
            try:
                await self.serving.until_ready()
            except ServerGoneError:
                return
            from adapters.comfyui.feed import Feed  # here: a launcher without the extra "comfyui" can be imported

            async with anyio.create_task_group() as group:
                self.feed = Feed(url := self.serving.url)
                group.start_soon(self.feed.run, self._take, self._stands)
                while self.serving.url == url:
                    await anyio.sleep(self._interval)
                group.cancel_scope.cancel()

    def _take(self, message: Message) -> None:
        self.stuck.sign()
        for run in self.in_server():
            if run.record.posted is not None and run.record.posted.prompt_id == message.prompt_id:
                run.take(message)
        if isinstance(message, Succeeded | Failed | Interrupted) or message == Executing(message.prompt_id, None):
            self.look_soon()

    def _stands(self, state: FeedState) -> None:
        if state in ("cut", "refused"):
            self._cut()
        self.look_soon()

    def _cut(self) -> None:
        for run in self.in_server():
            run.note_cut()

    async def look(self) -> None:
        """Look into the queue of the server again and again, until it is cancelled."""
        while True:
            slowly = min((anyio.current_time() - self._same_since) / 20, MOST_INTERVAL)
            with anyio.move_on_after(max(self._interval, slowly)):
                await self._looks.wait()
            self._looks = anyio.Event()
            while not self.in_server() and not self._foreign:  # a suspected one waits for the end of those
                await self._changed.wait()
            try:
                await self._look_once()
            except ServerDownError:
                self._cut()
            except (ServerBusyError, Refused) as error:  # slow is no death
                log.debug("%s: %s", self.serving.name, error)

    async def look_last(self) -> None:
        """Learn what has ended since the last look: the server may end now, and its history with it. 2 s at most."""
        if self.in_server() and not self.is_leaving:
            with anyio.move_on_after(2.0), suppress(ServerDownError, ServerBusyError, Refused):
                await self._look_once()

    async def _look_once(self) -> None:
        identity, url = self.serving.identity, self.serving.url
        if self.serving.is_ours and not identity:
            return  # none runs: it is started again, or waits for an answer
        runs = self.in_server()
        client = await self.serving.client()
        found = await client.queue()
        if found != self._found:
            self._found, self._same_since = found, anyio.current_time()
        ours = {run.prompt_id for run in runs}
        seen = [(run, await run.ask(client, found)) for run in runs]
        if (identity, url) != (self.serving.identity, self.serving.url):
            return  # they are of two processes
        before, self._foreign = self._foreign, [one for one in (*found.running, *found.pending) if one not in ours]
        if self._foreign != before:
            self.change()
        for run, standing in seen:
            if run.is_known:
                await run.judge(standing, identity, is_queue_empty=found == Queue())
        blame(self.serving, self.suspects, runs, identity, foreign_before=bool(before))
        for run in runs:
            run.wake()
