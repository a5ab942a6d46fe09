"""Why a call stands as it does: what failed, why, what happens next and when, what a person can do. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import msgspec

from adapters.inspection import InForce
from adapters.journals.answering import Question
from adapters.journals.find import title
from adapters.journals.history import PastEvent
from adapters.journals.next_step import (
    RESUMED_LATER,
    NextStep,
    Source,
    Verb,
    answer_command,
    command_of,
    next_step,
    outcome_lines,
)
from adapters.journals.policy import policy_lines
from adapters.journals.proof import Proof, proof_of
from adapters.journals.sentence import sentence_of
from adapters.journals.status import CallStatus, JournalStatus
from adapters.journals.story import Passage, story_of
from adapters.launcher.progress import progress_words
from events.event import FOREVER
from events.operation_events import CallRejected, FailureClassified
from recovery.explain import Explanation, explain, shown
from recovery.held_outcomes import id_of
from recovery.journal.history import replay
from recovery.policies.incidents import has_ended, is_held
from recovery.questions import cause_of

PHRASES = {
    "running": "runs",
    "waiting": "waits",
    "paused": "is paused",
    "queued": "waits for a worker",
    "left": "was left by its process",
    "quarantined": "is quarantined",
    "unreadable": "cannot be read",
    "gave up": "gave up",
    "rejected": "was not started",
    "cancelled": "was cancelled",
    "handed back": "was handed back to the cluster",
    "delivered": "was delivered to the cluster",
    "superseded": "was superseded",
}
"""What is said of a call in that state; of any other, the state itself."""


ABANDONED = ("left", "quarantined", "unreadable", "handed back")
"""The states of calls whose end is not known here, and that no process runs."""


class Command(msgspec.Struct, frozen=True):
    """What a person can do.

    Args:
        verb: What it is, by its name on the command line.
        command: What to paste; "" for running the program again.
        effect: What it does.
    """

    verb: Verb
    command: str
    effect: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a journal tells of one call. Texts are printable lines without secrets; times are Unix times.

    Args:
        call: Its id.
        name: What people know it by.
        operation: Its operation.
        key: The part of its operation that has a circuit of its own, such as a host; "" for none.
        which: What tells it from others: its idempotency key or an argument.
        state: As ``CallStatus.state``.
        phrase: The state in words ("was left by its process").
        is_written: Whether a living process writes the journal.
        attempt: The attempt that runs, ran last, or comes next.
        failures: How often it failed.
        restarts: How often a process resumed it.
        sentence: Why, for a person who is no programmer.
        category: The category of the latest failure; "" if nothing failed.
        said: The line of the tool's own output that says why it failed.
        error: The exception with its message.
        proof: The evidence of the latest failure; None if nothing failed.
        rule: The rule of classification that decided, and what it means, if the rule itself says so.
        policy: The policy in force, as far as the plan and the journal know it, a line each.
        progress: How far it is.
        outcomes: How the operations of a launch ended, a line each.
        story: Each attempt, wait, command and restart, in time order.
        incident: The incident for which it waits, with which it gave up, or because of which it did not begin.
        questions: The open questions for which it waits.
        next: What happens next.
        next_line: The same, with its times.
        due: When its next attempt may begin, or a new call in place of it.
        deadline: When it gives up if its wait has not ended.
        remedy: What a person can do about the cause, in words.
        commands: What a person can do with the call.
        seen: When its latest event happened.
        where: The cluster that has it, and the node that runs it or ran it last; "" in a journal.
    """

    call: str
    name: str
    operation: str
    key: str
    which: str
    state: str
    phrase: str
    is_written: bool
    attempt: int
    failures: int
    restarts: int
    sentence: str
    category: str
    said: str
    error: str
    proof: Proof | None
    rule: str
    policy: tuple[str, ...]
    progress: str
    outcomes: tuple[str, ...]
    story: tuple[Passage, ...]
    incident: str
    questions: tuple[Question, ...]
    next: str
    next_line: str
    due: float | None
    deadline: float | None
    remedy: str
    commands: tuple[Command, ...]
    seen: float
    where: str = ""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call besides its events.

    Args:
        failure: Its latest failure; None if there is none.
        about: What people read about it.
        step: What happens next.
        where: Where it is.
    """

    failure: FailureClassified | None
    about: Explanation
    step: NextStep
    where: str


def why(
    call: CallStatus,
    status: JournalStatus,
    events: Sequence[PastEvent],
    *,
    source: Source,
    now: float,
    questions: Sequence[Question] = (),
    in_force: InForce | None = None,
    known: Known | None = None,
) -> Why:
    """Explain *call* of *status*, of which *events* are known.

    Args:
        call: The call.
        status: Its journal.
        events: Its events, in time order.
        source: What to name in commands.
        now: The Unix time.
        questions: The open questions of the journal.
        in_force: What the plan sets for the call.
        known: What a cluster says of the call; None in a journal, whose events say it.
    """
    known = known or _known(call, status, events, now)
    failure, about = known.failure, known.about
    step = _as_told(known.step, call, events, now)
    asked = tuple(one for one in questions if cause_of(one.name) in call.waits_for)
    return Why(
        call=call.call,
        name=shown(title(call)),
        operation=shown(call.operation),
        key=shown(call.key),
        which=call.which,
        state=call.state,
        phrase=PHRASES.get(call.state, call.state),
        is_written=status.is_being_written,
        attempt=call.attempt,
        failures=len(call.failures),
        restarts=call.restarts,
        sentence=sentence_of(call, about, events),
        category=about.category,
        said=about.said,
        error=about.error,
        proof=None if failure is None else proof_of(failure.evidence),
        rule="" if failure is None else shown(f"{failure.rule}{f': {failure.why}' if failure.why else ''}"),
        policy=tuple(policy_lines(call, [past.event for past in events], in_force, source)),
        progress=_progress(call),
        outcomes=tuple(shown(line) for line in _outcomes(call, source)),
        story=story_of(events, is_alive=call.state not in ABANDONED, told=about.short * (call.state != "succeeded")),
        incident=_incident(call, status, now),
        questions=asked,
        next=shown(step.text),
        next_line=shown(step.line(now)),
        due=step.due,
        deadline=step.deadline,
        remedy=about.remedy if call.state != "succeeded" else "",
        commands=tuple(_commands(step, asked, source, call)),
        seen=call.seen,
        where=shown(known.where),
    )


def _progress(call: CallStatus) -> str:
    there = call.transfer
    where = "" if there is None else progress_words(there.offset, there.size, there.start or 0)
    return shown(where or call.note)


def _known(call: CallStatus, status: JournalStatus, events: Sequence[PastEvent], now: float) -> Known:
    """What the events of *call* say."""
    failure = next((past.event for past in reversed(events) if isinstance(past.event, FailureClassified)), None)
    about = Explanation() if failure is None else _explained(call, events, failure)
    outcome = next((one for one in status.calls if one.call == id_of(call.call) and not one.is_over), call)
    return Known(failure=failure, about=about, step=next_step(outcome, status, now), where="")


def _explained(call: CallStatus, events: Sequence[PastEvent], failure: FailureClassified) -> Explanation:
    """What people read about *failure*, the latest of *call*, and what a person can do as the call stands."""
    records = replay({}, "", (past.event for past in events if past.event is not None))
    record = records.get(call.call)
    if record is None or record.failure is None:  # it has succeeded since
        return explain(failure, stands="ended")
    return record.explain(is_alive=record.is_leased or call.state not in ABANDONED)


def _as_told(step: NextStep, call: CallStatus, events: Sequence[PastEvent], now: float) -> NextStep:
    """*step* with whether it needs a person, when a new call may begin, without what the sentence of *call* says."""
    text, due = step.text, step.due
    is_stuck = step.needs_person and call.state != "waiting" and not (call.is_over and call.ordered)
    match call.state:
        case "left":
            text = text.removeprefix(f"process {call.pid} left it").removeprefix(", and ")
            if step.offers[0].verb == "run":
                return msgspec.structs.replace(step, text=f"nothing until its program is started again{text}")
            if call.is_resumable:
                text = f"the program that runs now has not taken it over; {RESUMED_LATER}"
        case "quarantined":
            text = text.removesuffix(f": {call.reason}")
        case "rejected":
            text, due = text.removesuffix(f": {call.reason}"), _may_begin(events)
            if due is not None:
                text = f"{text}; a new call may begin{'' if due > now else ' now'}"
                due = due if due > now else None
    return msgspec.structs.replace(step, text=f"nothing by itself: {text}" if is_stuck else text, due=due)


def _may_begin(events: Sequence[PastEvent]) -> float | None:
    """When a new call may begin in place of one that was rejected, in Unix time; None if that is unknown."""
    for past in reversed(events):
        if isinstance(past.event, CallRejected) and past.event.retry_after is not None and past.at is not None:
            return past.at + past.event.retry_after if past.event.retry_after < FOREVER else None
    return None


def _incident(call: CallStatus, status: JournalStatus, now: float) -> str:
    """The incident for which *call* waits, with which it gave up, or because of which it did not begin; "" for none."""
    is_of_one = is_held(call.waits_for or call.reason) or has_ended(call.reason, call.operation, call.key)
    if not is_of_one:
        return ""
    found = (one for one in status.incidents if (one.operation, one.key) == (call.operation, call.key))
    return next((f"{one.line(now) or ''}".removeprefix("incident ") for one in found), "")


def _commands(step: NextStep, asked: Sequence[Question], source: Source, call: CallStatus) -> Iterator[Command]:
    for one in step.offers:
        if one.verb == "answer" and asked:
            yield from (Command("answer", answer_command(source, q.name, q.kind), "answers it") for q in asked)
        else:
            yield Command(one.verb, command_of(one, source, call), one.effect)


def _outcomes(call: CallStatus, source: Source) -> Iterator[str]:
    failed = {name: outcome.why for name, outcome in call.outcomes.items() if outcome.state == "failed"}
    for line in outcome_lines(call):
        if line.startswith("failed: "):
            yield from (f"failed: {name}: {why}" for name, why in failed.items())
        else:
            yield line
    if failed:
        yield f"`{shlex.join(('recovery', 'why', str(source), next(iter(failed))))}` says more of it"
