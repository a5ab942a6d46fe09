"""A cluster as people see it: its nodes, its calls, and what happens next with each. Pure: times are arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from adapters.journals.next_step import ENDS_IT, HOPELESS, NextStep, Offer, when
from adapters.journals.status import CallStatus, JournalStatus, said_by
from adapters.nats.board import Node
from adapters.nats.names import parse
from adapters.nats.record import CallRecord
from events.operation_events import FailureClassified
from recovery.explain import Explanation
from recovery.journal import history
from recovery.policies.retry import PERSON
from recovery.redact import brief, redact

ALIVE = 16.0
"""Seconds after its latest sign of life for which a node counts as living: three signs may be missed."""

MOST_CALLS = 1_000
"""Calls of which a status tells each; more are counted."""

FAILED = ("quarantined", "gave up")

ORDER = ("quarantined", "paused", "waiting", "queued", "running", "gave up", "cancelled", "succeeded")
"""The states in the order in which they are counted."""

MOVE = Offer("move", "lets any node run it")

Nodes = Mapping[str, Node]


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster.

    Args:
        cluster: Its address, without a password.
        at: When it was read, by the servers' clock.
        nodes: Its nodes, by name.
        counts: All calls that the servers keep, counted by state.
        calls: The calls that are not over, and those that ended last.
        more: Further calls, counted by state.
    """

    cluster: str
    at: float
    nodes: tuple[Node, ...]
    counts: dict[str, int]
    calls: tuple[CallStatus, ...]
    more: dict[str, int] = {}

    @property
    def known(self) -> Nodes:
        """The nodes by their names."""
        return {one.node: one for one in self.nodes}


def is_alive(node: Node | None, now: float) -> bool:
    """Whether *node* works, as far as the servers know at the time *now*."""
    return node is not None and not node.is_stopped and now - node.seen <= ALIVE


def last_seen(name: str, nodes: Nodes, now: float) -> str:
    """The node *name* and when it told of itself last: ``gpu-a, last seen 14:02:11``."""
    node = nodes.get(name)
    if node is None:
        return brief(f"{name}, which has never been seen")
    return brief(f"{name}, {'stopped' if node.is_stopped else 'last seen'} {when(node.seen, now)}")


def state_of(record: CallRecord) -> str:
    """Where the call of *record* stands, as ``CallStatus.state``."""
    return "paused" if record.is_paused and record.state in ("queued", "waiting") else record.state


def failure_of(record: CallRecord) -> FailureClassified | None:
    """The latest failure of the call of *record*; None if there is none, or another release wrote it."""
    if not bytes(record.standing.failure):
        return None
    try:
        return msgspec.json.decode(record.standing.failure, type=FailureClassified)
    except msgspec.DecodeError:
        return None


def explained(record: CallRecord) -> Explanation:
    """What people read about the call of *record*, by its latest failure."""
    standing, state = record.standing, record.state
    about = history.CallRecord(
        call=record.call,
        operation=record.operation,
        state="waiting" if state == "queued" else state,
        attempt=standing.attempt,
        waits_for=record.why,
        asks_person=record.asks_person,
        paused_at=0.0 if record.is_paused else None,
        idempotency_key=_key_of(record.call),
        failure=failure_of(record),
        reason=record.reason,
    )
    return about.explain()


def call_status(record: CallRecord) -> CallStatus:
    """The call of *record*."""
    failure, about, standing = failure_of(record), explained(record), record.standing
    return CallStatus(
        call=record.call,
        operation=record.operation,
        key="" if failure is None else failure.key,
        name=None,
        state=state_of(record),
        attempt=standing.attempt,
        retries=standing.retries,
        restarts=0,
        failures=() if failure is None else (failure.brief,),
        which=about.which,
        cause=about.cause,
        reason=redact(record.reason),
        seen=record.updated,
        sentence=about.sentence,
        said=said_by(about),
        remedy=about.remedy,
        due=record.due,
        waits_for=PERSON if record.asks_person else redact(record.why),
        category=None if failure is None else failure.category,
        node=record.node,
    )


def next_in_cluster(record: CallRecord, nodes: Nodes, now: float) -> NextStep:
    """What happens next with the call of *record* at the time *now*."""
    attempt = record.standing.attempt
    ends = Offer("give up", ENDS_IT), Offer("cancel", "cancels it")
    offers: tuple[Offer, ...]
    if record.is_over:
        return NextStep(text=_end(record))
    if record.state == "running":
        offers = (Offer("cancel", "cancels it"),)
        if is_alive(nodes.get(record.node), now):
            ending = "" if record.cancel is None else ", and is asked to end"
            return NextStep(text=f"attempt {attempt} runs on {record.node}{ending}", offers=offers)
        text = f"attempt {attempt} ran on {last_seen(record.node, nodes, now)}"
        if record.affinity == record.node and record.cancel is not None:
            offers = Offer("cancel", "ends it without that node"), MOVE
            return NextStep(text=f"{text}, and is asked to end there", offers=offers, foremost=1)
        if record.affinity == record.node:
            return NextStep(text=f"{text}, which alone may run it", offers=(MOVE, *offers), foremost=1)
        return NextStep(text=f"{text}; another worker goes on with it once its lease has ended", offers=offers)
    if record.state == "quarantined":
        return NextStep(
            text=f"no node runs it until it is freed: {record.reason}",
            offers=(Offer("retry", "frees it"), *ends),
            foremost=2,
        )
    if record.is_paused:
        offers = Offer("unpause", "continues it"), Offer("retry", "retries it now"), *ends
        return NextStep(text=f"attempt {attempt} does not begin while it is paused", offers=offers, foremost=1)
    if record.asks_person:
        return NextStep(
            text=f"waits for {PERSON}", offers=(Offer("retry", "retries it"), *ends), foremost=2, since=record.updated
        )
    return _to_come(record, nodes, now, (Offer("pause", "keeps it from its next attempt"), *ends))


def _to_come(record: CallRecord, nodes: Nodes, now: float, offers: tuple[Offer, ...]) -> NextStep:
    """What happens with a call that waits for its time, or for a worker."""
    attempt = f"attempt {record.standing.attempt}"
    where, is_stuck = _worker(record, nodes, now)
    if is_stuck and record.affinity:
        offers = MOVE, *offers
    if record.state == "waiting":
        offers = Offer("retry", "retries it now"), *offers
        why = f" (waits for: {record.why})" if record.why else ""
        text = f"{f'{where}; ' if is_stuck else ''}{attempt}{why}"
        if record.due is not None and record.due > now:
            return NextStep(text=text, offers=_first_move(offers), foremost=int(is_stuck), due=record.due)
    since = None if is_stuck else record.updated
    return NextStep(text=where, offers=_first_move(offers), foremost=_foremost(offers, is_stuck), since=since)


def _first_move(offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    return tuple(sorted(offers, key=lambda one: one.verb != "move"))


def _foremost(offers: tuple[Offer, ...], is_stuck: bool) -> int:
    return int(is_stuck and any(one.verb == "move" for one in offers))


def _worker(record: CallRecord, nodes: Nodes, now: float) -> tuple[str, bool]:
    """For which worker a call waits, in words, and whether there is none."""
    if record.affinity:
        node = nodes.get(record.affinity)
        if node is None or not is_alive(node, now):
            return f"waits for {last_seen(record.affinity, nodes, now)}", True
        if not node.runs(record.operation, record.version):
            return brief(f"waits for {record.affinity}, which does not run {_what(record, [node])}"), True
        return brief(f"waits for a free worker on {record.affinity}"), False
    living = [one for one in nodes.values() if is_alive(one, now)]
    if any(one.runs(record.operation, record.version) for one in living):
        return "waits for a free worker", False
    return brief(f"waits for a node that runs {_what(record, living)}: none is there"), True


def _what(record: CallRecord, living: Iterable[Node]) -> str:
    """What a worker must run to take the call of *record*, which none of the *living* does, in words."""
    if record.version:
        return f"version {record.version} of {record.operation}"
    has_others = any(record.operation in one.operations for one in living)
    return f"{record.operation} without a version" if has_others else record.operation


def _end(record: CallRecord) -> str:
    on = f" on {record.node}" if record.node else ""
    match record.state:
        case "succeeded":
            return f"nothing: it is done{on}"
        case "gave up" if record.reason.startswith("permanent"):
            return HOPELESS
        case "gave up":
            return f"it gave up{on}: {record.reason}"
    said = record.reason.startswith(record.state)  # "cancelled by hand: ..."
    return f"nothing: it was {record.reason if said else ': '.join(filter(None, (record.state, record.reason)))}"


class Listing:
    """The calls that a status lists, taken from all records, of which few are kept at a time.

    Args:
        show_all: Keep every call.
    """

    def __init__(self, *, show_all: bool = False) -> None:
        self._show_all = show_all
        self._counts, self._more = Counter[str](), Counter[str]()
        self._kept: dict[str, list[CallRecord]] = {}

    def take(self, record: CallRecord) -> None:
        """Take the record of a call; they come the longest unchanged first."""
        state = state_of(record)
        self._counts[state] += 1
        kept = self._kept.setdefault(state, [])
        kept.append(record)
        if not self._show_all and len(kept) > 2 * MOST_CALLS:
            self._more[state] += _cut(kept)

    def status(self, cluster: str, nodes: Iterable[Node], now: float) -> tuple[ClusterStatus, dict[str, CallRecord]]:
        """The state of the cluster *cluster* with these *nodes*, and the records of the calls that it lists."""
        if not self._show_all:
            for state, kept in self._kept.items():
                self._more[state] += _cut(kept)
        listed = [record for kept in self._kept.values() for record in kept]
        status = ClusterStatus(
            cluster=cluster,
            at=now,
            nodes=tuple(sorted(nodes, key=lambda one: one.node)),
            counts={state: self._counts[state] for state in sorted(self._counts, key=ORDER.index)},
            calls=tuple(call_status(record) for record in listed),
            more={state: number for state, number in self._more.items() if number},
        )
        return status, {record.call: record for record in listed}


def _cut(records: list[CallRecord]) -> int:
    """Keep ``MOST_CALLS`` of *records*: the oldest of those that are not over, the latest of others. Returns how many
    went.
    """  # fmt: skip
    extra = max(len(records) - MOST_CALLS, 0)
    if extra and records[0].is_over:
        del records[:extra]
    elif extra:
        del records[MOST_CALLS:]
    return extra


def only_failed(status: ClusterStatus) -> ClusterStatus:
    """*status* with the calls that went wrong for good, and no others."""
    calls = tuple(one for one in status.calls if one.state in FAILED)
    more = {state: number for state, number in status.more.items() if state in FAILED}
    return msgspec.structs.replace(status, calls=calls, more=more)


def as_journal(status: ClusterStatus) -> JournalStatus:
    """*status* as what tells of a journal takes it."""
    return JournalStatus(
        path=status.cluster, is_being_written=True, calls=status.calls, circuits={}, unreadable=0, more=status.more
    )


def _key_of(call: str) -> str:
    try:
        return parse(call).key
    except ValueError:
        return ""
