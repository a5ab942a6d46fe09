"""What the journal has of one prompt while it is not done: its record, the progress of its run, and its question."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.comfyui.messages import Message
from adapters.comfyui.progress import RunProgress, Told, titles_of
from adapters.comfyui.record import PromptProgress, PromptRecord
from events.attempt import Attempt
from events.errors import NeedsPerson, StaysPendingError
from recovery.journal.errors import NotDurable
from recovery.redact import brief
from recovery.service import Recovery

log = logging.getLogger("recovery.launch")


class Notes:
    """The journal of one attempt of a prompt.

    Args:
        service: Has the journal, and asks questions.
        attempt: The attempt.
        record: What earlier attempts have noted; None at the first.
        queued: When a new prompt counts as asked for: seconds since the epoch.
    """

    def __init__(self, service: Recovery, attempt: Attempt, record: PromptRecord | None, queued: float) -> None:
        assert service.journal is not None  # or it could not be declared
        self.record = record or PromptRecord(queued=queued)
        self._calls, self._journal = service.calls, service.journal
        self._attempt = attempt
        self._run = RunProgress({})
        self._told = Told()

    @property
    def call(self) -> str:
        """The id of the call."""
        return self._attempt.call.id

    # the record

    def save(self, **changes: Any) -> None:
        """Note *changes* of the record. It is written soon."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self._attempt.checkpoint(msgspec.json.encode(self.record))

    async def commit(self, **changes: Any) -> None:
        """As ``save``, and wait until it is written. Where nothing can be written the prompt goes on in memory.

        Raises:
            StaysPendingError: The journal is closed: the next process goes on.
        """
        self.save(**changes)
        try:
            await self._journal.receipt().committed()
        except NotDurable as error:
            if self._journal.is_closed:
                raise self.stays_pending(f"the prompt stays pending: {error}") from None
            text = "a prompt goes on, but what it does is not journalled (%s): if the process dies, it may run twice"
            log.warning(text, error)

    async def begin(self) -> None:
        """Note that an attempt begins."""
        await self.commit(taken_up=self.record.taken_up + 1)

    # progress

    def begin_run(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """The server gets it: nothing has run yet."""
        self._run, self._told = RunProgress(titles_of(nodes)), Told()
        self.record = msgspec.structs.replace(self.record, progress=PromptProgress())

    def take(self, message: Message, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """A message of its run."""
        if not self._run.titles:  # an earlier process has sent it
            self._run = RunProgress(titles_of(nodes))
        self._run = self._run.after(message)
        self.tell_progress()

    def tell_progress(self) -> None:
        """Note how far the run is, once a second at most."""
        progress, now = self._run.progress, time.monotonic()
        if self._run.titles and self._told.is_due(progress, now):
            self._told = Told(progress, now)
            self.save(progress=progress)
            self._attempt.progress(progress.share)

    def tell_place(self, place: int, waits_for: str) -> None:
        """Note how many prompts are before it, and what it waits for besides."""
        progress = PromptProgress(place=place, waits_for=waits_for)
        if progress != self.record.progress:
            self.save(progress=progress)

    # questions

    def is_yes(self, question: str) -> bool | None:
        """Whether *question* is answered by yes; None if there is no answer, or this prompt has not asked it."""
        answer = self._calls.answered(question) if self.record.asked == question else None
        return None if answer is None else answer is True

    def reopen(self, question: str, why: str) -> None:
        """An answer does not count any more."""
        if self._calls.is_answered(question):
            self._calls.reopen(question, brief(why))

    async def ask(self, error: NeedsPerson) -> None:
        """Note the question of *error*, which is to be raised. An answer that was given before does not count."""
        remedy = error.remedy
        if remedy is None or not remedy.question:
            return
        if self.record.asked != remedy.question:
            self.reopen(remedy.question, str(error))
        await self.commit(asked=remedy.question, why=brief(str(error)), cure=brief(remedy.sentence))

    # the end

    def is_left(self) -> bool:
        """Whether a cancelled prompt is left to another caller, or to the next process."""
        joined = self._calls.joining(self._attempt.call.idempotency_key) > 0
        return self._journal.is_closed or (joined and self._attempt.call.cancelled is None)

    def cancel(self, why: str) -> None:
        """End it as cancelled."""
        self._calls.cancel(self.call, why)

    def stays_pending(self, why: str) -> StaysPendingError:
        """The error with which the body leaves its call to a later one, or to the next process."""
        error = StaysPendingError(why)
        error.attempt = self._attempt
        return error
