"""Steer one call of a journal, by its id or by the name of its operation: through its process, or without one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import msgspec

from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.sqlite.command_inbox import send_command
from adapters.sqlite.store import SQLiteStore
from recovery.journal.errors import NotDurable
from recovery.journal.history import CallRecord
from recovery.journal.store import Answer, Command, CommandName
from recovery.redact import redact
from recovery.resume.commands import cancel_left, give_up_left, retry_later
from recovery.service import Recovery

ALSO_RUNNING = ("cancel", "reset", "edit")
"""The commands that act on calls that run, too."""


class Steered(msgspec.Struct, frozen=True):
    """What became of a command: whether it *is_done*, and what happens now, or why it is not done."""

    command: CommandName
    call: str
    name: str | None
    is_done: bool
    said: str

    @property
    def subject(self) -> str:
        """The call, as a reader knows it."""
        return self.name or f"call {self.call}"


def steer(journal: Path, command: Command, *, timeout: float) -> Steered:
    """Carry out *command*, whose call may be a name in the plan or of an operation, and return what came of it.

    A call that no process runs can be given up; any other command needs the process that has the call.

    Args:
        journal: The journal's file.
        command: What to do, and with which call.
        timeout: Seconds to wait for the answer of the process.

    Raises:
        FileNotFoundError, JournalError: There is no journal, or it cannot be read or written; the message names it.
        OSError: The command cannot be handed to the process.
    """
    status = anyio.run(partial(read_status, journal, also=[command.call]))
    found = _named(status, command.call)
    if len(found) > 1:
        ids = ", ".join(call.call for call in found)
        return _steered(command, None, _refused(f"it names {len(found)} calls that are not over: {ids}; give an id"))
    call = found[0] if found else None
    answer = _refusal(status, call, command)
    if answer is None and call is not None and not status.is_being_written:
        answer = _write(journal, call, command)
    if answer is None:
        sent = command if call is None else msgspec.structs.replace(command, call=call.call)
        answer = send_command(journal, sent, timeout=timeout) or _refused(
            f"the process that writes {journal} has not answered in {timeout:g} s: it does not run the call, or hangs"
        )
    if not answer.is_done and call is not None and call.state == "running" and command.name not in ALSO_RUNNING:
        answer = _refused(f"{answer.said}: attempt {call.attempt} runs")
    return _steered(command, call, answer)


def _named(status: JournalStatus, name: str) -> list[CallStatus]:
    """The call with the id *name*; else those of that name in the plan, or of that operation: pending ones, or one."""
    for field in ("call", "name", "operation"):
        if named := [call for call in status.calls if getattr(call, field) == name]:
            return [call for call in named if not call.is_over] or named[-1:]
    return []


def _refusal(status: JournalStatus, call: CallStatus | None, command: Command) -> Answer | None:
    """Why *command* need not be tried, as the journal shows; None if it may succeed."""
    if call is None:
        if command.call.rpartition("-")[0] in status.living:
            return None  # its process knows: calls of some operations are not journalled
        return _refused(f"no call has this id or name in {status.path}; `recovery status` lists them")
    if call.is_over:
        return _refused(f"it is over: {call.state}")
    if status.is_being_written or command.name in ("give up", "cancel"):
        return None
    if command.name == "retry" and call.state == "quarantined":
        return None
    if not call.is_resumable:
        return _refused("no process runs it, and none can resume it: its arguments were not stored; give it up instead")
    return _refused("no process runs it; run the program again, which resumes it, or give it up")


def _write(journal: Path, call: CallStatus, command: Command) -> Answer:
    """End *call*, or free it from its quarantine, as its process would have: no process writes the journal."""
    record = CallRecord(
        call=call.call, operation=call.operation, key=call.key, attempt=call.attempt, failures=call.failures
    )
    with Recovery(store=SQLiteStore(journal), enable_logging=False) as service:  # the answer says it
        assert service.journal is not None
        if command.name == "retry":
            retry_later(record, service.bus, command.reason)
        elif command.name == "cancel":
            cancel_left(record, service.bus)
        else:
            give_up_left(record, service.bus, command.reason)
        try:
            service.journal.receipt().wait()
        except NotDurable as error:
            return _refused(str(error))
    if command.name == "retry":
        return Answer(is_done=True, said="it leaves the quarantine: run the program again, which resumes it")
    done = "cancelled" if command.name == "cancel" else "given up"
    return Answer(is_done=True, said=f"{done}: no process resumes it any more")


def _refused(why: str) -> Answer:
    return Answer(is_done=False, said=why)


def _steered(command: Command, call: CallStatus | None, answer: Answer) -> Steered:
    name, id_ = (redact(command.call), "") if call is None else (call.name, call.call)
    return Steered(command.name, id_, name, answer.is_done, answer.said)
