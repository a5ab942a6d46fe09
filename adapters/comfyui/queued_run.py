"""What the queue knows of one attempt of a prompt: whether it waits, and what the last look at the server found."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
import msgspec

from adapters.comfyui import graph, identity, paid
from adapters.comfyui.answers import Finished, OutputFile, Standing, files_in
from adapters.comfyui.client import Client
from adapters.comfyui.deaths import trust
from adapters.comfyui.errors import Refused, ServerBusyError, ServerDownError
from adapters.comfyui.messages import Executed, Message, Started, Succeeded
from adapters.comfyui.notes import Notes
from adapters.comfyui.parsing import Queue
from adapters.comfyui.reconcile import Seen, Verdict, after, is_over, verdict
from adapters.comfyui.record import PromptRecord
from adapters.comfyui.result import Wish
from adapters.comfyui.serving import Serving
from adapters.comfyui.suspects import Suspects
from adapters.comfyui.turns import Waiting
from events.errors import NeedsPerson, StaysPendingError

PAUSE = 0.5
"""Seconds until a server that did not answer is asked again."""

log = logging.getLogger("recovery.launch")

NEVER_SHOWN = (400, 403)
"""What ``/view`` answers for a name, or a folder, that it does not take."""


class QueuedRun:
    """One attempt of a prompt.

    Args:
        serving: Its server.
        suspects: What is known of deaths of the server.
        shown: What it is called.
        key: Its idempotency key.
        wish: What is asked.
        notes: Its journal.
    """

    def __init__(self, serving: Serving, suspects: Suspects, shown: str, key: str, wish: Wish, notes: Notes) -> None:
        self.shown, self.key, self.wish = shown, key, wish
        self.notes = notes
        self.verdict: Verdict | None = None
        """What the last look made of it; None before the first."""
        self.is_blamed = self.is_lost = self.number_fell = self.is_watched = self.saw_death = False
        self.waits_for_turn = self.has_turn = False
        self.why_left = ""
        """Why it is left to a later call or process; "" while it goes on."""
        self.is_known = False
        """Whether it is known which of its nodes put out results: before, no look counts."""
        self._serving, self._suspects = serving, suspects
        self._graph = graph.check(wish.graph, "all" if wish.outputs is None else list(wish.outputs))
        self._wanted: frozenset[str] | None = None
        self._paid: tuple[str, ...] = ()
        self._standing = Standing("absent")
        self._can_only_be_there = False  # in the process that it was sent to, though that has not answered
        self._unknown_since: float | None = None
        self._is_told = False  # that its files cannot be asked for
        self._woken = anyio.Event()
        self._work = anyio.CancelScope()

    @property
    def record(self) -> PromptRecord:
        """What the journal has of it."""
        return self.notes.record

    # what the queue asks

    def as_waiting(self) -> Waiting:
        """What its turn depends on."""
        return Waiting(self.key, self.record.queued, self.wish.priority, self.is_suspected)

    @property
    def is_in_server(self) -> bool:
        """Whether the server has it, or may have it."""
        return self.record.posted is not None

    @property
    def prompt_id(self) -> str:
        """Under which the server knows it; "" while it does not."""
        return "" if self.record.posted is None else self.record.posted.prompt_id

    @property
    def posted_to(self) -> str:
        """The process that it was sent to."""
        return "" if self.record.posted is None else self.record.posted.server

    @property
    def was_running(self) -> bool:
        """Whether the server was seen to execute it."""
        return self.record.posted is not None and self.record.posted.was_running

    @property
    def is_deleted(self) -> bool:
        """Whether the launcher has asked the server to drop it."""
        return self.record.posted is not None and self.record.posted.is_deleted

    @property
    def is_running(self) -> bool:
        """Whether the server executes it, as last seen: not if it has told of its end, or its process is over."""
        posted = self.record.posted
        if posted is None or not posted.was_running or self.record.has_succeeded:
            return False
        return posted.server == self._serving.identity and (self._serving.is_ours or not posted.was_cut)

    @property
    def may_have_run(self) -> bool:
        """Whether a run that is lost may have begun: unless this process saw to the last that it waited."""
        posted = self.record.posted
        if posted is None:
            return False
        is_unseen = (self.saw_death or posted.was_cut) and not (posted.was_seen and self.is_watched)
        return posted.was_running or self.is_blamed or is_unseen

    @property
    def was_not_taken(self) -> bool:
        """Whether its POST had no answer and no effect, though no sign says that the server has died."""
        posted = self.record.posted
        return posted is not None and posted.number is None and not (posted.was_seen or self.saw_death)

    @property
    def number(self) -> float | None:
        """Its place in the order of the server; None while that is not known."""
        return None if self.record.posted is None else self.record.posted.number

    @property
    def sent_at(self) -> float:
        """When it was sent: seconds since the epoch."""
        return 0.0 if self.record.posted is None else self.record.posted.at

    @property
    def is_suspected(self) -> bool:
        """Whether the server died once while it ran."""
        return trust(len(self._suspects.deaths(self.key))) != "trusted"

    def take_turn(self) -> None:
        """It is its turn: the others wait until it is sent."""
        self.has_turn = True
        self.wake()

    def wake(self) -> None:
        """Look at what has changed."""
        self._woken.set()

    def abandon(self) -> None:
        """Leave it to a later call or process at once, though it waits for an answer of the server."""
        self._work.cancel()

    def note_cut(self) -> None:
        """A connection to the server broke off, or was refused."""
        posted = self.record.posted
        if posted is not None and not posted.was_cut:
            self.notes.save(posted=msgspec.structs.replace(posted, was_cut=True))

    def take(self, message: Message) -> None:
        """A message of its run."""
        self.notes.take(message, self._graph.nodes)
        match message:
            case Started() if self.record.posted is not None and not self.record.posted.was_running:
                self.notes.save(posted=after(self.record.posted, Standing("running")))
            case Executed(node=node, output=output):
                self.notes.save(outputs={**self.record.outputs, node: output})
            case Succeeded():
                self.notes.save(has_succeeded=True)

    async def ask(self, client: Client, found: Queue) -> Standing:
        """Where it stands in the server, of whose queue *found* is an answer. Raises as ``Client.standing``."""
        if self.prompt_id in found.running:
            return Standing("running")
        if self.prompt_id in found.pending:
            return Standing("pending")
        return await client.standing(self.prompt_id)

    async def judge(self, standing: Standing, server: str, *, is_queue_empty: bool) -> None:
        """A look at the server has found *standing*."""
        posted = self.record.posted
        if posted is None:
            return
        self._standing = standing
        if (now := after(posted, standing, server)) != posted:
            self.notes.save(posted=now)
        unknown_for = 0.0 if self._unknown_since is None else time.monotonic() - self._unknown_since
        lives_elsewhere = posted.server != server and identity.is_living(posted.server)
        seen = Seen(
            standing, server, lives_elsewhere, is_queue_empty, self.number_fell, self.is_watched, unknown_for
        )  # fmt: skip
        if self._can_only_be_there and posted.server not in ("", server) and not lives_elsewhere:
            now = msgspec.structs.replace(now, was_seen=True)  # or it was never taken: nothing is on its way any more
        try:
            are_there = await self._are_wanted_there(standing)
        except (ServerBusyError, Refused) as error:  # the files of one prompt hold up no other
            log.log(logging.DEBUG if self._is_told else logging.WARNING, "%s is not done yet: %s", self.shown, error)
            self._is_told = True
            return
        self.saw_death = is_over(now, seen)
        self.verdict = verdict(now, seen, are_there)
        if self.verdict != "unknown":
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = time.monotonic()
        self.notes.tell_progress()

    # waits

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What *ask* returns, once the server answers."""
        while True:
            self._check_leaving()
            try:
                return await ask()
            except (ServerDownError, ServerBusyError, Refused) as error:
                log.debug("%s: %s", self.shown, error)
            except NeedsPerson:  # the server is gone for good
                self._check_leaving()
                raise
            await anyio.sleep(PAUSE)

    async def _wait(self) -> None:
        self._check_leaving()
        await self._woken.wait()
        self._woken = anyio.Event()
        self._check_leaving()

    def _check_leaving(self) -> None:
        if self.why_left and self.verdict != "done":  # one that has ended is not left
            raise self._stays_pending()

    def _stays_pending(self) -> StaysPendingError:
        return self.notes.stays_pending(f"{self.shown} stays pending: {self.why_left}")

    # its journal

    async def _doubt_consent(self) -> None:
        """Ask again before the next run, which costs money as its last one may have done."""
        if self._paid and self.wish.paid == "ask":
            self.notes.reopen(paid.question_of(self.shown), "its last run did not end, and may have cost money")
            await self.notes.commit(is_agreed=False)

    async def _was_cancelled(self) -> None:
        """The server has given it up, as it was told to: by an earlier process, or for a part that was refused."""
        is_part = self.record.why == "partial"
        await self.notes.commit(posted=None, round=self.record.round + 1, why="")
        if not is_part:
            self.notes.cancel("it was cancelled")
            await anyio.sleep_forever()

    # questions

    async def _raise(self, error: Exception) -> NoReturn:
        if isinstance(error, NeedsPerson):
            await self._ask(error)
        raise error

    async def _ask(self, error: NeedsPerson) -> NoReturn:
        """Raise *error*; its question is new, if this prompt did not ask it before."""
        await self.notes.ask(error)
        raise error

    # outputs

    def _outputs(self) -> dict[str, Any]:
        finished = {} if self._standing.finished is None else self._standing.finished.outputs
        outputs = {**self.record.outputs, **finished}
        wanted = self._graph.wanted
        return outputs if wanted is None else {node: outputs[node] for node in wanted if node in outputs}

    async def _are_wanted_there(self, standing: Standing) -> bool:
        """Whether the server has each file that is wanted. What has run before a death counts."""
        match standing:
            case Standing("absent"):
                is_whole = self._wanted is not None and self._wanted <= self.record.outputs.keys()
                if not (self.record.has_succeeded or is_whole):
                    return False
            case Standing("finished", finished=Finished(succeeded=True)):
                pass
            case _:
                return False
        client = await self._serving.client()
        return await has_all(client.has, self._outputs())


async def has_all(has: Callable[[OutputFile], Awaitable[bool]], outputs: dict[str, Any]) -> bool:
    """Whether the server *has* every file of type "output" in *outputs*. A preview may be gone.

    A name that ``/view`` does not take, as ``a..b.png``, can never be asked for: it counts as there.
    """
    for output in outputs.values():
        for file in files_in(output):
            try:
                if file.type == "output" and not await has(file):
                    return False
            except Refused as refused:
                if refused.status not in NEVER_SHOWN:
                    raise
    return True
