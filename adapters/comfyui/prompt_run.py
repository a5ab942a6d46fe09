"""One attempt of a prompt: it waits for its turn, sends the prompt, and waits until the server is done with it.

The record (``PromptRecord``) is committed before each POST, so that the next attempt, of this process or a later one,
knows what may have happened.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import anyio
import msgspec

from adapters.comfyui import memory, names, paid, questions, refusals
from adapters.comfyui.answers import Finished, files_in
from adapters.comfyui.deaths import trust
from adapters.comfyui.errors import (
    NoAnswerError,
    OutcomeUnknownError,
    PaidNodesError,
    PromptFailedError,
    PromptInterruptedError,
    PromptLostError,
    Refused,
    ServerBusyError,
    ServerDownError,
)
from adapters.comfyui.notes import Notes
from adapters.comfyui.queue import PromptQueue
from adapters.comfyui.queued_run import PAUSE, QueuedRun
from adapters.comfyui.reconcile import GRACE, UNKNOWN_AFTER
from adapters.comfyui.record import Posted
from adapters.comfyui.removal import take_out
from adapters.comfyui.result import PromptResult, Wish
from events.errors import NeedsPerson
from events.evidence import Remedy

MOST_UNANSWERED = 3
"""POSTs of a prompt without an answer or an effect, after which a person is asked."""

log = logging.getLogger("recovery.launch")


class PromptRun(QueuedRun):
    """One attempt of a prompt.

    Args:
        queue: The prompts before its server.
        shown: What it is called.
        key: Its idempotency key.
        wish: What is asked.
        notes: Its journal.
    """

    def __init__(self, queue: PromptQueue, shown: str, key: str, wish: Wish, notes: Notes) -> None:
        super().__init__(queue.serving, queue.suspects, shown, key, wish, notes)
        self._queue = queue

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
            with self._work:
                return await self._run()
            raise self._stays_pending()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._cancelled()
            raise
        finally:
            self._queue.leave(self)

    async def _run(self) -> PromptResult:
        await self.notes.begin()
        await self._learn()
        await self._heed_answer()
        while True:
            if self.record.posted is None:
                await self._get_ready()
                await self._wait_for_turn()
                await self._send()
            elif (result := await self._look()) is not None:
                return result

    async def _get_ready(self) -> None:
        """Find out what may keep it from running, before its turn."""
        await self._trust()
        await self._learn()
        await self._consent()

    async def _learn(self) -> None:
        """Find out which nodes cost money, and which put out results."""
        info = await self._patiently(
            lambda: self._serving.info({self._graph.class_of(one) for one in self._graph.nodes})
        )
        self._paid = paid.paid_nodes(self._graph, info)
        wanted = [one for one in self._graph.nodes if info[self._graph.class_of(one)].get("output_node")]
        self._wanted = frozenset(self._graph.wanted or wanted) if all(info.values()) else None
        self.is_known = True

    async def _consent(self) -> None:
        question = paid.question_of(self.shown)
        answer = self.notes.is_yes(question)
        error = None if self.record.is_agreed else paid.consent(self._paid, self.wish.paid, answer, self.shown)
        if isinstance(error, PaidNodesError):
            await self._ask(error)
        if error is not None:
            raise error
        if self._paid and self.wish.paid == "ask" and not self.record.is_agreed:
            await self.notes.commit(is_agreed=True, asked="", why="", cure="")

    async def _trust(self) -> None:
        deaths = self._suspects.deaths(self.key)
        if trust(len(deaths)) != "quarantined":
            return
        await self._ask(questions.quarantined(self.shown, [one.words for one in deaths]))

    async def _wait_for_turn(self) -> None:
        self.waits_for_turn = True
        self._queue.change()
        try:
            while not self.has_turn:
                await self._wait()
            await self._patiently(self._serving.until_ready)
        except BaseException:
            self.has_turn = False
            raise
        finally:
            self.waits_for_turn = False

    async def _send(self) -> None:
        """POST it, once. Its outcome is known, or is looked for."""
        serving, record, to = self._serving, self.record, self._serving.identity
        try:
            new_id = names.prompt_id(self.key, self.notes.call, record.round)
            await self.notes.commit(posted=Posted(new_id, to, time.time()), outputs={}, has_succeeded=False)
            if to != serving.identity:  # it has died meanwhile
                await self.notes.commit(posted=None)
                return
            self.verdict, self._unknown_since, self.is_blamed, self.number_fell = None, None, False, False
            self.is_watched, self._can_only_be_there = True, False
            self.notes.begin_run(self._graph.nodes)
            client, feed = await serving.client(), self._queue.feed
            accepted = await client.submit(self._graph.nodes, new_id, "" if feed is None else feed.client_id)
        except NoAnswerError as error:
            self._can_only_be_there = serving.identity in (to, "")
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
            await self.notes.commit(posted=posted, unanswered=0)
            return
        await self.notes.commit(posted=msgspec.structs.replace(posted, is_deleted=True), why="partial")
        await self._patiently(partial(self._serving.remove, self.prompt_id))
        await self.notes.commit(posted=None, round=self.record.round + 1, why="")
        await self._raise(refusals.partial(node_errors, self._graph))

    async def _look(self) -> PromptResult | None:
        """Wait for the next look at the server, and do what follows from it."""
        await self._wait()
        found, self.verdict = self.verdict, None
        match found:
            case "done" if self.is_deleted and self.record.why == "partial":  # it has run before it was taken out
                await self._doubt_consent()
                await self._was_cancelled()
            case "done":
                return await self._done()
            case "running" | "pending" if self.is_deleted:
                with suppress(ServerDownError, ServerBusyError, Refused):  # the next look tries it again
                    await self._serving.remove(self.prompt_id)  # an earlier process could not
            case "failed":
                await self._failed()
            case "interrupted":
                why = "was interrupted in the server, and not by this launcher"
                await self._ask(questions.resubmit(PromptInterruptedError, self.shown, why, self._paid))
            case "cancelled":
                await self._was_cancelled()
            case "lost" if self.was_not_taken:
                await self._not_taken()
            case "lost":
                await self._lost("was lost: its server died, or was started again")
            case "unknown":
                await self._unknown()
        return None

    async def _done(self) -> PromptResult:
        outputs = self._outputs()
        files = tuple(file for output in outputs.values() for file in files_in(output))
        self._suspects.clear(self.key)
        if self._serving.server is not None:
            self._serving.server.refill()
        if missing := [self._graph.title(node) for node in self._graph.wanted or () if node not in outputs]:
            await self.notes.commit(posted=None, outputs={}, has_succeeded=False, round=self.record.round + 1)
            named = f"{', '.join(missing)} put out nothing: leave that out of outputs="
            raise PromptFailedError(f"{self.shown} ran to its end, and {named}")
        return PromptResult(self.prompt_id, outputs, files)

    async def _not_taken(self) -> None:
        """Send it again, a few times: a graph that its server trips over has no answer each time, but HTTP 500."""
        unanswered = self.record.unanswered + 1
        if unanswered < MOST_UNANSWERED:
            await self.notes.commit(unanswered=unanswered)
            await self._lost("was not taken by its server, which gave no answer")
        await self.notes.commit(posted=None, unanswered=0)
        why = f"was sent {unanswered} times, and its server neither took it nor answered"
        await self._ask(questions.resubmit(OutcomeUnknownError, self.shown, why, self._paid))

    async def _lost(self, why: str) -> NoReturn:
        self.is_lost = True
        if self.may_have_run:
            await self._doubt_consent()
        await self.notes.commit(posted=None, outputs={}, has_succeeded=False)
        raise PromptLostError(f"{self.shown} {why}; it is sent again")

    async def _unknown(self) -> None:
        if self._unknown_since is None or time.monotonic() - self._unknown_since < UNKNOWN_AFTER:
            return
        is_there = self._standing.state == "finished"
        why = "is done, and its files are gone"
        if not is_there:
            why = "is gone from the server, and no sign says that it did not run"
        if self.wish.on_unknown == "resubmit" and not self._paid:
            if is_there:
                await self._patiently(self._serving.forget_outputs)
            await self._lost(why)
        await self._ask(questions.resubmit(OutcomeUnknownError, self.shown, why, self._paid))

    async def _failed(self) -> None:
        finished = self._standing.finished or Finished(succeeded=False)
        assert finished.error is not None
        assert self.record.posted is not None
        ran_in = self.record.posted.server
        error = refusals.failed(finished.error, self._graph, self.shown, self.record.round)
        await self.notes.commit(posted=None, outputs={}, has_succeeded=False, round=self.record.round + 1)
        trouble = memory.trouble_of(error)
        if trouble is None:
            await self._raise(error)
        assert trouble is not None
        await self._doubt_consent()  # what its nodes have put out is lost with the memory
        can_restart, has_policy = self._serving.is_ours, bool(self.wish.on_memory)
        step = memory.next_step(trouble, self.record.relieved, has_policy=has_policy, can_restart=can_restart)
        await self.notes.commit(relieved=memory.RELIEVED[step])
        why = f"{self.shown}: {error}"
        match step:
            case "free":
                await self._patiently(self._serving.free)
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

    async def _heed_answer(self) -> None:
        """Do what an answer allows; a question that is not answered is asked again, unless something else tells."""
        asked = self.record.asked
        if not asked:
            return
        kind, is_yes = asked.partition(":")[0], self.notes.is_yes(asked) is True
        if not is_yes and kind in questions.ASKED_AGAIN:
            remedy = Remedy(self.record.cure, question=asked)
            raise NeedsPerson(self.record.why, remedy=remedy)
        if not is_yes or kind == "pay":
            return
        if kind == "run-again":
            self._suspects.clear(self.key)
        elif kind in ("model", "node"):
            self._serving.forget_info()
        if kind == "node":
            await self._queue.restart(f"{asked} is answered", self._serving.identity, waits=True)
        again = {"posted": None, "round": self.record.round + 1} if kind == "resubmit" else {}
        if kind == "resubmit":
            await self._patiently(self._serving.forget_outputs)
        await self.notes.commit(asked="", why="", cure="", **again)

    # its end from outside

    async def _cancelled(self) -> None:
        """A prompt that the program, or a person, has cancelled is taken out of the server; not one that is left."""
        posted = self.record.posted
        if posted is None or self._queue.is_leaving or self.notes.is_left():
            return
        await self.notes.commit(posted=msgspec.structs.replace(posted, is_deleted=True))
        remove = partial(take_out, self._serving, posted, self._patiently)
        with anyio.move_on_after(GRACE) as limit:
            await remove()
        if limit.cancelled_caught:  # the caller does not wait for a server that is busy
            self._queue.do_later(remove)
