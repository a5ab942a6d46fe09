"""The calls that dead processes left, sorted: which a caller or the resumption may go on with, and why others stay."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from events.call import Call
from events.callables import is_async
from events.errors import CallRejectedError
from events.fork_locks import fork_safe
from events.operation import Operation
from events.operation_events import CallLeftPending, OperationQuarantined
from events.own_log import own_log
from recovery.joining.continuation import continued, why_quarantined
from recovery.joining.shared_call import SharedCall, identity_of, place_of, why_rejected
from recovery.redact import brief

if TYPE_CHECKING:
    from events.bus import Bus
    from recovery.joining.register import CallRegister
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.journal.store import Query
    from recovery.operations import Definition
    from recovery.registry import Registry

MAX_NAMED = 3
"""Calls that a warning names by their ids."""

UNDEFINED = "no operation of that name is defined; define it, or end them with `recovery give-up {} CALL`"
UNSTORED = "nothing was stored to resume it with"
ASYNC = "the function is async; resume under `async with`, where a loop runs"
EQUAL = "an equal call runs in this process; a later equal call goes on with it"
UNKNOWN = "the journal has not said yet which calls are pending"

log = own_log("recovery")


class PendingCalls:
    """What dead processes left, as far as the journal has said so. Safe to use from any thread.

    Args:
        registry: The operations that are defined.
        register: Receives the calls that a caller may go on with.
        journal: The journal, once there is one.
        bus: Where the calls that stay pending are published.
    """

    def __init__(
        self, registry: Registry, register: CallRegister, journal: Callable[[], JournalCore | None], bus: Bus
    ) -> None:
        self._bus = bus
        self._registry = registry
        self._register = register
        self._journal = journal
        self._lock = fork_safe(threading.RLock())
        self._run = ""
        self._begin("")

    def _begin(self, run: str) -> None:
        self._run = run
        self._query: Query[bool] | None = None
        self._has_waited = False
        self._known: set[str] = set()
        self._said: set[tuple[str, str]] = set()
        self._unsorted: dict[str, list[CallRecord]] = {}
        self.left: dict[str, CallRecord] = {}
        """Calls that stay pending, by id."""
        self.quarantined: dict[str, SharedCall] = {}
        """Calls whose last allowed attempt died with its process, by id."""
        self.ready: list[SharedCall] = []
        """Calls that the resumption can run, unless a caller has taken them."""
        self.unasked: dict[str, SharedCall] = {}  # by id; their next caller alone can go on: it has the arguments

    # which calls are pending

    def knows(self, definition: Definition) -> bool:
        """Whether the register knows the pending calls of *definition*: then ``ask`` and ``learn`` are not needed."""
        journal = self._journal()
        return journal is None or definition.learned == journal.run.id

    def ask(self) -> Query[bool] | None:
        """A query to wait for before ``learn``; ``None`` if there is nothing to wait for."""
        journal = self._journal()
        if journal is None or journal.loaded.is_open:
            return None
        with self._lock:
            self._renew(journal)
            if self._query is None:
                self._query = journal.ask_for_pending()
            return None if self._has_waited else self._query

    def _renew(self, journal: JournalCore) -> None:
        if journal.run.id != self._run:  # at first, and in a forked child
            self._begin(journal.run.id)

    def learn(self, definition: Definition) -> None:
        """Before a call of *definition*: have the register know the calls of it that are pending.

        Raises:
            CallRejectedError: The journal has not said which are, and the operation must not run without it.
        """
        journal = self._journal()
        if journal is None:
            return
        if not journal.loaded.is_open:
            self._warn_of_unknown(definition, journal)
            return
        with self._lock:
            self._load(journal)
            self._sort(definition.operation.name)

    def _warn_of_unknown(self, definition: Definition, journal: JournalCore) -> None:
        why = f"{UNKNOWN}{'' if journal.writer.reason is None else f' ({journal.writer.reason})'}"
        has_waited, self._has_waited = self._has_waited, True
        if definition.config.on_degraded == "refuse":
            raise CallRejectedError(definition.operation.name, why)
        if not has_waited and not definition.is_silent:
            text = "%s: %s: a call that a dead process left may run beside an equal one of this process"
            log.warning(text, definition.operation.name, brief(why))

    def _load(self, journal: JournalCore) -> None:
        self._renew(journal)
        for record in journal.pending().calls:
            if record.call not in self._known:
                self._known.add(record.call)
                self._unsorted.setdefault(record.operation, []).append(record)

    def sort_all(self) -> None:
        """For the resumption: sort every call again that is not ready yet, and say of each that stays pending why."""
        journal = self._journal()
        assert journal is not None
        with self._lock:
            self._load(journal)
            for name in list(self._unsorted):
                self._sort(name)

    def take_ready(self, can_run: Callable[[Definition], bool]) -> list[tuple[SharedCall, Definition]]:
        """Remove and return the calls that the resumption is to run, with their operations.

        Those of operations that it cannot run stay, and are said to stay.
        """
        with self._lock:
            ready, self.ready = self.ready, []
            taken: list[tuple[SharedCall, Definition]] = []
            stay = defaultdict[str, "list[CallRecord]"](list)
            for shared in ready:
                definition, record = self._registry.get(shared.name), shared.record
                assert record is not None
                if definition is not None and can_run(definition):
                    taken.append((shared, definition))
                else:
                    self.ready.append(shared)
                    stay[shared.name].append(record)
        for name, records in stay.items():
            self.say_left(name, ASYNC, records)
        return taken

    def cancel(self, call: str) -> bool:
        """Cancel the call of that id, which a dead process left; False if there is none, or it runs already."""
        journal = self._journal()
        if journal is None or not journal.loaded.is_open:
            return False
        self.sort_all()
        record = next((one for one in journal.pending().calls if one.call == call), None)
        if record is None or not self.drop(call):
            return False
        operation = self._registry.operation_of(record.operation, record.key)
        continued(record, operation or Operation(record.operation, self._bus, key=record.key)).cancel()
        return True

    def drop(self, call: str) -> bool:
        """A person has given up the call of that id: it is not run any more; False if it runs already."""
        with self._lock:
            if (record := self.left.pop(call, None)) is not None:
                self._unsorted[record.operation].remove(record)
                return True
            shared = self.quarantined.get(call) or self.unasked.pop(call, None)
            shared = shared or next((one for one in self.ready if is_of(one, call)), None)
            if shared is None or not self._register.drop(shared):
                return False
            self.quarantined.pop(call, None)
            self.ready = [one for one in self.ready if one is not shared]
            return True

    def take(self, shared: SharedCall) -> None:
        """A caller goes on with *shared*: the resumption does not, if it has found the call already or finds it now."""
        if shared.record is None:
            return
        call = shared.record.call
        with self._lock:
            self._known.add(call)
            if call not in self.quarantined:
                self.drop(call)
            self._register.forget(shared)

    def can_resume(self, record: CallRecord, *, has_loop: bool) -> bool:
        """Whether the call of *record* can be resumed here, or in no process."""
        if record.arguments is None and not record.idempotency_key:
            return True
        definition = self._registry.get(record.operation)
        if definition is None or definition.config.version != record.version:
            return False
        return has_loop or not is_async(definition.resume)

    def definition_of(self, shared: SharedCall) -> Definition | None:
        """The operation of *shared*, if it is defined."""
        return self._registry.get(shared.name)

    def has_left(self, name: str) -> bool:
        """Whether calls of the operation *name* stay pending, or are ready."""
        return name in self._unsorted

    def _sort(self, name: str) -> None:
        definition, left = self._registry.get(name), defaultdict[str, "list[CallRecord]"](list)
        records, self._unsorted[name] = self._unsorted.get(name, []), []
        for record in records:
            reason = self._place(record, definition) if definition else UNDEFINED.format(place_of(self._journal()))
            if reason is None:
                self.left.pop(record.call, None)
            else:
                self.left[record.call] = record
                self._unsorted[name].append(record)
                left[reason].append(record)
        if not self._unsorted[name]:
            del self._unsorted[name]
        if definition is not None:
            definition.learned = self._run  # at last: a caller that reads it takes no lock
        for reason, those in left.items():
            if reason != UNSTORED:
                self.say_left(name, reason, those)

    def _place(self, record: CallRecord, definition: Definition) -> str | None:
        """Make *record* a shared call that is pending, or quarantined; or why it stays pending."""
        name, version = record.operation, definition.config.version
        if record.version != version and (record.is_resumable or record.idempotency_key):
            return f"journalled under version {record.version!r}, defined as version {version!r}"
        if record.is_resumable and definition.codec is not None:
            try:
                args, kwargs = definition.codec.decoded(record.arguments or b"")
            except ValueError as error:
                return str(error)
            identity = identity_of(definition, definition.codec, record.idempotency_key, args, kwargs)
            shared = SharedCall(identity, name, args, kwargs, record)
            if self._register.give(shared):
                return None
            self.ready.append(shared)
        elif record.idempotency_key and not record.is_resumable:
            shared = SharedCall((name, version, record.idempotency_key), name, None, {}, record)
            self.unasked[record.call] = shared
        else:
            return "the operation is defined without resumable=True" if record.is_resumable else UNSTORED
        if (kept := self._quarantined(record, definition)) is not None:
            shared.record, shared.place = kept, place_of(self._journal())
            self.quarantined[record.call] = shared
            self.ready = [one for one in self.ready if one is not shared]
            self._register.quarantine(shared)
        else:
            self._register.add_pending(shared)
        return None

    def _quarantined(self, record: CallRecord, definition: Definition) -> CallRecord | None:
        """*record* as that of a quarantined call, which is published; ``None`` if the call may go on."""
        if record.state == "quarantined":
            return record
        reason = why_quarantined(record, definition.config)
        if reason is None:
            return None
        if not definition.is_silent:
            text = "call %s of %s is quarantined: %s; `recovery retry %s %s` resumes it with all its retries"
            log.error(text, record.call, record.operation, reason, place_of(self._journal()), record.call)
        Call(definition.keyed(record.key), record.call).publish(OperationQuarantined, record.attempt, reason=reason)
        return msgspec.structs.replace(record, state="quarantined", reason=reason)

    def check_death(self, shared: SharedCall, definition: Definition) -> None:
        """*shared* comes from another process: quarantine it if its last allowed attempt died with that one.

        Raises:
            CallRejectedError: It is quarantined.
        """
        kept = None if shared.record is None else self._quarantined(shared.record, definition)
        if kept is None:
            return
        again = SharedCall(shared.identity, shared.name, shared.args, shared.kwargs, kept, place_of(self._journal()))
        self.quarantined[kept.call], shared.record = again, None
        self._register.quarantine(again)
        raise CallRejectedError(shared.name, why_rejected(again))

    # what stays

    def say_left(self, name: str, reason: str, records: Iterable[CallRecord]) -> None:
        """Warn once that the calls *records* of the operation *name* stay pending, and publish it of each."""
        those = [record for record in records if (record.call, reason) not in self._said]
        self._said.update((record.call, reason) for record in those)
        if not those:
            return
        ids = ", ".join(record.call for record in those[:MAX_NAMED]) + (", ..." if len(those) > MAX_NAMED else "")
        calls = "1 call stays" if len(those) == 1 else f"{len(those)} calls stay"
        if not self._registry.is_silent(name):
            log.warning("%s: %s pending (%s): %s", name, calls, ids, brief(reason))
        for one in those:
            left = CallLeftPending(
                at=self._bus.clock(), operation=name, key=one.key, call=one.call, attempt=one.attempt, reason=reason
            )
            self._bus.publish(left)


def is_of(shared: SharedCall, call: str) -> bool:
    """Whether *shared* is the call of that id, which a dead process left."""
    return shared.record is not None and shared.record.call == call


def records_of(calls: Iterable[SharedCall]) -> list[CallRecord]:
    """What the journal knows about *calls* that dead processes left."""
    return [shared.record for shared in calls if shared.record is not None]
