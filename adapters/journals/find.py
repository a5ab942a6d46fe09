"""Find calls of a journal by an id, the beginning of one, a name in the plan, or an operation."""

from __future__ import annotations

import difflib

from adapters.journals.status import CallStatus, JournalStatus
from events.names import display_name
from recovery.explain import counted
from recovery.held_outcomes import leg_of
from recovery.policies.hosts import without_port
from recovery.redact import brief

SHORTEST = 4
"""Characters of an id that are enough, if no other begins with them."""

MOST_LISTED = 8
"""Calls that an error names; more are counted."""


def title(call: CallStatus) -> str:
    """What people know *call* by: its kind and its name in the plan, or its operation with the key."""
    if not call.name:
        return display_name(call.operation, call.key)
    kind = call.operation.removesuffix(f" {call.name}")  # with a policy of its own it has its name
    return call.name if kind == call.name else f"{kind} {call.name}"


def find_calls(status: JournalStatus, text: str) -> list[CallStatus]:
    """The calls that *text* names: those that are not over, or else the one that ended last.

    An id comes first, then a name in the plan, an operation with or without its key or its module, and at last the
    beginning of an id, which names one call. An outcome that is kept for a cluster is named by its call.

    Args:
        status: A journal; of calls that ended it may know the latest alone.
        text: What a person wrote.

    Raises:
        LookupError: No call has that name, or several ids begin like this. The message says what to write instead.
    """
    if exact := [call for call in status.calls if call.call == text]:
        return exact
    known = {call.call for call in status.calls}
    calls = [call for call in status.calls if leg_of(call.call) not in known]
    for names_of in (lambda call: (call.name,), _operations_of):
        if named := [call for call in calls if text in names_of(call)]:
            return [call for call in named if not call.is_over] or [max(named, key=lambda call: call.seen)]
    begun = [call for call in calls if len(text) >= SHORTEST and call.call.startswith(text)]
    if len(begun) > 1:
        raise LookupError(brief(f"{len(begun)} ids of {status.path} begin with {text!r}: {_listed(begun)}"))
    return begun or _missing(status, text)


def find_call(status: JournalStatus, text: str) -> CallStatus:
    """The one call that *text* names, as ``find_calls``. Raises LookupError for several, too, and lists them."""
    found = find_calls(status, text)
    if len(found) > 1:
        about = f"{text!r} names {len(found)} calls of {status.path} that are not over"
        raise LookupError(brief(f"{about}: {_listed(found)}"))
    return found[0]


def _operations_of(call: CallStatus) -> tuple[str, ...]:
    """The operation of *call*, with its key, as it is shown, and, of a function, without its module."""
    name = call.operation
    keyed = (display_name(name, key) for key in (call.key, without_port(call.key)))
    return name, *keyed, title(call), name.rpartition(".")[2]


def _missing(status: JournalStatus, text: str) -> list[CallStatus]:
    names = {name: None for call in status.calls for name in (call.name, *_operations_of(call), call.call) if name}
    close = difflib.get_close_matches(text, names, n=1)
    meant = f"do you mean {close[0]!r}?" if close else "`recovery status` lists them with their ids"
    unread = sum(status.more.values())
    more = f"; {counted(unread, 'older call')} can be named by their whole ids alone" if unread else ""
    raise LookupError(brief(f"no call of {status.path} has the id or name {text!r}; {meant}{more}"))


def _listed(calls: list[CallStatus]) -> str:
    """The ids of *calls*, each with what tells it from others."""
    latest = sorted(calls, key=lambda call: -call.seen)[:MOST_LISTED]
    lines = [f"{call.call} ({', '.join(filter(None, (title(call), call.which, call.state)))})" for call in latest]
    more = len(calls) - len(lines)
    return ", ".join([*lines, *([f"and {more} more"] if more else [])]) + "; give one of these ids"
