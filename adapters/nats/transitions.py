"""How the record of a call changes. Pure: each function says what is written, and nothing is read or waited for.

A worker applies its function to the latest record while that has the worker's fence; a person's commands are applied to
whatever the record says. So both may change a record at the same time, and none is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from adapters.nats.names import Lane, Name, Priority
from adapters.nats.record import ENDS, MAX_TEXT, CallRecord, Change, Standing, Stored
from events.operation_events import FailureClassified

EARLY = 0.3
"""Seconds before its time at which a call is put into its queue again: the servers look four times a second."""

SOON = 2.0
"""Seconds that a worker waits under its lease; what takes longer is left to the servers."""

LONGEST = 10 * 365 * 24 * 3600.0
"""Seconds of the longest wait: what is longer, or endless, ends then."""

Transition: TypeAlias = Callable[[CallRecord], Change | str]
"""What is written for a record, or why nothing is."""

_replace = msgspec.structs.replace


def submitted(
    name: Name,
    args: bytes,
    now: float,
    *,
    digest: str = "",
    version: str = "",
    priority: Priority = "normal",
    affinity: str = "",
    by: str = "",
) -> Change:
    """A new call."""
    record = CallRecord(
        call=name.call,
        operation=name.operation,
        version=version,
        digest=digest,
        priority=priority,
        affinity=affinity,
        submitted=now,
        by=by,
        updated=now,
    )
    return Change(record=record, args=args, is_queued=True)


# by the worker that holds the call


def claimed(stored: Stored, node: str, leg: int, now: float, standing: Standing | None = None) -> Change | str:
    """*node* takes the call whose queue message has the number *leg*; or why it must not.

    *standing* is where it goes on, if that differs from the record: where its last worker has died.
    """
    record = stored.record
    if record.is_over:
        return f"it is over: {record.state}"
    if record.leg > leg and record.waits_in_queue:  # a schedule that came at the same moment has displaced its message
        return Change(record=_replace(record, leg=record.leg + 1, updated=now), is_queued=True)
    if record.leg != leg:
        return "a newer message of it is, or will be, in a queue"
    if record.state == "quarantined" or record.asks_person:
        return "it waits for a person"
    standing = standing or record.standing
    if record.cancel is not None:  # its worker has died before it saw that, or a person has moved it
        return cancelled(record, record.cancel, now)
    if record.is_paused:  # while it ran on a worker that has died: no message of it is left until it is unpaused
        new = _replace(record, state="queued", leg=record.leg + 1, standing=standing, updated=now)
        return Change(record=new)
    if record.due is not None and record.due > now + SOON:  # a clock has jumped, or a schedule came far too early
        return Change(record=_replace(record, leg=record.leg + 1, updated=now), queue_at=record.due - EARLY)
    standing = _replace(standing.at(now), came_further=False)
    new = _replace(record, state="running", fence=stored.seq, node=node, standing=standing, due=None, why="")
    return Change(record=_replace(new, updated=now))


def goes_on(record: CallRecord, standing: Standing, now: float) -> Change:
    """Another attempt begins on the same worker, after a wait under the lease."""
    return Change(record=_replace(record, standing=_replace(standing, came_further=False), updated=now))


def came_further(record: CallRecord, saved: bytes | None, done: float, now: float) -> Change:
    """The attempt that runs has *saved* a checkpoint (None: it has not), or is *done* that far."""
    standing = _replace(record.standing, came_further=True, deaths=0, done=max(done, record.standing.done))
    return Change(record=_replace(record, standing=standing, updated=now), saved=saved)


def postponed(
    record: CallRecord, standing: Standing, after: float, why: str, now: float, *, asks_person: bool = False
) -> Change | str:
    """The next attempt is *after* seconds away, or *asks_person* first: the worker lets the call go."""
    if record.cancel is not None:
        return cancelled(record, record.cancel, now)
    due = None if asks_person else now + min(max(0.0, after), LONGEST)
    new = _replace(
        record,
        state="waiting",
        leg=record.leg + 1,
        standing=standing,
        due=due,
        why=_text(why),
        asks_person=asks_person,
        updated=now,
    )
    if due is None or new.is_paused:
        return Change(record=new)
    return Change(record=new, queue_at=due - EARLY)


def handed_back(record: CallRecord, now: float, standing: Standing | None = None) -> Change | str:
    """The worker stops before the attempt has ended: another one makes it again. It uses no retry.

    *standing* is where it goes on, if that differs from the record.
    """
    if record.cancel is not None:
        return cancelled(record, record.cancel, now)
    new = _replace(record, state="queued", leg=record.leg + 1, standing=standing or record.standing)
    new = _replace(new, due=None, why="", updated=now)
    return Change(record=new, is_queued=not new.is_paused)


def succeeded(record: CallRecord, result: bytes, standing: Standing, now: float) -> Change:
    """The call has returned *result*."""
    return Change(record=_over(_replace(record, state="succeeded", standing=standing), now), result=result)


def gave_up(
    record: CallRecord, standing: Standing, reason: str, category: str, error: tuple[str, str], now: float
) -> Change:
    """The call has ended with *error*, its type and its text."""
    kind, text = error
    new = _replace(record, state="gave up", standing=standing, category=category)
    new = _replace(new, reason=_text(reason), error=(_text(kind), _text(text)))
    return Change(record=_over(new, now))


def quarantined(record: CallRecord, standing: Standing, reason: str, now: float) -> Change:
    """The call has killed too many workers: a person must look at it first."""
    new = _replace(record, state="quarantined", leg=record.leg + 1, standing=standing, due=None, updated=now)
    return Change(record=_replace(new, reason=_text(reason)))


# by a person, or by the program that submitted it


def cancelled(record: CallRecord, reason: str, now: float) -> Change | str:
    """The call ends as cancelled: at once where no worker holds it, otherwise as soon as its worker sees it."""
    if record.is_over:
        return f"it is over: {record.state}"
    return _cancelled(record, reason, now)


def asked_to_cancel(record: CallRecord, reason: str, now: float) -> Change | str:
    """A person wants the call to be cancelled."""
    if record.is_over:
        return f"it is over: {record.state}"
    if record.state == "running":
        return Change(record=_replace(record, cancel=_text(reason), updated=now))
    return _cancelled(record, reason, now)


def cancelled_without_node(stored: Stored, reason: str, now: float) -> Change | str:
    """A person wants the call to be cancelled, and the node that ran it is gone. A worker that holds it has lost it."""
    record = stored.record
    change = asked_to_cancel(record, reason, now)
    if isinstance(change, str) or record.state != "running":
        return change
    return _replace(_cancelled(_replace(record, fence=stored.seq), reason, now), unqueues=record.lane)


def _cancelled(record: CallRecord, reason: str, now: float) -> Change:
    new = _over(_replace(record, state="cancelled", cancel=None, reason=_text(reason)), now)
    return Change(record=new, unschedules=record.due is not None, unqueues=_waits_in(record))


def retried_now(record: CallRecord, now: float) -> Change | str:
    """A person wants the next attempt now: of a call that waits, that asks, that is paused or in quarantine."""
    match record.state:
        case "waiting" | "quarantined":
            pass
        case "queued" if record.is_paused:
            pass
        case "queued":
            return "it waits for a free worker already"
        case "running":
            return f"it runs, on {record.node}"
        case "gave up" | "cancelled":
            return f"it is over: {record.state}; submit it again, under another key if it has one"
        case _:
            return f"it is over: {record.state}"
    standing = _replace(record.standing, looks=0, within=None, is_parked=False)
    if record.asks_person:  # its time begins again
        standing = _replace(standing, elapsed=0.0, as_of=0.0)
    if record.state == "quarantined":  # as in the journal of one process: a quarantine gives all retries back
        standing = _replace(standing, retries=0, deaths=0)
    new = _replace(record, state="queued", leg=record.leg + 1, standing=standing, due=None, why="", reason="")
    new = _replace(new, asks_person=False, is_paused=False, updated=now)
    return Change(record=new, is_queued=True, unschedules=record.due is not None)


def gave_up_by_hand(record: CallRecord, reason: str, now: float) -> Change | str:
    """A person gives the call up: it ends with its latest failure."""
    if record.is_over:
        return f"it is over: {record.state}"
    if record.state == "running":
        return f"it runs, on {record.node}: cancel it instead"
    kind, text = _error_of(record.standing)
    new = _replace(record, state="gave up", reason=_text(reason), error=(_text(kind), _text(text)))
    new = _over(new, now)
    return Change(record=new, unschedules=record.due is not None, unqueues=_waits_in(record))


def _error_of(standing: Standing) -> tuple[str, str]:
    """The type and the text of the latest failure; both "" for none, and for one of another release."""
    try:
        evidence = msgspec.json.decode(standing.failure, type=FailureClassified).evidence
    except msgspec.DecodeError:  # none, too
        return "", ""
    return evidence.type.rpartition(".")[2], evidence.message


def paused(record: CallRecord, now: float) -> Change | str:
    """A person pauses the call: it gets no next attempt until it is unpaused. One that runs goes on to its end."""
    if record.is_over:
        return f"it is over: {record.state}"
    if record.is_paused:
        return "it is paused already"
    leg = record.leg if record.state == "running" else record.leg + 1
    unschedules = record.state != "running" and record.due is not None
    return Change(record=_replace(record, is_paused=True, leg=leg, updated=now), unschedules=unschedules)


def unpaused(record: CallRecord, now: float) -> Change | str:
    """A paused call goes on: now, or when it is due."""
    if record.is_over:
        return f"it is over: {record.state}"
    if not record.is_paused:
        return "it is not paused"
    new = _replace(record, is_paused=False, updated=now)
    if record.state == "running" or record.asks_person or record.state == "quarantined":
        return Change(record=new)
    new = _replace(new, leg=record.leg + 1)
    if record.due is None or record.due <= now:
        return Change(record=new, is_queued=True)
    return Change(record=new, queue_at=record.due - EARLY)


def moved(stored: Stored, to: str, now: float) -> Change | str:
    """The call is bound to the node *to* from now on, or to none (""). Whoever holds it has lost it.

    Its checkpoint is dropped: it may speak of what lies on the disk of one node.
    """
    record = stored.record
    if record.is_over:
        return f"it is over: {record.state}"
    if record.affinity == to:
        return f"it is bound to {to or 'no node'} already"
    new = _replace(record, affinity=to, leg=record.leg + 1, fence=stored.seq, updated=now)
    if record.state == "running":  # its worker is cut off from it: the attempt may have had its effect
        standing = _replace(record.standing, has_failed=True, is_cut_off=True, came_further=False)
        new = _replace(new, state="queued", standing=standing)
    waits_for_person = new.is_paused or new.asks_person or new.state == "quarantined"
    unschedules = record.due is not None
    if waits_for_person:
        return Change(record=new, saved=b"", unschedules=unschedules, unqueues=record.lane)
    if new.due is not None and new.due > now + SOON:
        return Change(record=new, saved=b"", queue_at=new.due - EARLY, unqueues=record.lane)
    return Change(record=new, saved=b"", is_queued=True, unschedules=unschedules, unqueues=record.lane)


def _waits_in(record: CallRecord) -> Lane | None:
    """The lane that may have a message of a call that no worker holds."""
    return None if record.state == "running" else record.lane


def _text(text: str) -> str:
    """*text* as the servers keep it: without lone surrogates, which have no UTF-8."""
    return text[:MAX_TEXT].encode(errors="replace").decode()


def _over(record: CallRecord, now: float) -> CallRecord:
    assert record.state in ENDS
    new = _replace(record, leg=record.leg + 1, due=None, why="", asks_person=False, is_paused=False)
    return _replace(new, cancel=None, ended=now, updated=now)
