"""The wait of a call for its claim, and what becomes of a call that another process has run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from events.errors import CallRejectedError, JoinedElsewhere
from events.own_log import own_log
from recovery.joining.claims import ClaimBook, Held, identity_of_record, replayed
from recovery.joining.shared_call import Identity, SharedCall
from recovery.journal.store import Query, Row, Store, Taken
from recovery.redact import brief

if TYPE_CHECKING:
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord, Run
    from recovery.operations import Definition
    from recovery.waiting.waiters import Clock

FIRST_POLL = 0.02
"""Seconds until a call that another process has claimed is asked for again; each further wait is half as long again."""
LONGEST_POLL = 1.0

WRITTEN_BEFORE = 1.0
"""Seconds that the end of a call may have been written before its claim was found taken: it is released afterwards."""

UNKNOWN = "the journal cannot say what another process made of the call"

log = own_log("recovery")


class ClaimWait:
    """The wait of one shared call for its claim. The steps neither sleep nor await.

    Args:
        book: The claims of this process.
        shared: The call.
        definition: Its operation.
        clock: Monotonic seconds.
    """

    def __init__(self, book: ClaimBook, shared: SharedCall, definition: Definition, clock: Clock) -> None:
        self._book = book
        self._shared = shared
        self._definition = definition
        self._clock = clock
        self._began = clock()
        self._pause = FIRST_POLL
        self._held: Held | None = None
        self._is_known = False
        self.ended: CallRecord | None = None
        """The equal call that another process has ended meanwhile."""
        self.superseded: CallRecord | None = None
        """A call that a dead process left, where another process has done the same with a call of its own."""

    def next_sleep(self) -> float | None:
        """Seconds to sleep before the next try; ``None`` once the call is claimed.

        Raises:
            CallRejectedError: Another process runs an equal call for longer than ``max_elapsed``.
        """
        assert self._shared.identity is not None
        found = self._book.take(self._shared.identity)
        if not isinstance(found, Taken):
            self._held = found
            return None
        process = "another process" if found.pid is None else f"process {found.pid}"
        most = self._definition.config.policy.max_elapsed
        if self._shared.claimed_elsewhere is None:
            self._shared.claimed_elsewhere = time.monotonic()
            limit = "" if most is None else f", at most {most:g} s"
            if not self._definition.is_silent:
                log.warning("%s: %s runs an equal call; this one waits for its end%s", self._shared, process, limit)
        left = LONGEST_POLL if most is None else self._began + most - self._clock()
        if left <= 0.0:
            raise CallRejectedError(self._shared.name, f"{process} still runs an equal call after {most:g} s")
        pause, self._pause = self._pause, min(self._pause * 1.5, LONGEST_POLL)
        return min(pause, left)

    def query(self) -> Query[CallRecord] | None:
        """The query for what other processes know of the call; ``None`` if none can have run it."""
        shared, journal = self._shared, self._book.journal()
        if journal is None or self._held is None:
            return None
        if shared.claimed_elsewhere is None and shared.record is None and self._left() is None:
            return None
        return journal.ask(Query(lambda store: self._read(store, journal)))

    def _left(self) -> str | None:
        """The equal call that a dead process left in the file of a living one."""
        return self._book.left.get(self._shared.name, {}).get(cast(Identity, self._shared.identity))

    async def _read(self, store: Store, journal: JournalCore) -> CallRecord | None:
        shared, left = self._shared, self._left()
        call = None if shared.record is None else shared.record.call
        if shared.claimed_elsewhere is not None:
            runs, rows = await store.calls_of(shared.name, shared.claimed_elsewhere - WRITTEN_BEFORE)
            latest = self._latest(runs, rows, journal.run)
            if latest is not None and (call is None or not latest.is_over or latest.state == "succeeded"):
                call = latest.call
        found = None
        if (wanted := call or left) is not None:
            found = await journal.lookup.taken_over(store, wanted)
        self._is_known = True
        if left is not None:
            del self._book.left[shared.name][cast(Identity, shared.identity)]
        return None if call is None and found is not None and not self._is_left(found, journal.run.id) else found

    def _is_left(self, record: CallRecord, own_run: str) -> bool:
        """Whether *record* is of a call that a dead process left, and this one has not gone on with it."""
        if record.run == own_run:
            return False
        # A call that is over and was never resumed has ended in the process that began it.
        return record.resumes > 0 if record.is_over else record.run not in self._book.living

    def _latest(self, runs: Iterable[Run], rows: Iterable[Row], this: Run) -> CallRecord | None:
        """The equal call of other processes that changed last: one runs at a time, so they had claimed that one."""
        # Within a boot the monotonic clocks agree, however the wall clock is set.
        known = {run.id: (True, 0.0) if run.boot == this.boot else (False, run.wall - run.monotonic) for run in runs}

        def changed(record: CallRecord) -> tuple[bool, float]:
            is_of_this_boot, epoch = known.get(record.run, (False, 0.0))
            return is_of_this_boot, epoch + record.at

        found = (
            one
            for one in replayed(rows)
            if one.run != this.id and identity_of_record(self._definition, one) == self._shared.identity
        )
        return max(found, key=changed, default=None)

    def settle(self, record: CallRecord | None) -> bool:
        """Note what other processes know of the call: how it ended, or where it stands.

        Returns whether another process has gone on with it since this one knew it.

        Raises:
            CallRejectedError: The journal cannot say it, and the operation must not run without it.
        """
        shared, journal = self._shared, self._book.journal()
        is_sought = shared.claimed_elsewhere is not None or shared.record is not None
        if not self._is_known and is_sought and journal is not None:
            why = f"{UNKNOWN}{'' if journal.writer.reason is None else f' ({journal.writer.reason})'}"
            if self._definition.config.on_degraded == "refuse":
                raise CallRejectedError(shared.name, why)
            if not self._definition.is_silent:
                self._book.warn_once(UNKNOWN, f"{shared}: {brief(why)}; it may be run twice")
        if record is None:
            return False
        before, is_ours = shared.record, journal is not None and record.run == journal.run.id
        if not is_ours:  # where this process left off is not where the call stands
            shared.start = None
        if before is not None and before.call != record.call:
            self.superseded = before
        self.ended, shared.record = (record, None) if record.is_over else (None, record)
        return not is_ours and not record.is_over and (before is None or before.run != record.run)

    def check(self) -> None:
        """Raise JoinedElsewhere if another process has ended the call."""
        if self.ended is not None:
            record, ended = self.ended, self.ended.state
            why = record.failures[-1] if ended == "gave up" and record.failures else record.reason
            error = "" if ended == "succeeded" else brief(why)
            raise JoinedElsewhere(self._shared.name, record.call, ended, error)

    def leave(self) -> None:
        """The call is over here, or goes on with another caller."""
        if self._held is not None:
            self._book.leave(self._held)
