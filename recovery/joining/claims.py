"""One body among processes: claims on calls, and what to do with a call that another process has claimed."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from events.errors import CallRejectedError, JoinedElsewhere
from events.fork_locks import fork_safe
from recovery.joining.shared_call import Identity, SharedCall
from recovery.journal.core import JournalCore
from recovery.journal.encoding import readable
from recovery.journal.errors import JournalError
from recovery.journal.history import CallRecord, Run, replay
from recovery.journal.store import Claim, Query, Row, Store, Taken
from recovery.operations import Definition
from recovery.redact import brief
from recovery.waiting.waiters import Clock

FIRST_POLL = 0.02
"""Seconds until a call that another process has claimed is asked for again; each further wait is half as long again."""
LONGEST_POLL = 1.0

WRITTEN_BEFORE = 1.0
"""Seconds that the end of a call may have been written before its claim was found taken: it is released afterwards."""

log = logging.getLogger("recovery")


class _Held(msgspec.Struct, eq=False):
    """A claim of this process. Released once the end of its call is committed, unless the call is made again."""

    book: ClaimBook
    identity: Identity
    claim: Claim
    uses: int = 1

    def wake(self) -> None:
        """Release it: what is known of the call is written."""
        self.book.release(self)

    def close(self) -> None:
        """Do nothing: there is no sleep to end."""


class ClaimBook:
    """The claims of this process on the calls that it runs. Thread-safe.

    Args:
        journal: The journal, once there is one.
    """

    def __init__(self, journal: Callable[[], JournalCore | None]) -> None:
        self.journal = journal
        self._lock = fork_safe(threading.RLock())
        self._held: dict[Identity, _Held] = {}
        self._process = os.getpid()
        self._has_warned = False

    def take(self, identity: Identity) -> _Held | Taken | None:
        """Claim the calls of *identity*; ``None`` where no other process can run them, or none can be excluded."""
        journal = self.journal()
        if journal is None:
            return None
        with self._lock:
            if self._process != os.getpid():  # a forked child has none of its parent's claims
                self._process, self._held = os.getpid(), {}
            held = self._held.get(identity)
            if held is not None:  # the end of the call before is not committed yet
                held.uses += 1
                return held
            try:
                claim = journal.store.claim(msgspec.json.encode(identity))
            except (JournalError, OSError) as error:
                if not self._has_warned:
                    self._has_warned = True
                    log.warning("%s; equal calls of two processes may run side by side", brief(str(error)))
                return None
            if isinstance(claim, Taken) or claim is None:
                return claim
            held = self._held[identity] = _Held(self, identity, claim)
            return held

    def leave(self, held: _Held) -> None:
        """The call is over here: release *held* as soon as its end is committed."""
        journal = self.journal()
        with self._lock:
            held.uses -= 1
        if journal is None:
            self.release(held)
        else:
            journal.tracker.wake_after_commit(held)

    def release(self, held: _Held) -> None:
        """Release *held*, unless an equal call uses it now."""
        with self._lock:
            if not held.uses and self._held.get(held.identity) is held:
                del self._held[held.identity]
                held.claim.release()


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
        self._since: float | None = None
        self._held: _Held | None = None
        self.ended: CallRecord | None = None
        """The equal call that another process has ended meanwhile."""

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
        if self._since is None:
            self._since = time.time()
            log.warning("%s waits: %s runs an equal call", self._shared, process)
        most = self._definition.config.policy.max_elapsed
        left = LONGEST_POLL if most is None else self._began + most - self._clock()
        if left <= 0.0:
            raise CallRejectedError(self._shared.name, f"{process} still runs an equal call after {most:g} s")
        pause, self._pause = self._pause, min(self._pause * 1.5, LONGEST_POLL)
        return min(pause, left)

    def query(self) -> Query[CallRecord] | None:
        """The query for what other processes know of the call; ``None`` if none can have run it."""
        journal = self._book.journal()
        if journal is None or self._held is None or (self._since is None and self._shared.record is None):
            return None

        async def read(store: Store) -> CallRecord | None:
            found = self._shared.record
            if self._since is not None:
                runs, rows = await store.calls_of(self._shared.name, self._since - WRITTEN_BEFORE)
                found = self._latest(runs, rows, journal.run.id) or found
            return None if found is None else await journal.lookup.taken_over(store, found.call)

        return journal.ask(Query(read))

    def _latest(self, runs: Iterable[Run], rows: Iterable[Row], own_run: str) -> CallRecord | None:
        """The latest equal call that another process has begun: one that is pending, else one that is over."""
        records: dict[str, CallRecord] = {}
        for run, event in readable(rows):
            replay(records, run, (event,))
        known = {run.id: run.wall - run.monotonic for run in runs}
        equal = [one for one in records.values() if one.run != own_run and self._is_equal(one)]
        return max(equal, key=lambda one: (not one.is_over, known.get(one.run, 0.0) + one.at), default=None)

    def _is_equal(self, record: CallRecord) -> bool:
        identity, codec = self._shared.identity, self._definition.codec
        assert identity is not None
        if record.idempotency_key or codec is None or not record.is_resumable:
            return identity[1:] == (record.version, record.idempotency_key)
        try:
            return identity[1:] == (record.version, codec.identity(*codec.decoded(record.arguments or b"")))
        except (TypeError, ValueError):
            return False

    def settle(self, record: CallRecord | None) -> None:
        """Note what other processes know of the call: how it ended, or where it stands."""
        if record is not None and record.is_over:
            self.ended, self._shared.record = record, None
        elif record is not None:
            self._shared.record = record

    def check(self) -> None:
        """Raise JoinedElsewhere if another process has ended the call."""
        if self.ended is not None:
            why = self.ended.reason or (self.ended.failures[-1] if self.ended.failures else "")
            ended = self.ended.state
            error = "" if ended == "succeeded" else brief(why)
            raise JoinedElsewhere(self._shared.name, self.ended.call, ended, error)

    def leave(self) -> None:
        """The call is over here, or goes on with another caller."""
        if self._held is not None:
            self._book.leave(self._held)
