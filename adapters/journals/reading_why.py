"""Read from a journal why one call stands as it does, or each call that needs a look."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import anyio

from adapters.journals.answering import read_questions
from adapters.journals.find import find_call
from adapters.journals.history import read_events
from adapters.journals.policy import in_force_for
from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.journals.why import Why, why
from adapters.launcher.plan import load_plan
from recovery.explain import shown
from recovery.held_outcomes import id_of, leg_of

DONE = ("succeeded", "cancelled", "handed back", "delivered")
"""The states of calls that need no look."""

MOST_CALLS = 10
"""Calls that are explained at once; more are counted."""


def read_why(source: Path, text: str, *, now: float | None = None) -> Why:
    """Explain the call that *text* names.

    Args:
        source: A journal's file, or the launch plan whose journal is read.
        text: An id, the beginning of one, a name in the plan, or an operation.
        now: The Unix time; that of the clock by default.

    Raises:
        LookupError: No call, or more than one, has that name; the message says what to write.
        FileNotFoundError, JournalError, PlanError: There is no journal, or it cannot be read.
    """
    journal = _journal_of(source)
    status = anyio.run(partial(read_status, journal, also=[text, id_of(text)]))
    try:
        call = find_call(status, text)
    except LookupError as error:
        raise LookupError(_never_begun(status, text) or str(error)) from None
    return _explain(source, journal, status, call, now)


def read_whys(source: Path, *, now: float | None = None) -> tuple[list[Why], int]:
    """Explain the calls that are not done, those first that are not over, the latest first, and count further ones.

    Raises as ``read_why``.
    """
    journal = _journal_of(source)
    status = anyio.run(partial(read_status, journal))
    known = {call.call: call for call in status.calls}
    undone = (call for call in status.calls if call.state not in DONE and not call.by)
    found = (one if one.is_over else known.get(leg_of(one.call), one) for one in undone)  # an outcome, with its call
    calls = list({call.call: call for call in found}.values())
    calls.sort(key=lambda call: (call.is_over, call.operation == "launch", -call.seen))
    return [_explain(source, journal, status, call, now) for call in calls[:MOST_CALLS]], len(calls[MOST_CALLS:])


def _journal_of(source: Path) -> Path:
    return load_plan(source).journal if source.suffix == ".toml" else source


def _explain(source: Path, journal: Path, status: JournalStatus, call: CallStatus, now: float | None) -> Why:
    events = anyio.run(read_events, journal, call.call)
    if (
        "@" in call.call and call.operation and not leg_of(call.call)
    ):  # of a cluster: what became of its outcome is journalled under another id
        events = [*events, *anyio.run(read_events, journal, id_of(call.call))]
    return why(
        call,
        status,
        events,
        source=source,
        now=time.time() if now is None else now,
        questions=[one for one in read_questions(journal) if one.is_open] if call.waits_for else (),
        in_force=in_force_for(source, call),
    )


def _never_begun(status: JournalStatus, text: str) -> str:
    """Why the operation *text* of a launch has no call; "" if it has none for another reason."""
    for call in status.calls:
        outcome = call.outcomes.get(text)
        if outcome is not None and outcome.state == "skipped":
            return shown(f"{text} was not begun in launch {call.call}: it {outcome.why}")
    return ""
