"""Why a call stands as it does, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.journals.history import PastEvent
from adapters.journals.next_step import GONE
from adapters.journals.status import CallStatus
from events.operation_events import CallSteered, OperationInterrupted
from recovery.explain import Explanation, counted, shown
from recovery.policies.incidents import is_held


def sentence_of(call: CallStatus, about: Explanation, events: Sequence[PastEvent]) -> str:
    """Why *call* stands as it does: what its latest failure means, or what stopped it without a failure."""
    failed = counted(len(call.failures), "failure")
    match call.state:
        case "succeeded":
            return f"it succeeded with attempt {call.attempt}{f', after {failed}' if call.failures else ''}"
        case "unreadable":
            return "a row of it in the journal is damaged"
        case "quarantined":
            return shown(call.reason)
        case "rejected" if is_held(call.reason):
            whose = shown(call.key or call.operation)
            return f"calls of {whose} failed too often: no new one may begin for now ({shown(call.reason)})"
        case "handed back" if not call.reason:
            return f"its program (process {call.pid}) {GONE}"
        case "rejected" | "handed back" | "superseded":
            return shown(call.reason)
        case "delivered":
            return "the cluster has taken this outcome"
        case "cancelled":
            return _steered(events, "cancel", "it was cancelled, by its program or by hand")
        case "failed":
            return "the launch ended, and an operation of it is not done"
        case "left":
            is_orderly = bool(events) and isinstance(events[-1].event, OperationInterrupted)
            gone = f"its program (process {call.pid}) {'ended in good order' if is_orderly else GONE}"
            return f"{gone}; its latest failure: {about.sentence}" if about.sentence else gone
        case "paused":
            paused = _steered(events, "pause", "it was paused by hand")
            return f"{paused}; its latest failure: {about.sentence}" if about.sentence else paused
    if about.sentence:
        return about.sentence
    if call.state == "waiting" and is_held(call.waits_for):
        return f"nothing has failed in it, but other calls of {shown(call.key or call.operation)} failed too often"
    if call.state == "waiting":
        return "nothing has failed: it waits before its attempt"
    if call.state == "queued":
        return "nothing has failed: it waits for a worker"
    if call.state == "running":
        return f"nothing has failed{' in the launch itself' if call.operation == 'launch' else ''}"
    return shown(call.reason)


def _steered(events: Sequence[PastEvent], command: str, otherwise: str) -> str:
    """That *command* was given by hand, and why; *otherwise*, if no person said why."""
    given = [past.event for past in events if isinstance(past.event, CallSteered) and past.event.command == command]
    said = given[-1].reason if given else ""
    return shown(f"by hand: {said}") if said else otherwise
