"""Delete old calls from a journal: through the processes that write it, or in its file when none does."""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial
from pathlib import Path

import anyio
import msgspec

from adapters.journals.status import read_status
from adapters.journals.turns import turn
from adapters.sqlite.command_inbox import send_command
from adapters.sqlite.files import journal_files
from adapters.sqlite.lock import Lock
from adapters.sqlite.opening import check_file
from adapters.sqlite.pruning import compact
from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore
from recovery.explain import counted
from recovery.journal.boot import boot_id
from recovery.journal.history import Run
from recovery.journal.store import Answer, Command
from recovery.resume.commands import to_process


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted from a journal.

    Args:
        path: The journal's file.
        is_done: Whether all was deleted that was to be.
        said: What happened, or why it is not done.
        calls: How many calls that are over were deleted.
        rows: How many rows of the file were deleted, those of the calls included.
        freed: Bytes given back to the disk.
        bytes: What the files of the journal hold now.
    """

    path: str
    is_done: bool
    said: str
    calls: int = 0
    rows: int = 0
    freed: int = 0
    bytes: int = 0


def prune_journal(journal: Path, keep: Retention, *, timeout: float) -> Removed:
    """Delete what *keep* does not allow from *journal*: calls that succeeded, were cancelled or rejected.

    Calls that gave up, calls that are not over, questions and answers stay.

    Args:
        journal: The journal's file.
        keep: What is kept.
        timeout: Seconds to wait for each answer of a process that writes the journal.

    Raises:
        FileNotFoundError, JournalError: There is no journal, or it cannot be read or written; the message names it.
        OSError: The command cannot be handed to the process.
    """
    with turn(journal, timeout):  # or a command that writes would look like a process
        living = anyio.run(read_status, journal).living
        removed = None if living else anyio.run(partial(_without_process, journal, keep))
    if removed is None:
        removed = _by_processes(journal, living, keep, timeout)
    size = sum(os.stat(file).st_size for file in journal_files(journal))
    return msgspec.structs.replace(removed, bytes=size)


def _by_processes(journal: Path, living: tuple[str, ...], keep: Retention, timeout: float) -> Removed:
    counts: Counter[str] = Counter()
    problems = []
    for run in living:
        command = Command("prune", to_process(run), changes=msgspec.to_builtins(keep))
        answer: Answer | None = Answer(is_done=True, said="", counts={"more": 1})
        while answer is not None and answer.is_done and answer.counts.get("more"):
            answer = send_command(journal, command, timeout=timeout)
            counts.update(answer.counts if answer is not None else {})
        if answer is None:
            problems.append(f"process {run} has not answered in {timeout:g} s: it hangs, or has ended")
        elif not answer.is_done:
            problems.append(f"process {run}: {answer.said}")
    how = f"{counted(len(living), 'process')} that run{'s' * (len(living) == 1)} did it; new calls use the room"
    return Removed(
        path=str(journal),
        is_done=not problems,
        said="; ".join(problems) or how,
        calls=counts["calls"],
        rows=counts["rows"],
    )


async def _without_process(journal: Path, keep: Retention) -> Removed:
    lock = Lock(journal)
    if not lock.take():
        said = "another process has opened the journal meanwhile"
        return Removed(path=str(journal), is_done=False, said=said)
    try:
        if journal.exists() and journal.stat().st_size:
            await check_file(journal)  # opening it would put a damaged file aside, and begin an empty one
    finally:
        lock.release()
    store = SQLiteStore(journal)
    run = Run(id=os.urandom(4).hex(), boot=boot_id(), monotonic=time.monotonic(), wall=time.time(), pid=os.getpid())
    await store.open(run)
    try:
        while await store.adopt():  # what dead processes wrote beside the file is pruned, too
            pass
        deleted = await store.pruning.all(keep, run.id)
    finally:
        await store.close()
    freed = await compact(journal) if deleted.rows else 0
    said = "no process writes the journal"
    return Removed(path=str(journal), is_done=True, said=said, calls=deleted.calls, rows=deleted.rows, freed=freed)
