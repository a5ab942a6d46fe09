"""A journal in lines, where the output is no terminal: one for each call that stands otherwise than before."""

from __future__ import annotations

from pathlib import Path

from adapters.journals.find import title
from adapters.journals.next_step import next_step, said, when
from adapters.journals.status import CallStatus, JournalStatus
from recovery.redact import brief


def status_line(call: CallStatus, status: JournalStatus, source: Path, now: float) -> str:
    """Since when and how *call* stands, why, and what happens next, in one line.

    Args:
        call: A call of *status*.
        status: The journal.
        source: What to name in commands: the journal's file, or its plan.
        now: The Unix time.
    """
    which = f" ({call.which})" if call.which and not call.name else ""
    parts = [f"{call.state}, attempt {call.attempt}"]
    if call.state not in ("succeeded", "failed", "cancelled") and call.cause:
        parts.append(call.cause)
    if call.state == "running":
        parts += [call.note] if call.note else []
    elif call.state not in ("succeeded", "cancelled"):
        step = next_step(call, status, now)
        parts += [step.line(now), *(said(offer, source, call) for offer in step.offers[: step.foremost])]
    return brief(f"{when(call.seen, now)} {title(call)}{which} {call.call}: {'; '.join(parts)}")
