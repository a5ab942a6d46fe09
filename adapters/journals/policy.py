"""The policy in force for a call, as far as its plan and its journal know it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from adapters.inspection import InForce, inspect
from adapters.journals.status import CallStatus
from events.errors import RecoveryError
from events.operation_events import CallSteered
from recovery.explain import duration, shown
from recovery.redact import brief


def in_force_for(source: Path, call: CallStatus) -> InForce | None:
    """What the plan *source* sets for *call*; None if that is no plan, or it has no such step."""
    if source.suffix != ".toml" or call.name is None:
        return None
    with suppress(RecoveryError, ValueError, OSError):
        return next((row for row in inspect(str(source)).operations if call.name in row.names), None)
    return None


def policy_lines(
    call: CallStatus,
    events: Sequence[object],
    in_force: InForce | None,
    source: Path | str,
) -> Iterator[str]:
    """The policy in force for *call*: what its plan sets now, what it has used, and what a person changed.

    Args:
        call: The call.
        events: Its events, in time order.
        in_force: What the plan *source* sets; None if that is unknown.
        source: The plan, the journal, or the option that names a cluster.
    """
    is_plan = isinstance(source, Path) and source.suffix == ".toml"
    if in_force is not None:
        first, last = in_force.delays
        apart = f", {duration(first)} to {duration(last)} apart" if in_force.retries != 0 else ""
        within = "" if in_force.fails_within is None else f", gives up within {duration(in_force.fails_within)}"
        most = "no limit of retries" if in_force.retries is None else f"at most {_retries(in_force.retries)}"
        yield f"{most}{apart}{within}, as {brief(Path(source).name)} says now"
        if in_force.circuit:
            yield f"circuit: {', '.join(in_force.circuit)}"
    elif is_plan and call.name is not None:
        yield f"{brief(Path(source).name)} has no operation of that name now, so its settings are not known here"
    elif not is_plan:
        holder = "the journal does not hold them" if isinstance(source, Path) else "the cluster does not hold them"
        yield f"its settings are in its program: {holder}"
    if call.failures and call.retries and call.state == "waiting" and call.due is not None and not call.waits_for:
        most = "" if in_force is None or in_force.retries is None else f" of {in_force.retries}"
        yield f"retry {call.retries}{most} comes next"
    elif call.failures:
        yield f"{_retries(call.retries)} used"
    for event in events:
        if isinstance(event, CallSteered) and event.command in ("edit", "reset"):
            what = " ".join(filter(None, (event.command, event.changes)))
            yield shown(", ".join(filter(None, (f"by hand: {what}", event.reason))))


def _retries(number: int) -> str:
    return f"{number} {'retry' if number == 1 else 'retries'}"
