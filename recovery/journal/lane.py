"""The journal's lane, which takes an ordinary event with one comparison and one append, without a lock.

``if len(lane.records) < lane.limit: lane.records.append(record)`` is the whole fast way. *limit* is 0 whenever anything
is unusual: the writer is not started, rests or is over, the store fails, the queue is half full or closed, calls wait
for admission. Then ``WriteQueue.put`` accepts the event under its lock, after the records that the lane holds. The
event that wakes a resting writer opens the lane for those that follow.

A thread that is interrupted for a flush interval between the comparison and the append finds a writer that rests: its
record is written with the next event, or when the writer looks at its files (``command_interval``). Where other code
runs in between, ``Lane.append`` wakes the writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat, starmap
from typing import Any, Protocol, TypeAlias

import msgspec

from events.event import Event
from events.kinds import kinds_of
from events.operation_events import (
    CallLeftPending,
    CheckpointSaved,
    FailureClassified,
    OperationCancelled,
    OperationFailed,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
)
from events.own_log import own_log
from recovery.journal.accounting import Room
from recovery.journal.size_estimate import BASE_SIZE

log = own_log("recovery.journal")

LANE_RECORDS = 2048
"""Records that the lane holds at most: the failures and recoveries of a thousand calls at once. The next call moves
them to the queue, which takes 0.7 ms, and hurries the writer before the queue is half full."""
LONGEST_TEXT = 200
"""Characters of a failure's message in the lane; longer ones are measured and bounded one by one."""
MAX_WEIGHT = 2
"""Events that one record stands for at most."""
RECORD_SIZE = 3 * BASE_SIZE
"""Bytes that one record is estimated at, at most: a failure, with its evidence, counts twice."""


class Form(Protocol):
    """Makes the events of a kind of records: the first item of each record, ``(form, ...)``.

    Args:
        weight: How many events each of them stands for, up to ``MAX_WEIGHT``.
    """

    weight: int

    def events(self, record: Any) -> Sequence[Event]:
        """The events of *record*: equal ones each time. It runs on the writer's thread, or where a caller asks."""
        ...


Record: TypeAlias = Event | tuple[Any, ...]
"""An event, or ``(form, ...)``, whose form makes the events later."""


class QueuedEvent(msgspec.Struct, eq=False, gc=False):
    """An event in the queue. *number* counts the events of this run, from 1; *event* is ``None`` once it is removed.

    *since* is the number of the first waiting checkpoint that this one has replaced; 0 for none. With a *record* there
    is no event yet: it stands for *weight* events, and *number* is that of the first.
    """

    number: int
    event: Event | None
    size: int
    since: int = 0
    record: tuple[Any, ...] | None = None
    weight: int = 1

    @property
    def is_removed(self) -> bool:
        """Whether it is not to be written: a newer one has replaced it, or it had to make room."""
        return self.event is None and self.record is None


def expanded(entry: QueuedEvent) -> Sequence[QueuedEvent]:
    """*entry* itself, or one entry for each event of its record; these have no event if it cannot be made."""
    if entry.record is None:
        return (entry,)
    size = entry.size // entry.weight
    try:
        events: Sequence[Event | None] = entry.record[0].events(entry.record)
    except Exception as error:  # its neighbours are written all the same
        log.warning("an event of the journal is dropped, it cannot be made: %s: %s", type(error).__name__, error)
        events = [None] * entry.weight
    return [QueuedEvent(number, event, size) for number, event in enumerate(events, entry.number)]


class Lane:
    """The *records* that wait, and their *limit*. It lives as long as its journal, in forked children too.

    Any thread appends; the other methods are for the holder of the queue's lock.
    """

    __slots__ = ("_is_open", "_is_resting", "_room", "calls_wait", "gathered", "limit", "records", "wake")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.calls_wait: Callable[[], bool] = lambda: False
        """Whether calls wait for admission: then no event takes the lane."""

    def begin(self, room: Room, wake: Callable[[], object]) -> None:
        """Be empty and shut: at first, and again in a forked child, whose parent writes what the lane held.

        *wake* ends the rest of the writer.
        """
        self.shut()
        self._room, self.wake = room, wake
        self.records.clear()
        self.gathered: list[Record] = []
        """The records that are being moved into the queue, which sets an empty list when it has counted them."""

    def append(self, record: Record) -> None:
        """Append *record*, which may come long after the comparison: the lane may be shut by now."""
        self.records.append(record)
        if not self.limit:
            self.wake()

    def open(self) -> None:
        """Let events take the lane: from now on the writer looks at it every flush interval."""
        self._is_open, self._is_resting = True, False
        self.set_limit()

    def shut(self) -> None:
        """Let no event take the lane, until the writer opens it."""
        self._is_open = self._is_resting = False
        self.limit = 0

    def rest(self) -> bool:
        """Let no event take the lane until the next one has woken the writer; whether one could until now."""
        if not self._is_open:
            return False
        self._is_open, self._is_resting = False, True
        self.limit = 0
        return True

    def renew(self) -> None:
        """Set the limit again: an event was put under the lock. One that wakes a resting writer opens the lane."""
        if self._is_resting:
            self.open()
        elif self.limit:
            self.set_limit()

    def set_limit(self) -> None:
        """Set the limit, if the lane is open: with all that the lane can hold, the queue is at most half full."""
        is_open = self._is_open and not self.calls_wait()
        self.limit = min(LANE_RECORDS, self._room.until_half_full(MAX_WEIGHT, RECORD_SIZE)) if is_open else 0

    @property
    def is_empty(self) -> bool:
        """Whether no record waits here."""
        return not (self.records or self.gathered)

    @property
    def weight(self) -> int:
        """How many events wait here."""
        return sum(record[0].weight if type(record) is tuple else 1 for record in [*self.gathered, *self.records])

    @property
    def most_events(self) -> int:
        """As *weight*, at most; told at once, and without the lock."""
        return (len(self.gathered) + len(self.records)) * MAX_WEIGHT

    def gather(self) -> list[Record]:
        """The records that wait, the earliest first; the same again, and later ones, until they are forgotten."""
        records = self.records
        # One step in C: no signal handler can interrupt it between the two containers, and lose a record.
        self.gathered.extend(starmap(records.popleft, repeat((), len(records))))
        return self.gathered


_SIZES: dict[type[Event], int] = {FailureClassified: 2 * BASE_SIZE + LONGEST_TEXT // 2}


def entries_of(records: Sequence[Record], number: int) -> tuple[list[QueuedEvent], int, int]:
    """Queue entries for *records*, numbered from *number* + 1; then the latest number, and their bytes together."""
    entries, size_of_all = [], 0
    for record in records:
        if type(record) is tuple:
            weight = record[0].weight
            size = BASE_SIZE * (2 * weight - 1)  # the first of two is a failure, which has evidence
            entries.append(QueuedEvent(number + 1, None, size, 0, record, weight))
            number += weight
        else:
            number += 1
            size = _SIZES.get(type(record), BASE_SIZE)  # type: ignore[arg-type]  # mypy does not narrow by ``is tuple``
            entries.append(QueuedEvent(number, record, size))  # type: ignore[arg-type]  # likewise
        size_of_all += size
    return entries, number, size_of_all


def _has_short_texts(event: Any) -> bool:
    evidence = event.evidence
    return evidence.cause is None and evidence.stderr is None and len(evidence.message) <= LONGEST_TEXT


_NEVER = (CheckpointSaved, OperationCancelled, CallLeftPending, OperationFailed)
IS_ORDINARY: dict[type[Event], Any] = {
    **{kind: None for kind in kinds_of(Event) if kind not in _NEVER and kind.__module__ != "events.journal_events"},
    FailureClassified: _has_short_texts,
    OperationStarted: lambda event: not memoryview(event.arguments).nbytes,
    OperationSucceeded: lambda event: event.recorded is None,
    OperationRecovered: lambda event: event.recorded is None,
}
"""The kinds that may take the lane, each with a test of the event; ``None``: every event of the kind may."""
