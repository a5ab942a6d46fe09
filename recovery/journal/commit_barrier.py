"""What a call waits for on account of the journal, sync and async. Runners wait, ``publish()`` never does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from events.own_log import own_log
from events.verdicts import GiveUp
from recovery.journal.config import COMMIT_TIMEOUT
from recovery.journal.errors import NotDurable
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter

if TYPE_CHECKING:
    from recovery.journal.back_pressure import BackPressure, Slot
    from recovery.journal.core import JournalCore
    from recovery.journal.receipts import Receipt
    from recovery.settings import OperationConfig

MAX_ADMISSION_WAIT = 60.0
"""Seconds that a call waits for admission, however slowly the store writes; then its events may be dropped."""

log = own_log("recovery")


class Refusal(GiveUp, frozen=True):
    """The journal cannot be written, and the call must not begin without it."""


class CommitBarrier:
    """The waits of the calls of operations that have this *config*. *journal* returns the journal, if there is one.

    **Admission.** While the write queue is half full, a call waits for admission before it publishes an event that is
    written: a failure, a recovery, and the start and success of a journalled call. So a flood does not overrun a store
    that works. The wait ends when the store has written nothing for 5 s, after 60 s, and after half of the time that
    the call has left: the rest is for its work.

    **Commits.** A journalled call's later attempts begin after the commit of their starts; otherwise a restart would
    not know of an attempt, and not charge it. So do all attempts of a resumed call, and of a strict one, which returns
    after the commit of its end. Each commit is waited for at most 5 s.

    While the journal cannot be written, calls go ahead, except strict ones with ``on_degraded="refuse"``.
    """

    def __init__(self, config: OperationConfig, journal: Callable[[], JournalCore | None]) -> None:
        self.are_journalled = config.journalled
        self.is_strict = config.durability == "strict"
        self._refuses = config.on_degraded == "refuse"
        self._back_pressure: BackPressure | None = None
        self._journal = (lambda: None) if config.durability == "off" else journal

    @property
    def must_wait(self) -> bool:
        """Whether to call ``wait_for_admission`` before an event that is written."""
        if self._back_pressure is None and (journal := self._journal()) is not None:
            self._back_pressure = journal.back_pressure  # for good: a failing call asks twice
        pressure = self._back_pressure
        return pressure is not None and (
            pressure.queue.room.is_half_full or bool(pressure.threads.waiting or pressure.tasks.waiting)
        )

    def wait_for_admission(self, time_left: float) -> None:
        """Wait for admission, for at most half of *time_left* seconds, and no longer than the store writes."""
        slot = self._slot(time_left, blocks=True)
        if slot is not None:
            with closing(slot):
                while (seconds := slot.wait_time(waiter := ThreadWaiter())) > 0.0:
                    waiter.wait(seconds)

    async def await_admission(self, time_left: float) -> bool:
        """As ``wait_for_admission``, suspending the task; whether its next record may take the lane at any limit."""
        slot = self._slot(time_left, blocks=False)
        if slot is None:
            return False
        with closing(slot):
            while not slot.is_admitted and (seconds := slot.wait_time(waiter := TaskWaiter())) > 0.0:
                try:
                    await waiter.wait(seconds)
                finally:
                    waiter.close()
        return slot.has_room

    def _slot(self, time_left: float, *, blocks: bool) -> Slot | None:
        journal = self._journal()
        if journal is None or journal.writer.is_current_thread:
            return None
        return journal.back_pressure.slot(min(MAX_ADMISSION_WAIT, time_left / 2), blocks=blocks)

    def before_next(self, time_left: float) -> None:
        """Wait until all that led to a journalled call's next attempt is committed, at most *time_left* seconds."""
        _wait(self._receipt(if_due=True), time_left)

    async def abefore_next(self, time_left: float) -> None:
        """As ``before_next``, suspending the task."""
        await _await(self._receipt(if_due=True), time_left)

    def start(self, time_left: float) -> GiveUp | None:
        """Wait until an attempt's start is committed; the verdict if the attempt must not begin."""
        return self._verdict(_wait(self._receipt(), time_left))

    async def astart(self, time_left: float) -> GiveUp | None:
        """As ``start``, suspending the task."""
        return self._verdict(await _await(self._receipt(), time_left))

    def _receipt(self, *, if_due: bool = False) -> Receipt | None:
        journal = self._journal()
        if journal is None:
            return None
        return journal.tracker.receipt_if_due() if if_due else journal.tracker.receipt()

    def _verdict(self, reason: str | None) -> GiveUp | None:
        return Refusal(f"the journal cannot promise to remember it: {reason}") if reason and self._refuses else None

    @staticmethod
    def is_refusal(verdict: GiveUp) -> bool:
        """Whether *verdict* ends a call because the journal cannot be written."""
        return isinstance(verdict, Refusal)

    def end(self) -> None:
        """Wait until a strict call's end is committed."""
        if self.is_strict:
            _log_end(_wait(self._receipt(), COMMIT_TIMEOUT))

    async def aend(self) -> None:
        """As ``end``, suspending the task."""
        if self.is_strict:
            _log_end(await _await(self._receipt(), COMMIT_TIMEOUT))


def _wait(receipt: Receipt | None, time_left: float) -> str | None:
    """Why *receipt* does not hold, or ``None``."""
    try:
        if receipt is not None:
            receipt.wait(min(COMMIT_TIMEOUT, time_left))
    except NotDurable as error:
        return error.reason
    return None


async def _await(receipt: Receipt | None, time_left: float) -> str | None:
    try:
        if receipt is not None:
            await receipt.committed(min(COMMIT_TIMEOUT, time_left))
    except NotDurable as error:
        return error.reason
    return None


def _log_end(reason: str | None) -> None:
    if reason is not None:
        log.warning(
            "the end of a strict call may not be written: %s; its result is returned, a restart may repeat it", reason
        )
