"""One attempt of a prompt: it waits for its turn, sends the prompt, and waits until the server is done with it.

The record (``PromptRecord``) is committed before each POST, so that the next attempt, of this process or a later one,
knows what may have happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import msgspec

from adapters.comfyui import graph, identity, memory, names, paid, refusals
from adapters.comfyui.answers import Finished, OutputFile, Standing, files_in
from adapters.comfyui.deaths import trust
from adapters.comfyui.errors import (
    NoAnswerError,
    OutcomeUnknownError,
    PaidNodesError,
    PromptFailedError,
    PromptInterruptedError,
    PromptLostError,
    PromptQuarantinedError,
    Refused,
    ServerBusyError,
    ServerDownError,
)
from adapters.comfyui.messages import Executed, Message, Started, Succeeded
from adapters.comfyui.notes import Notes
from adapters.comfyui.reconcile import UNKNOWN_AFTER, Seen, Verdict, after, verdict
from adapters.comfyui.record import Posted, PromptRecord
from adapters.comfyui.result import PromptResult, Wish
from events.errors import NeedsPerson, StaysPendingError
from events.evidence import Remedy

if TYPE_CHECKING:
    from adapters.comfyui.queue import PromptQueue

PAUSE = 0.5
"""Seconds until a server that did not take a prompt is tried again."""

MOST_GONE = 2
"""Runs in a row whose files are gone at once, after which the prompt has failed."""

NEVER_SHOWN = (400, 403)
"""What ``/view`` answers for a name, or a folder, that it does not take."""

log = logging.getLogger("recovery.launch")


class PromptRun:
    """One attempt of a prompt.

    Args:
        queue: The prompts before its server.
        shown: What it is called.
        key: Its idempotency key.
        wish: What is asked.
        notes: Its journal.
    """

    def __init__(self, queue: PromptQueue, shown: str, key: str, wish: Wish, notes: Notes) -> None:
        self.shown, self.key, self.wish = shown, key, wish
        self.notes = notes
        self.verdict: Verdict | None = None
        """What the last look made of it; None before the first."""
        self.is_blamed = self.number_fell = self.is_watched = False
        self.waits_for_turn = self.has_turn = False
        self._queue = queue
        self._graph = graph.check(wish.graph, "all" if wish.outputs is None else list(wish.outputs))
        self._wanted: frozenset[str] | None = None
        self._paid: tuple[str, ...] = ()
        self._standing = Standing("absent")
        self._unknown_since: float | None = None
        self._woken = anyio.Event()

    @property
    def record(self) -> PromptRecord:
        """What the journal has of it."""
        return self.notes.record

    # what the queue asks

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
        return trust(len(self._queue.suspects.deaths(self.key))) != "trusted"

    def take_turn(self) -> None:
        """It is its turn: the others wait until it is sent."""
        self.has_turn = True
        self.wake()

    def wake(self) -> None:
        """Look at what has changed."""
        self._woken.set()

    def note_cut(self) -> None:
        """A connection to the server broke off, or was refused."""
        posted = self.record.posted
        if posted is not None and not posted.was_cut:
            self.notes.save(posted=msgspec.structs.replace(posted, was_cut=True))

    def hear(self, message: Message) -> None:
        """A message of its run."""
        self.notes.hear(message, self._graph.nodes)
        match message:
            case Started() if self.record.posted is not None and not self.record.posted.was_running:
                self.notes.save(posted=after(self.record.posted, Standing("running")))
            case Executed(node=node, output=output):
                self.notes.save(outputs={**self.record.outputs, node: output})
            case Succeeded():
                self.notes.save(has_succeeded=True)

    async def judge(self, standing: Standing, server: str, *, is_queue_empty: bool) -> None:
        """A look at the server has found *standing*."""
        posted = self.record.posted
        if posted is None:
            return
        self._standing = standing
        if (now := after(posted, standing)) != posted:
            self.notes.save(posted=now)
        unknown_for = 0.0 if self._unknown_since is None else time.monotonic() - self._unknown_since
        seen = Seen(
            standing, server, identity.is_living(posted.server), is_queue_empty, self.number_fell, self.is_watched,
            unknown_for,
        )  # fmt: skip
        self.verdict = verdict(now, seen, await self._are_wanted_there(standing))
        if self.verdict != "unknown":
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = time.monotonic()
        self.notes.tell_progress()

    # the attempt

    async def run(self) -> PromptResult:
        """Go on with the prompt to its end; what it made.

        Raises:
            PromptLostError, MemoryFullError, PoisonedContextError: Another attempt goes on with it.
            PromptRefusedError, PromptFailedError: It cannot run.
            NeedsPerson: It waits for an answer.
            StaysPendingError: The block ends, or the server is gone: a later call or process goes on with it.
        """
        self._queue.enter(self)
        try:
            await self.notes.begin()
            await self._heed_answer()
            while True:
                if self.record.posted is None:
                    await self._get_ready()
                    await self._wait_for_turn()
                    await self._send()
                elif (result := await self._look()) is not None:
                    return result
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._cancelled()
            raise
        finally:
            self._queue.leave(self)

    async def _get_ready(self) -> None:
        """Find out what may keep it from running, before its turn."""
        await self._trust()
        info = await self._patiently(lambda: self._queue.serving.info({self._graph.class_of(one) for one in self._graph.nodes}))
        self._paid = paid.paid_nodes(self._graph, info)
        wanted = [one for one in self._graph.nodes if info[self._graph.class_of(one)].get("output_node")]
        self._wanted = frozenset(self._graph.wanted or wanted) if all(info.values()) else None
        question = paid.question_of(self.shown)
        answer = self.notes.answer_to(question)
        error = None if self.record.is_agreed else paid.consent(self._paid, self.wish.paid, answer, self.shown)
        if isinstance(error, PaidNodesError):
            await self._ask(error)
        if error is not None:
            raise error
        if self._paid and self.wish.paid == "ask" and not self.record.is_agreed:
            await self.notes.commit(is_agreed=True, asked="", why="", cure="")

    async def _trust(self) -> None:
        deaths = self._queue.suspects.deaths(self.key)
        if trust(len(deaths)) != "quarantined":
            return
        told = "; ".join(one.words for one in deaths if one.words)
        why = f"{self.shown} is set aside: the server died {len(deaths)} times while it ran ({told})"
        cure = "See the log of the server; answer yes to run it again, or no to give it up"
        await self._ask(PromptQuarantinedError(why, remedy=Remedy(f"{cure}. {why}", question=f"run-again:{self.shown}")))

    async def _wait_for_turn(self) -> None:
        self.waits_for_turn = True
        self._queue.change()
        try:
            while not self.has_turn:
                await self._wait()
            await self._patiently(self._queue.serving.until_ready)
        except BaseException:
            self.has_turn = False
            raise
        finally:
            self.waits_for_turn = False

    async def _send(self) -> None:
        """POST it, once. Its outcome is known, or is looked for."""
        serving, record = self._queue.serving, self.record
        try:
            to = serving.identity
            new_id = names.prompt_id(self.key, self.notes.call, record.round)
            await self.notes.commit(posted=Posted(new_id, to, time.time()), outputs={}, has_succeeded=False)
            if to != serving.identity:  # it has died meanwhile
                await self.notes.commit(posted=None)
                return
            self.verdict, self._unknown_since, self.is_blamed, self.number_fell = None, None, False, False
            self.is_watched = True
            self.notes.begin_run(self._graph.nodes)
            client, feed = await serving.client(), self._queue.feed
            accepted = await client.submit(self._graph.nodes, new_id, "" if feed is None else feed.client_id)
        except NoAnswerError as error:
            log.warning("%s: %s; it is looked for", self.shown, error)
        except (ServerDownError, ServerBusyError) as error:
            await self.notes.commit(posted=None)
            log.info("%s was not sent: %s", self.shown, error)
            await anyio.sleep(PAUSE)
        except Refused as refused:
            await self.notes.commit(posted=None)
            await self._raise(refusals.refused(refused.status, refused.body, self._graph))
        else:
            await self._accepted(accepted.prompt_id, accepted.number, accepted.node_errors)
        finally:
            self.has_turn = False
            self._queue.change()
            self._queue.look_soon()

    async def _accepted(self, prompt_id: str, number: float, node_errors: dict[str, Any]) -> None:
        assert self.record.posted is not None
        posted = msgspec.structs.replace(self.record.posted, prompt_id=prompt_id, number=number)
        self._queue.numbered(self, number)
        if not node_errors or self.wish.partial:
            await self.notes.commit(posted=posted)
            return
        await self.notes.commit(posted=msgspec.structs.replace(posted, is_deleted=True), why="partial")
        await self._patiently(self._remove)
        await self.notes.commit(posted=None, round=self.record.round + 1, why="")
        await self._raise(refusals.partial(node_errors, self._graph))

    async def _look(self) -> PromptResult | None:
        """Wait for the next look at the server, and do what follows from it."""
        await self._wait()
        found, self.verdict = self.verdict, None
        match found:
            case "done":
                return await self._done()
            case "failed":
                await self._failed()
            case "interrupted":
                why = f"{self.shown} was interrupted in the server, and not by this launcher"
                await self._ask_to_resubmit(PromptInterruptedError, why)
            case "cancelled":
                await self._was_cancelled()
            case "lost":
                await self._lost("the server died, or was started again, before it was done")
            case "unknown":
                await self._unknown()
        return None

    async def _done(self) -> PromptResult:
        outputs = self._outputs()
        files = tuple(file for output in outputs.values() for file in files_in(output))
        self._queue.suspects.clear(self.key)
        if self._queue.serving.server is not None:
            self._queue.serving.server.refill()
        return PromptResult(self.prompt_id, outputs, files)

    async def _lost(self, why: str) -> NoReturn:
        if self._paid and self.wish.paid == "ask" and self.record.posted and self.record.posted.was_running:
            self.notes.reopen(paid.question_of(self.shown), "its last run did not end, and may have cost money")
            await self.notes.commit(is_agreed=False)
        await self.notes.commit(posted=None, outputs={}, has_succeeded=False)
        raise PromptLostError(f"{self.shown} is sent again: {why}")

    async def _unknown(self) -> None:
        if self._unknown_since is None or time.monotonic() - self._unknown_since < UNKNOWN_AFTER:
            return
        is_there = self._standing.state == "finished"
        why = "its files are gone" if is_there else "the server does not know it, and no sign says that it did not run"
        if self.wish.on_unknown == "resubmit" and not self._paid:
            await self._lost(why)
        await self._ask_to_resubmit(OutcomeUnknownError, f"{self.shown}: {why}")

    async def _ask_to_resubmit(self, kind: type[NeedsPerson], why: str) -> None:
        cost = f" Another run of {', '.join(self._paid)} costs money." if self._paid else ""
        remedy = Remedy(f"{why}. Answer yes to run it again.{cost}", question=f"resubmit:{self.shown}")
        await self._ask(kind(why, remedy=remedy))

    async def _failed(self) -> None:
        finished = self._standing.finished or Finished(succeeded=False)
        assert finished.error is not None and self.record.posted is not None
        ran_in = self.record.posted.server
        error = refusals.failed(finished.error, self._graph, self.shown, self.record.round)
        await self.notes.commit(posted=None, outputs={}, has_succeeded=False, round=self.record.round + 1)
        trouble = memory.trouble_of(error)
        if trouble is None:
            await self._raise(error)
        assert trouble is not None
        can_restart, has_policy = self._queue.serving.is_ours, bool(self.wish.on_memory)
        step = memory.next_step(trouble, self.record.relieved, has_policy=has_policy, can_restart=can_restart)
        await self.notes.commit(relieved=memory.RELIEVED[step])
        why = f"{self.shown}: {error}"
        match step:
            case "free":
                await self._patiently(self._free)
            case "restart":
                await self._queue.restart(why, ran_in, waits=trouble == "memory")
            case "argue":
                await self._queue.restart(why, ran_in, waits=True, more=self.wish.on_memory or ())
            case "ask":
                if trouble == "context":
                    await self._queue.restart(why, ran_in, waits=False)
                await self._ask(memory.asked(trouble, error, self.shown, can_restart=can_restart))
        raise error

    # questions

    async def _raise(self, error: Exception) -> NoReturn:
        if isinstance(error, NeedsPerson):
            await self._ask(error)
        raise error

    async def _ask(self, error: NeedsPerson) -> NoReturn:
        """Raise *error*; its question is new, if this prompt did not ask it before."""
        await self.notes.ask(error)
        raise error

    async def _heed_answer(self) -> None:
        """Do what an answer allows; a question that is not answered is asked again, unless something else tells."""
        asked = self.record.asked
        if not asked:
            return
        kind, is_yes = asked.partition(":")[0], self.notes.answer_to(asked) is True
        if not is_yes and kind in ("resubmit", "memory", "context", "account"):
            remedy = Remedy(self.record.cure, question=asked)
            raise NeedsPerson(self.record.why, remedy=remedy)
        if not is_yes or kind == "pay":
            return
        if kind == "run-again":
            self._queue.suspects.clear(self.key)
        elif kind in ("model", "node"):
            self._queue.serving.forget_info()
        if kind == "node":
            await self._queue.restart(f"{asked} is answered", self._queue.serving.identity, waits=True)
        again = {"posted": None, "round": self.record.round + 1} if kind == "resubmit" else {}
        await self.notes.commit(asked="", why="", cure="", **again)

    # its end from outside

    async def _was_cancelled(self) -> None:
        """The server has given it up, as it was told to: by an earlier process, or for a part that was refused."""
        is_part = self.record.why == "partial"
        await self.notes.commit(posted=None, round=self.record.round + 1, why="")
        if not is_part:
            self.notes.cancel("it was cancelled")
            await anyio.sleep_forever()

    async def _cancelled(self) -> None:
        """A prompt that the program, or a person, has cancelled is taken out of the server; not one that is left."""
        posted = self.record.posted
        if posted is None or self._queue.is_leaving or self.notes.is_left():
            return
        await self.notes.commit(posted=msgspec.structs.replace(posted, is_deleted=True))
        with anyio.move_on_after(10.0):
            await self._patiently(self._remove)

    # the server

    async def _remove(self) -> None:
        client = await self._queue.serving.client()
        await client.remove(self.prompt_id)

    async def _free(self) -> None:
        client = await self._queue.serving.client()
        await client.free()

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
        if self._queue.is_leaving:
            raise self.notes.stays_pending(f"{self.shown} stays pending: {self._queue.why_leaving}")

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
        client = await self._queue.serving.client()
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
