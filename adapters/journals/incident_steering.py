"""Find an incident of a journal by a name, have it probed, or give up the calls that wait for it."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import anyio

from adapters.journals.incidents import IncidentLine
from adapters.journals.status import JournalStatus, read_status
from adapters.journals.steering import Steered, steer_all
from adapters.sqlite.command_inbox import send_commands
from adapters.sqlite.orders import keep_order, read_orders
from events.names import display_name
from recovery.explain import counted
from recovery.journal.orders import Order
from recovery.journal.store import Answer, Command
from recovery.policies.hosts import without_port
from recovery.policies.incidents import is_held, open_circuit
from recovery.resume.commands import NEXT_PROCESS, to_process

IncidentCommand: TypeAlias = Literal["probe", "give up incident"]


def find_incident(status: JournalStatus, name: str) -> IncidentLine:
    """The open incident called *name*: its operation[key], its key (such as a host, with its port or
    without), or its operation.

    Raises LookupError if there is none, or several; the message names them.
    """
    found = [one for one in status.incidents if one.is_open]
    for names_of in (_whole_names, lambda one: (one.key, without_port(one.key)), lambda one: (one.operation,)):
        named = [one for one in found if name and name in names_of(one)]
        if len(named) == 1:
            return named[0]
        if named:
            all_ = ", ".join(display_name(one.operation, one.key) for one in named)
            raise LookupError(f"{name!r} names {len(named)} incidents: {all_}; give one of these names")
    names = [display_name(one.operation, one.key) for one in found]
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"do you mean {close[0]!r}?" if close else "`recovery incidents` lists those that are open"
    raise LookupError(f"no open incident of {status.path} is called {name!r}; {meant}")


def _whole_names(incident: IncidentLine) -> tuple[str, ...]:
    return tuple(display_name(incident.operation, key) for key in (incident.key, without_port(incident.key)))


def steer_incident(journal: Path, name: str, command: IncidentCommand, *, reason: str, timeout: float) -> Steered:
    """Carry out *command* with the open incident called *name*, in every process of the journal.

    "probe" lets the next call that waits for it probe now. "give up incident" ends the calls that wait for it. Where no
    process runs, the next one probes, and the calls that were left are given up at once.

    Args:
        journal: The journal's file.
        name: As for ``find_incident``.
        command: What to do.
        reason: Why, for the journal.
        timeout: Seconds to wait for the processes.

    Raises:
        LookupError: No open incident, or several, have that name.
        FileNotFoundError, JournalError, OSError: As ``steer``.
    """
    status = anyio.run(partial(read_status, journal))
    line = find_incident(status, name)
    about = partial(Steered, command=command, call="", name=display_name(line.operation, line.key))
    changes = {"operation": line.operation, "key": line.key}
    if status.living:
        sent = [Command(command, to_process(run), reason, changes) for run in status.living]
        answers = send_commands(journal, sent, timeout=timeout)
        came = [answer for answer in answers if isinstance(answer, Answer)]
        unsent = [f"the command cannot be written: {one}" for one in answers if isinstance(one, OSError)]
        said = unsent[0] if unsent else f"no process that writes {journal} has answered in {timeout:g} s"
        silent = Answer(is_done=False, said=said)
        best = next((answer for answer in came if answer.is_done), came[0] if came else silent)
        return about(is_done=best.is_done, taken=bool(came), said=best.said)
    if command == "probe":
        order = Order(command, NEXT_PROCESS, reason, changes)
        if order not in read_orders(journal):
            keep_order(journal, order)
        said = "it waits for the next start, as no process runs: run the program again, which lets a call probe"
        return about(waits=True, said=said)
    why = open_circuit(line.operation, line.key)
    held = [call for call in status.calls if call.state == "left" and is_held(call.waits_for) and why in call.waits_for]
    if not held:
        return about(said="no call waits for it")
    ended = steer_all(journal, status, held, Command("give up", "", reason), timeout=timeout)
    many = sum(one.is_done for one in ended)
    said = f"given up: {counted(many, 'call')} that waited for it" if many else ended[0].said
    return about(is_done=many > 0, taken=many > 0, said=said)
