"""Every event of a call that a journal has, in time order, each with its time of day and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.launcher.checkpoint_words import note_words, saved_note
from adapters.launcher.progress import progress_words, saved_transfer
from adapters.sqlite import schema
from adapters.sqlite.files import journal_files
from adapters.sqlite.other_files import once, read_each
from adapters.sqlite.reading import Reader
from events.codec import decode
from events.errors import CodecError
from events.event import CallEvent
from events.operation_events import CheckpointSaved, FailureClassified, ProgressMade
from events.repeat_events import OperationRepeated
from recovery.explain import explain, shown
from recovery.journal.history import Run
from recovery.journal.store import Row


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a call.

    Args:
        at: When it happened, in Unix time; None if the process that wrote it is unknown.
        pid: The process that wrote it; 0 if it is unknown.
        run: The name of that process in the journal.
        kind: The name of the event's class.
        event: The event; None if its row is damaged.
    """

    at: float | None
    pid: int
    run: str
    kind: str
    event: CallEvent | None = None


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """An event for people.

    Args:
        at: When it happened, in Unix time; null if the process that wrote it is unknown.
        pid: The process that wrote it; 0 if it is unknown.
        event: The name of its class.
        attempt: The attempt that it is about; 0 if its row is damaged.
        text: What it says, in one line without secrets.
    """

    at: float | None
    pid: int
    event: str
    attempt: int
    text: str


async def read_events(journal: Path, call: str) -> list[PastEvent]:
    """The events of *call*, in time order, from the journal's file and its side files; those that cannot be read are
    left out.
    """  # fmt: skip

    async def read(reader: Reader) -> tuple[list[Run], list[Row]]:
        return list(await reader.runs()), list(await reader.rows(schema.OF_CALL, call))

    found = await read_each(lambda: journal_files(journal), read)
    runs = {run.id: run for known, _ in found for run in known}
    return _in_order(_past(row, runs.get(row.run)) for row in once(row for _, rows in found for row in rows))


def _past(row: Row, run: Run | None) -> PastEvent:
    event: object = None
    if row.is_readable:
        with suppress(CodecError):
            event = decode(row.body)
    if not isinstance(event, CallEvent):
        return PastEvent(at=None, pid=0 if run is None else run.pid, run=row.run, kind=row.kind)
    at = None if run is None else run.wall + event.at - run.monotonic
    return PastEvent(at=at, pid=0 if run is None else run.pid, run=row.run, kind=row.kind, event=event)


def _in_order(events: Iterable[PastEvent]) -> list[PastEvent]:
    """*events* by time; those without one follow the event before which they were read."""
    latest, keyed = 0.0, list[tuple[float, PastEvent]]()
    for one in events:
        latest = latest if one.at is None else one.at
        keyed.append((latest, one))
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]


def history_line(past: PastEvent) -> HistoryLine:
    """*past* for people."""
    event = past.event
    attempt = 0 if event is None else event.attempt
    return HistoryLine(at=past.at, pid=past.pid, event=shown(past.kind), attempt=attempt, text=_words(event))


def kind_words(kind: str) -> str:
    """The name of an event's class as words: ``retry scheduled``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()


def _words(event: CallEvent | None) -> str:
    match event:
        case None:
            return "its row is damaged"
        case FailureClassified():
            about = explain(event)
            return shown(f"attempt {event.attempt} failed: {about.cause}")
        case CheckpointSaved(data=data):
            there = saved_transfer(data)
            words = note_words(saved_note(data))
            if there is not None:
                words = progress_words(there.offset, there.size, there.start or 0)
            return shown(words or f"{len(bytes(data))} bytes of JSON")
        case ProgressMade(done=done):
            return f"{done:g} done"
        case OperationRepeated(former=former, by=by):
            return shown(f"runs call {former} again" if former else f"call {by} runs it again")
    return explain(event).step
