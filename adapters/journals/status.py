"""The state of a journal, read without changing it: its calls, circuits and incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.journals.incidents import IncidentLine, JournalIncidents
from adapters.journals.pauses import Pause, no_pause
from adapters.journals.status_rows import event_of, overviews_of_all, rows_of_calls, writer_of
from adapters.launcher.checkpoint_words import saved_words
from adapters.launcher.launch import Outcome, Progress, name_in_arguments
from adapters.launcher.progress import Transfer, saved_transfer
from adapters.sqlite.lock import written_files
from adapters.sqlite.orders import read_orders
from adapters.sqlite.other_files import once
from adapters.sqlite.overview import ALL, Overview
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.errors import CodecError
from events.evidence import Category
from events.names import display_name
from recovery.explain import Explanation, shown
from recovery.journal.errors import JournalError
from recovery.journal.history import DELIVERY, CallRecord, Run, replay
from recovery.journal.store import Row
from recovery.policies.retry import PERSON

MOST_LEFT = 10_000
MOST_OVER = 1_000
STATES = {
    "OperationSucceeded": "succeeded",
    "OperationRecovered": "succeeded",
    "GaveUp": "gave up",
    "CallRejected": "rejected",
    "OperationCancelled": "cancelled",
    "CallHandedBack": "handed back",
    "OutcomeDelivered": "delivered",
    "OutcomeSuperseded": "superseded",
}
"""The state of a call, by the name of the event that ends it."""
CIRCUIT_STATES = {CircuitOpened: "open", CircuitHalfOpened: "half-open", CircuitClosed: "closed"}


class CallStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call.

    Args:
        call: Its id.
        operation: Its operation.
        key: The part of its operation that has a circuit of its own, such as a host; "" for none.
        name: Its name in the plan; null for a call of another program.
        state: "running", "waiting", "paused", "quarantined", or how it ended: "succeeded", "gave up", "rejected",
            "cancelled". "left": no living process has begun or resumed it. "unreadable": it is not over, and a row of
            it is damaged. "handed back": a cluster goes on with it. An outcome that was kept for a cluster is
            "delivered", or "superseded". "failed": a launch that is over, and an operation of it is not done. "queued":
            it waits for a worker of a cluster.
        attempt: The attempt that runs, ran last, or comes next, from 1.
        retries: The retries that are used.
        restarts: How often a process resumed it.
        failures: Its failures in short, the latest last.
        which: What tells it from others: its idempotency key, or else an argument.
        cause: Its latest failure in one line: what it means, its category, then the tool's own line or the exception.
        reason: Why it ended, or is quarantined.
        seen: When its latest event happened.
        sentence: What its latest failure means, for people who are no programmers.
        said: The tool's own line about it, and the exception.
        remedy: What a person can do, and what happens by itself.
        due: When its next attempt may begin.
        waits_for: The causes for which it waits.
        deadline: When it gives up if that wait has not ended.
        pid: The process that wrote its latest event.
        is_resumable: Whether a process can resume it, or run it again once it has ended.
        by: The call that runs it again; "" for none.
        ordered: The commands that the next process is to carry out.
        refused: Why the latest process has not run it again as ordered; "" if it has not refused.
        category: The category of its latest failure.
        outcomes: How the operations of a launch ended, by their names.
        transfer: How far a download is.
        note: How a server, a run of steps, or a prompt was, in words.
        node: The node of a cluster that runs it, or ran it last; "" in a journal.
    """

    call: str
    operation: str
    key: str
    name: str | None
    state: str
    attempt: int
    retries: int
    restarts: int
    failures: tuple[str, ...]
    which: str
    cause: str
    reason: str
    seen: float
    sentence: str = ""
    said: str = ""
    remedy: str = ""
    due: float | None = None
    waits_for: str = ""
    deadline: float | None = None
    pid: int = 0
    is_resumable: bool = True
    by: str = ""
    ordered: tuple[str, ...] = ()
    refused: str = ""
    category: Category | None = None
    outcomes: dict[str, Outcome] = {}
    transfer: Transfer | None = None
    note: str = ""
    node: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state == "failed" or self.state in STATES.values()


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A journal.

    Args:
        path: Its file.
        is_being_written: Whether a living process writes it.
        calls: The calls that are not over, and the latest of those that are.
        circuits: The latest state of each circuit, by operation and key.
        unreadable: The rows that hold no event, and the processes of which nothing is known, counted.
        more: Further calls, counted by state.
        damaged: The files of dead processes that cannot be read. A process that resumes quarantines them.
        living: The runs of the processes that write it.
        incidents: The latest incident of each operation and key. Its times are Unix times.
    """

    path: str
    is_being_written: bool
    calls: tuple[CallStatus, ...]
    circuits: dict[str, str]
    unreadable: int
    more: dict[str, int] = {}
    damaged: tuple[str, ...] = ()
    living: tuple[str, ...] = ()
    incidents: tuple[IncidentLine, ...] = ()


async def read_status(
    path: Path,
    *,
    show_all: bool = False,
    also: Collection[str] = (),
    not_left: tuple[str, ...] = (),
    pause: Pause = no_pause,
) -> JournalStatus:
    """Read the journal at *path*: of calls that are not over the latest 10 000, of others the latest 1 000.

    Args:
        path: The journal's file.
        show_all: Read every call. Takes four kilobytes of memory for each.
        also: The ids of further calls to read.
        not_left: Beginnings of ids: such a call is read only if it is over.
        pause: Called after each row.

    Raises:
        FileNotFoundError, JournalError: The message names the path.
    """
    limits = (ALL, ALL) if show_all else (MOST_LEFT, MOST_OVER)
    while True:
        found, damaged = await overviews_of_all(path, *limits)
        left = (call for one in found for call in one.left if not call.startswith(not_left))
        wanted = dict.fromkeys((*(call for one in found for call in one.over), *left, *also))
        try:
            rows = await rows_of_calls(found, wanted, pause)
        except (FileNotFoundError, JournalError):
            if all(one.path.exists() for one in found):
                raise
        else:  # no file was adopted meanwhile
            return _status_of(path, found, rows, damaged, pause)


def _status_of(
    path: Path, found: Sequence[Overview], rows: Iterable[Row], damaged: Sequence[str], pause: Pause
) -> JournalStatus:
    records: dict[str, CallRecord] = {}
    unreadable = sum((Counter(one.unreadable) for one in found), Counter[str]())
    runs = {run.id: run for one in found for run in one.runs}
    circuits: dict[str, str] = {}
    incidents = JournalIncidents(runs)
    for row in once(row for one in found for row in one.circuits):
        with suppress(CodecError):
            event = event_of(row)
            incidents.take(row.run, event)
            if type(event) in CIRCUIT_STATES:
                circuits[display_name(event.operation, event.key)] = CIRCUIT_STATES[type(event)]
    for row in rows:
        pause()
        with suppress(CodecError):  # it is counted already
            event = event_of(row)
            replay(records, row.run, (event,))
            incidents.take(row.run, event)
    for call in filter(None, unreadable):
        records.setdefault(call, CallRecord(call=call, operation="?"))
    refused: dict[str, str] = {}
    for order in read_orders(path):  # the others are events
        ended = records.get(order.about)
        if ended is not None and ended.is_over and not ended.by:
            records[ended.call] = msgspec.structs.replace(ended, ordered=(order.name,))
            refused[ended.call] = order.refused
    unknown = {record.run for record in records.values()} - runs.keys() - {""}
    written = written_files(path)
    living = {writer_of(one.runs) for one in found if one.path in written and one.runs}
    return JournalStatus(
        path=str(path),
        is_being_written=bool(written),
        calls=tuple(
            msgspec.structs.replace(
                _status(record, runs.get(record.run), living, is_readable=record.call not in unreadable),
                refused=refused.get(record.call, ""),
            )
            for record in records.values()
        ),
        circuits=circuits,
        unreadable=unreadable.total() + len(unknown),
        more=_more(found, records.values()),
        damaged=tuple(damaged),
        living=tuple(sorted(living)),
        incidents=incidents.latest(living),
    )


def _more(found: Sequence[Overview], records: Collection[CallRecord]) -> dict[str, int]:
    """How many calls there are besides *records*, by state."""
    count: Counter[str] = Counter()
    for one in found:  # a call that was taken over may be left in one file, and go on or have ended in another
        count["left"] += one.pending - len(one.left)
        for kind, number in one.ended.items():
            count[STATES[kind]] += number
    listed = {call for one in found for call in one.left}
    for record in records:
        if record.is_over or record.call not in listed:
            count[record.state if record.is_over else "left"] -= 1
    return {state: number for state, number in count.items() if number > 0}


def _status(record: CallRecord, run: Run | None, living: set[str], *, is_readable: bool) -> CallStatus:
    def wall(at: float | None) -> float | None:
        return None if run is None or at is None else run.wall + at - run.monotonic

    outcomes, explained, kind = (
        _outcomes(record),
        record.explain(is_alive=record.is_leased or record.run in living),
        record.operation.partition(" ")[0],
    )
    return CallStatus(
        call=record.call,
        operation=record.operation,
        key=record.key,
        name=name_in_arguments(record.operation, record.arguments),
        state=_state(record, outcomes, is_alive=record.run in living, is_readable=is_readable),
        attempt=record.attempt,
        retries=record.retries,
        restarts=record.resumes,
        failures=record.failures,
        which=explained.which,
        cause=explained.cause,
        sentence=explained.sentence,
        said=said_by(explained),
        remedy=explained.remedy,
        reason=record.reason,
        seen=wall(record.at) or 0.0,
        due=wall(record.due),
        waits_for=record.waits_for or (PERSON if record.asks_person else ""),
        deadline=wall(record.deadline),
        pid=0 if run is None else run.pid,
        is_resumable=not record.is_leased
        and (record.arguments is not None or (bool(record.idempotency_key) and not record.is_over)),
        by=record.by,
        ordered=record.ordered,
        category=None if record.failure is None else record.failure.category,
        outcomes=outcomes,
        transfer=saved_transfer(record.saved) if kind == "download" else None,
        note=saved_words(record.operation, record.saved),
    )


def said_by(explained: Explanation) -> str:
    """What the tool and the exception said of a failure: both, unless the exception only says which command failed."""
    said, error = explained.said, explained.error
    return error if not said else said if error.startswith("CalledProcessError") else shown(f"{said}; {error}")


def _state(record: CallRecord, outcomes: dict[str, Outcome], *, is_alive: bool, is_readable: bool) -> str:
    if record.is_over:
        is_done = record.state != "succeeded" or all(outcome.is_fine for outcome in outcomes.values())
        return record.state if is_done else "failed"
    if not is_readable:
        return "unreadable"
    if record.state == "quarantined":
        return record.state
    if not is_alive and record.is_leased:  # an outcome is kept for the cluster, which goes on with all others
        return "waiting" if record.waits_for == DELIVERY else "handed back"
    if not is_alive:
        return "left"
    return "paused" if record.paused_at is not None else record.state


def _outcomes(record: CallRecord) -> dict[str, Outcome]:
    """How the operations of a launch ended, from its latest checkpoint."""
    if record.operation != "launch" or record.saved is None:
        return {}
    try:
        return msgspec.json.decode(record.saved, type=Progress).outcomes
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # an operation of another program
        return {}
