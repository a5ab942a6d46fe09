"""Steer calls of a journal: through the process that has them, in the journal, or by an order to the next process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import anyio
import msgspec

from adapters.journals.find import find_call
from adapters.journals.next_step import KEPT, OF_A_CLUSTER
from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.journals.turns import turn
from adapters.sqlite.command_inbox import send_command, send_commands
from adapters.sqlite.orders import drop_orders, keep_order, read_orders
from adapters.sqlite.store import SQLiteStore
from events.bus import Bus
from recovery.journal.errors import NotDurable
from recovery.journal.history import DELIVERY, CallRecord
from recovery.journal.orders import Order
from recovery.journal.store import Answer, Command, CommandName
from recovery.redact import redact
from recovery.resume.again import UNKNOWN, UNSTORED
from recovery.resume.commands import NEXT_PROCESS, cancel_left, give_up_left, order_left, to_process
from recovery.service import Recovery

ALSO_RUNNING = ("cancel", "reset", "edit")
"""The commands that act on calls that run, too."""

AT_ONCE = {
    "give up": "given up: no process resumes it any more",
    "cancel": "cancelled: no process resumes it any more",
    "quarantined": "it leaves the quarantine: run the program again, which resumes it",
}
"""What is done in the journal where no process runs, and what becomes of the call."""

ORDERS = {
    "retry": ("retry now", "starts its next attempt at once"),
    "pause": ("pause", "keeps it paused"),
    "unpause": ("unpause", "lets it wait for the rest of its delay"),
    "reset": ("reset", "gives it its retries and its time back"),
}
"""What waits for the next process: what ``CallSteered`` calls it, and what that process does."""


LEFT = ("left", "unreadable", "quarantined")
"""The states of calls that no process runs."""

A_CALL_TAKES = 0.02
"""Seconds in which a busy process carries out one of many commands."""

ADOPTED_WITHIN = 60.0
"""Seconds in which the files of dead processes are adopted, before an order is written."""


SteeredBy: TypeAlias = CommandName | Literal["move"]
"""The name of a command to a call of a journal or of a cluster."""


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command.

    Args:
        command: The command.
        call: The id of the call; "" if it is unknown.
        name: What a reader knows the call by; None for its id.
        is_done: Whether it is carried out.
        taken: Whether a process, or a cluster, took it, or it is written to the journal for good. False for an order
            that waits.
        waits: Whether it is an order, which the next process carries out.
        said: What happens now, or why it is not done.
    """

    command: SteeredBy
    call: str
    name: str | None = None
    is_done: bool = False
    taken: bool = False
    waits: bool = False
    said: str

    @property
    def subject(self) -> str:
        """The call, as a reader knows it."""
        return self.name or f"call {self.call}"


def steer(journal: Path, command: Command, *, timeout: float, by_id: bool = False) -> Steered:
    """Carry out *command*, whose call may be what ``find_calls`` takes, and return what came of it.

    Where no process runs, a call can be given up or cancelled, or freed from its quarantine, at once. Other commands
    wait for the next process.

    Args:
        journal: The journal's file.
        command: What to do, and with which call.
        timeout: Seconds to wait for the answer of the process.
        by_id: Whether the call of *command* is an id alone, and no name or beginning of one.

    Raises:
        FileNotFoundError, JournalError: There is no journal, or it cannot be read or written; the message names it.
        OSError: The command cannot be handed to the process.
    """
    status = anyio.run(partial(read_status, journal, also=[command.call]))
    try:
        call = _with_id(status, command.call) if by_id else find_call(status, command.call)
    except LookupError as error:
        unknown = Steered(command=command.name, call="", name=redact(command.call), said=str(error.args[0]))
        if command.call.rpartition("-")[0] not in status.living:
            return unknown
        answer = send_command(journal, command, timeout=timeout)  # calls of some operations are not journalled
        return msgspec.structs.replace(unknown, **_answered(answer, journal, timeout)._asdict())
    [steered] = steer_all(journal, status, [call], command, timeout=timeout)
    return steered


def _with_id(status: JournalStatus, call: str) -> CallStatus:
    found = next((one for one in status.calls if one.call == call), None)
    if found is None:
        raise LookupError("no call has this id")
    return found


def steer_all(
    journal: Path, status: JournalStatus, calls: Sequence[CallStatus], command: Command, *, timeout: float
) -> list[Steered]:
    """Carry out *command* with each of *calls*, which are in *status*, as ``steer`` does; in their order.

    Args:
        journal: The journal's file.
        status: How it stands.
        calls: Calls of *status*.
        command: What to do; its call does not count.
        timeout: Seconds to wait for the answers; many calls get ``A_CALL_TAKES`` each besides.
    """
    came: dict[str, Steered] = {}
    timeout += A_CALL_TAKES * max(len(calls) - 1, 0)
    rest: list[CallStatus] = []
    with turn(journal, timeout) as is_written:
        status = msgspec.structs.replace(
            status, is_being_written=is_written, living=status.living if is_written else ()
        )
        for call in calls:
            why = _refusal(status, call, command.name)
            came[call.call] = Steered(command=command.name, call=call.call, name=call.name, said=why or "")
            if not is_written and command.name == "cancel" and call.is_over and call.ordered:
                drop_orders(journal, call.call)
                withdrawn = "the order to run it again is withdrawn"
                came[call.call] = msgspec.structs.replace(came[call.call], is_done=True, taken=True, said=withdrawn)
            elif why is None:
                rest.append(call)
        done = None if is_written or command.name == "again" else _written(journal, rest, command)
    if command.name == "again":
        done = _again(journal, status, rest, command, timeout)
    elif done is None:
        done = _sent(journal, rest, command, timeout)
    return [
        msgspec.structs.replace(steered, **done[id_]._asdict()) if id_ in done else steered
        for id_, steered in came.items()
    ]


class _Came(NamedTuple):
    """What came of a command, as ``Steered`` has it."""

    is_done: bool
    said: str
    taken: bool = True
    waits: bool = False


def _refusal(status: JournalStatus, call: CallStatus, command: CommandName) -> str | None:
    """Why *command* need not be tried, as the journal shows; None if it may succeed."""
    if command == "again":
        return _why_not_again(call)
    if call.waits_for == DELIVERY:
        return KEPT
    if call.is_over:
        cure = "; `recovery again` runs it again" if call.is_resumable and not call.by else ""
        return f"it is over: {call.state}{cure if call.state != 'succeeded' else ''}"
    if status.is_being_written or command in ("give up", "cancel"):
        return None
    if command == "retry" and call.state == "quarantined":
        return None
    if call.state == "quarantined":
        return "it is quarantined, and can only be retried, given up or cancelled"
    if call.state == "unreadable":
        return "a row of it is damaged, so that no process can resume it; give it up instead"
    if not call.is_resumable:
        return "no process runs it, and none can resume it: its arguments were not stored; give it up instead"
    if command not in ORDERS:
        return f"no process runs it, and {command} needs one: run the program again, which resumes it"
    return None


def _why_not_again(call: CallStatus) -> str | None:
    if repeated := call.by:
        return f"call {repeated} runs it again already"
    if call.state in OF_A_CLUSTER:
        return f"it is a cluster's: with --cluster, commands reach it ({OF_A_CLUSTER[call.state]})"
    if call.state in ("succeeded", "failed"):
        return (
            "it has succeeded" if call.state == "succeeded" else "it is over, and so is its launch: run the plan again"
        )
    if not call.is_over:
        return f"it is {call.state}, and has not ended: `recovery retry` has it tried now"
    return None if call.is_resumable else UNSTORED


def _sent(journal: Path, calls: Sequence[CallStatus], command: Command, timeout: float) -> dict[str, _Came]:
    """Have the processes that have *calls* carry out *command*."""
    sent = [msgspec.structs.replace(command, call=call.call) for call in calls]
    came: dict[str, _Came] = {}
    for call, answer in zip(calls, send_commands(journal, sent, timeout=timeout), strict=True):
        told = _answered(answer, journal, timeout)
        if answer is None and call.state in LEFT:
            told = told._replace(said=f"the running process has not resumed it: {command.name} it once that has ended")
        if not told.is_done and call.state == "running" and command.name not in ALSO_RUNNING:
            cure = "; `recovery cancel` ends it" if command.name == "give up" else ""
            told = told._replace(said=f"{told.said}: attempt {call.attempt} runs{cure}")
        came[call.call] = told
    return came


def _again(
    journal: Path, status: JournalStatus, calls: Sequence[CallStatus], command: Command, timeout: float
) -> dict[str, _Came]:
    """Have a process run *calls* again: the first that can, or the next one."""
    came: dict[str, _Came] = {}
    for run in status.living:
        asked = [call.call for call in calls if call.call not in came or not came[call.call].is_done]
        commands = [_about(command, to_process(run), call) for call in asked]
        for call, answer in zip(asked, send_commands(journal, commands, timeout=timeout), strict=True):
            told = _answered(answer, journal, timeout)
            if call not in came or told.is_done or (told.taken and told.said != UNKNOWN):
                came[call] = told
    if status.living:
        return came
    ordered = {order.about for order in read_orders(journal) if order.name == "again"}
    for one in calls:
        came[one.call] = _order("runs it again")
        if one.call in ordered:
            continue
        try:
            keep_order(journal, Order("again", NEXT_PROCESS, command.reason, {"call": one.call}))
        except OSError as error:
            came[one.call] = _Came(is_done=False, said=f"the order cannot be written: {error}", taken=False)
    return came


def _about(command: Command, process: str, call: str) -> Command:
    return msgspec.structs.replace(command, call=process, changes={"call": call})


def _written(journal: Path, calls: Sequence[CallStatus], command: Command) -> dict[str, _Came] | None:
    """End *calls*, free them from their quarantine, or write what the next process is to do: no process runs.

    None, and nothing is written, if a process has begun to write the journal meanwhile.
    """
    if not calls:
        return {}
    store = SQLiteStore(journal)
    with Recovery(store=store, enable_logging=False) as service:  # the answer says it
        assert service.journal is not None
        service.journal.skip_pending()  # where the journal cannot be read: that is said at once
        service.journal.pending(ADOPTED_WITHIN)  # from files of dead processes: the order comes after what they wrote
        if store.own != store.path:
            return None
        try:
            if service.journal.reason is not None:
                raise NotDurable(service.journal.reason)
            for call in calls:
                _write(call, service.bus, command)
            service.journal.receipt().wait()
        except NotDurable as error:
            failed = _Came(is_done=False, said=f"it cannot be written: {error}", taken=False)
            return {call.call: failed for call in calls}
    came: dict[str, _Came] = {}
    for call in calls:
        is_freed = call.state == "quarantined" and command.name == "retry"
        said = AT_ONCE.get("quarantined" if is_freed else command.name)
        came[call.call] = _order(ORDERS[command.name][1]) if said is None else _Came(is_done=True, said=said)
    return came


def _write(call: CallStatus, bus: Bus, command: Command) -> None:
    record = CallRecord(
        call=call.call, operation=call.operation, key=call.key, attempt=call.attempt, failures=call.failures
    )
    match command.name:
        case "cancel":
            cancel_left(record, bus)
        case "give up":
            give_up_left(record, bus, command.reason)
        case name:
            order_left(record, bus, ORDERS[name][0], command.reason)


def _order(what: str) -> _Came:
    said = f"it waits for the next start, as no process runs: run the program again, which {what}"
    return _Came(is_done=False, said=said, taken=False, waits=True)


def _answered(answer: Answer | OSError | None, journal: Path, timeout: float) -> _Came:
    """What a process answered, or that none did."""
    if isinstance(answer, OSError):
        return _Came(is_done=False, said=f"the command cannot be written: {answer}", taken=False)
    if answer is not None:
        return _Came(answer.is_done, answer.said)
    why = f"the process that writes {journal} has not answered in {timeout:g} s: it does not run the call, or hangs"
    return _Came(is_done=False, said=why, taken=False)
