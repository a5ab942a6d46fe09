"""The claims of this process on the calls that it runs, and the calls that it may find in the files of others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from events.fork_locks import fork_safe
from events.own_log import own_log
from recovery.journal.errors import JournalError
from recovery.journal.store import Claim, Query, Row, Store, Taken
from recovery.redact import brief

if TYPE_CHECKING:
    from recovery.joining.shared_call import Identity
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.operations import Definition

NOT_EXCLUDED = "equal calls of two processes may run side by side"
log = own_log("recovery")


class Held(msgspec.Struct, eq=False):
    """A claim of this process, and how many calls need it: those that run, and those whose end is not committed yet."""

    identity: Identity
    claim: Claim
    uses: int = 1


class _Use(msgspec.Struct, eq=False):
    """A call that is over here, and needs its claim until its end is committed."""

    book: ClaimBook
    held: Held

    def wake(self) -> None:
        """The end is committed, or cannot be."""
        self.book.release(self.held)

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
        self._begin()
        self._said: set[str] = set()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._held: dict[Identity, Held] = {}
        self.left: dict[str, dict[Identity, str]] = {}
        """By operation: the calls that ``ask`` found. Dead processes left them, and this one may not know them."""
        self.living: set[str] = set()
        """Runs that went on when those calls were found."""

    def ask(self, definition: Definition) -> Query[bool] | None:
        """A query to wait for before the first call of *definition*: which of its calls may be in the files of others.

        ``None`` without a journal, or while it has not said which calls are pending.
        """
        journal, name = self.journal(), definition.operation.name
        if journal is None or not (journal.loaded.is_open or journal.writer.reason is None) or not self._can(journal):
            return None

        async def read(store: Store) -> bool:
            runs, rows = await store.calls_of(name, None)
            known = {one.call for one in journal.pending().calls} if journal.loaded.is_open else set()
            living = {run.id for run in runs if run.boot == journal.run.boot and _is_alive(run.pid)}
            left = [one for one in replayed(rows) if not one.is_over and one.call not in known]
            left = [one for one in left if one.resumes or one.run not in living]
            with self._lock:
                self._renew()
                self.living = self.living.difference(run.id for run in runs) | living  # some have died since
                found = ((identity_of_record(definition, one), one.call) for one in left)
                # What an earlier question found may have ended elsewhere since, which its next caller is told.
                known_before = self.left.get(name, {})
                self.left[name] = known_before | {identity: call for identity, call in found if identity is not None}
            return True

        return journal.ask(Query(read))

    def _can(self, journal: JournalCore) -> bool:
        """Whether other processes may use the journal, and exclude each other there."""
        try:
            claim = journal.store.claim(b"")
        except (JournalError, OSError):
            return False  # ``take`` says so
        if claim is not None and not isinstance(claim, Taken):
            claim.release()
        return claim is not None

    def _renew(self) -> None:
        if self._process != os.getpid():  # a forked child has none of its parent's claims
            self._begin()

    def take(self, identity: Identity) -> Held | Taken | None:
        """Claim the calls of *identity*; ``None`` where no other process can run them, or none can be excluded."""
        journal = self.journal()
        if journal is None:
            return None
        with self._lock:
            self._renew()
            held = self._held.get(identity)
            if held is not None:  # the end of the call before is not committed yet
                held.uses += 1
                return held
            try:
                claim = journal.store.claim(msgspec.json.encode(identity))
            except (JournalError, OSError) as error:
                self.warn_once(NOT_EXCLUDED, f"{brief(str(error))}; {NOT_EXCLUDED}")
                return None
            if isinstance(claim, Taken) or claim is None:
                return claim
            held = self._held[identity] = Held(identity, claim)
            return held

    def leave(self, held: Held) -> None:
        """The call is over here: release *held* as soon as its end is committed."""
        journal, use = self.journal(), _Use(self, held)
        if journal is None:
            use.wake()
        else:
            journal.tracker.wake_after_commit(use)

    def release(self, held: Held) -> None:
        """One call less needs *held*; the last one releases it."""
        with self._lock:
            held.uses -= 1
            if not held.uses:
                if self._held.get(held.identity) is held:
                    del self._held[held.identity]
                held.claim.release()

    def warn_once(self, what: str, text: str) -> None:
        """Log the warning *text*, once for each *what*."""
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", text)


def identity_of_record(definition: Definition, record: CallRecord) -> Identity | None:
    """What calls have in common with that of *record*, as far as it is known."""
    if record.is_leased:
        return None
    key: str | bytes = record.idempotency_key
    if not key and definition.codec is not None and record.arguments is not None:
        try:
            key = definition.codec.identity(*definition.codec.decoded(record.arguments))
        except (TypeError, ValueError):
            return None
    return (record.operation, record.version, key) if key else None


def replayed(rows: Iterable[Row]) -> Iterable[CallRecord]:
    """The calls of *rows*."""
    from recovery.journal.encoding import readable  # here: the journal that wrote the rows has imported both
    from recovery.journal.history import replay

    records: dict[str, CallRecord] = {}
    for run, event in readable(rows):
        replay(records, run, (event,))
    return records.values()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
