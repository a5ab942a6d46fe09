"""What a call waits for the journal's sake, in both colours: drivers do, ``publish()`` never does."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.verdicts import GiveUp
from recovery.journal.admission import Slot
from recovery.journal.errors import NotDurable
from recovery.journal.journal import Journal
from recovery.journal.receipts import COMMIT_BUDGET, Receipt
from recovery.settings import OperationConfig
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter

MAX_ADMISSION_WAIT = 60.0
"""Seconds that a call waits in line for room, however slowly the store writes: its events may then be dropped."""

log = logging.getLogger("recovery")


class Refusal(GiveUp, frozen=True):
    """The journal cannot be written, and the call must not begin without it."""


class CommitBarrier:
    """The waits of the calls of operations that have this *config*.

    While the journal's queue is half full, a call waits in line (``recovery.journal.journal.admission``) before it
    says anything that
    is written, so that a flood does not overrun a store that works: a failure, a recovery, and the start and success of
    a journalled call. It goes ahead when the store has written nothing for 5 s, after a minute, and after half of the
    time that it has left: the rest is for what it waits to do.

    A journalled call's next attempt starts after the commit of its schedule, or a restart would repeat an attempt. A
    strict call's attempts start after the commit of their starts, and it returns after the commit of its end. What is
    resumed after a restart starts like that too, or a call that kills its process at once would never be found out.
    Each commit is waited for 5 s at the most.

    When the journal cannot be written all go ahead; a strict one with ``on_degraded="refuse"`` does not.
    """

    def __init__(self, config: OperationConfig, journal: Callable[[], Journal | None]) -> None:
        self.are_journalled = config.journalled
        self.is_strict = config.durability == "strict"
        self._refuses = config.on_degraded == "refuse"
        self._journal = (lambda: None) if config.durability == "off" else journal

    @property
    def is_half_full(self) -> bool:
        """Whether there is something to wait for before anything is said."""
        journal = self._journal()
        return journal is not None and journal.is_half_full

    def wait_for_room(self, most: float) -> None:
        """Wait until the journal has room, half of *most* seconds at the most, or until it writes nothing more."""
        slot = self._slot(most, blocks=True)
        if slot is not None:
            with slot:
                while (left := slot.left(waiter := ThreadWaiter())) > 0.0:
                    waiter.wait(left)

    async def await_room(self, most: float) -> None:
        """As ``wait_for_room``."""
        slot = self._slot(most, blocks=False)
        if slot is not None:
            with slot:
                while (left := slot.left(waiter := TaskWaiter())) > 0.0:
                    try:
                        await waiter.wait(left)
                    finally:
                        waiter.close()

    def _slot(self, most: float, *, blocks: bool) -> Slot | None:
        journal = self._journal()
        return None if journal is None else journal.slot(min(MAX_ADMISSION_WAIT, most / 2), blocks=blocks)

    def before_next(self, most: float) -> None:
        """Wait before a journalled call's next attempt, *most* seconds at the most."""
        receipt = self._receipt_if_due()
        if receipt is not None:
            _wait(receipt, most)

    async def abefore_next(self, most: float) -> None:
        """As ``before_next``."""
        receipt = self._receipt_if_due()
        if receipt is not None:
            await _await(receipt, most)

    def _receipt_if_due(self) -> Receipt | None:
        journal = self._journal()
        return None if journal is None or journal.is_settled(journal.position()) else journal.receipt()

    def start(self, most: float) -> GiveUp | None:
        """Wait until an attempt's start is committed; why it must not begin."""
        journal = self._journal()
        return None if journal is None else self._verdict(_wait(journal.receipt(), most))

    async def astart(self, most: float) -> GiveUp | None:
        """As ``start``."""
        journal = self._journal()
        return None if journal is None else self._verdict(await _await(journal.receipt(), most))

    def _verdict(self, reason: str | None) -> GiveUp | None:
        return Refusal(f"the journal cannot promise to remember it: {reason}") if reason and self._refuses else None

    @staticmethod
    def is_refusal(held: GiveUp) -> bool:
        """Whether an attempt must not begin because the journal cannot be written."""
        return isinstance(held, Refusal)

    def end(self) -> None:
        """Wait until a strict call's end is committed."""
        journal = self._journal()
        if journal is not None and self.is_strict:
            _say(_wait(journal.receipt(), COMMIT_BUDGET))

    async def aend(self) -> None:
        """As ``end``."""
        journal = self._journal()
        if journal is not None and self.is_strict:
            _say(await _await(journal.receipt(), COMMIT_BUDGET))


def _wait(receipt: Receipt, most: float) -> str | None:
    try:
        receipt.wait(min(COMMIT_BUDGET, most))
    except NotDurable as error:
        return error.reason
    return None


async def _await(receipt: Receipt, most: float) -> str | None:
    try:
        await receipt.committed(min(COMMIT_BUDGET, most))
    except NotDurable as error:
        return error.reason
    return None


def _say(reason: str | None) -> None:
    if reason is not None:  # what was done is done: the caller gets its result
        log.warning("the end of a strict call is not known to be written: %s", reason)
