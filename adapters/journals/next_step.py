"""What happens next with a call of a journal, when, and what a person can do: for tables, pages and commands. Pure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from adapters.journals.incidents import IncidentLine
from adapters.journals.status import CallStatus, JournalStatus
from events.question_events import QuestionKind
from recovery.explain import moment
from recovery.journal.history import DELIVERY
from recovery.policies.incidents import has_ended, is_held
from recovery.policies.pacing import RATE_LIMIT
from recovery.policies.retry import PERSON
from recovery.questions import cause_of
from recovery.redact import printable

Action: TypeAlias = Literal["retry", "pause", "unpause", "cancel", "give up", "again"]
"""What can be done with one call, by a button or a verb of the command line."""

Verb: TypeAlias = Action | Literal["run", "answer", "move"]

Source: TypeAlias = Path | str
"""What a command is told to act on: a journal's file, its plan, or the option that names a cluster; "" for nothing."""

ENDS_IT, CANCELS_IT = "ends it with its last error", "cancels it"
HOPELESS = "it fails in the same way until its cause is gone"
GONE = "ended before it was done: it was stopped, it crashed, or the power went"
KEPT = "its outcome is kept until a server of the cluster answers"
OF_A_CLUSTER = {
    "handed back": "nothing here: the cluster goes on with it",
    "delivered": "nothing: the cluster has its outcome",
    "superseded": "nothing: another outcome counts",
}
"""What happens next with what a cluster owns, and what is over in this journal."""

RESUMED_LATER = "when the program that runs now has ended, start it again: it resumes this"
KEEPS = "begins a new launch: what is there is kept, and commands without `creates` run again"


class Offer(msgspec.Struct, frozen=True):
    """What a person can do: a *verb* of the command line, and its *effect* ("retries it")."""

    verb: Verb
    effect: str


class NextStep(msgspec.Struct, frozen=True, kw_only=True):
    """What happens next with a call.

    Args:
        text: What happens, without the times below.
        offers: What a person can do, the likeliest first.
        foremost: How many of the offers a table names; 0 where no person is needed.
        since: Since when it waits, in Unix time; None if it does not wait for a cause.
        due: When its next attempt, or the next probe of its incident, may begin at the earliest.
        deadline: When it gives up if its wait has not ended.
    """

    text: str
    offers: tuple[Offer, ...] = ()
    foremost: int = 0
    since: float | None = None
    due: float | None = None
    deadline: float | None = None

    @property
    def needs_person(self) -> bool:
        """Whether the call stays as it is until a person does something."""
        return self.foremost > 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """What a button can do with the call."""
        return tuple(
            one.verb for one in self.offers if one.verb != "run" and one.verb != "answer" and one.verb != "move"
        )

    def line(self, now: float) -> str:
        """What happens next, with its times."""
        if self.since is None:
            return self.text if self.due is None else f"{self.text} {moment(self.due - now)}, at {when(self.due, now)}"
        least = f", next try {when(self.due, now)}" if self.due is not None and self.due > now else ""
        most = "" if self.deadline is None else f"; gives up at {when(self.deadline, now)}"
        return f"{self.text}, since {when(self.since, now)}{least}{most}"


def next_step(call: CallStatus, status: JournalStatus, now: float) -> NextStep:
    """What happens next with *call* of *status*, at the Unix time *now*."""
    match call.state:
        case "running":
            return NextStep(text=f"attempt {call.attempt} runs", offers=(Offer("cancel", CANCELS_IT),))
        case "waiting":
            return _waiting(call, status, now)
        case "paused":
            offers = Offer("unpause", "continues it"), Offer("retry", "retries it now"), *_ends()
            return NextStep(text="its clock is stopped", offers=offers, foremost=1)
        case "left" | "unreadable" | "quarantined":
            return _left(call, status)
        case "succeeded":
            return NextStep(text="nothing: it is done")
        case "failed":
            return NextStep(text="nothing: the launch is over", offers=(Offer("run", KEEPS),), foremost=1)
    return _ended(call)


def _waiting(call: CallStatus, status: JournalStatus, now: float) -> NextStep:
    if call.waits_for == DELIVERY:
        return NextStep(text=KEPT, since=call.seen)
    offers: tuple[Offer, ...] = Offer("retry", "retries it now"), Offer("pause", "stops its clock"), *_ends()
    if is_held(call.waits_for):
        text, incident = f"waits for incident {_incident(call)}", _of(call, status.incidents)
        due = None if incident is None or incident.is_probed else incident.next_probe
        return NextStep(text=text, offers=offers, since=call.seen, due=due)
    if call.waits_for == PERSON:
        offers = Offer("retry", "retries it"), Offer("give up", ENDS_IT), Offer("cancel", CANCELS_IT)
        return NextStep(text=f"waits for {PERSON}", offers=offers, foremost=2, since=call.seen)
    if call.waits_for:
        asks = call.waits_for.startswith(cause_of(""))
        shows = (Offer("answer", "shows the question, and how to answer it"),) if asks else ()
        if call.waits_for.startswith(RATE_LIMIT):
            offers = offers[1:]  # a server that asked for a pause gets it
        due = call.due if call.due is not None and call.due > now else None
        return NextStep(
            text=f"waits for: {call.waits_for}",
            offers=(*shows, *offers),
            foremost=len(shows),
            since=call.seen,
            due=due,
            deadline=call.deadline,
        )
    return NextStep(text=f"attempt {call.attempt}", offers=offers, due=call.due)


def _left(call: CallStatus, status: JournalStatus) -> NextStep:
    """What happens with a call that no process runs."""
    ends: tuple[Offer, ...] = (Offer("give up", "ends it"), Offer("cancel", CANCELS_IT))
    if call.state == "quarantined":
        text, ends = f"no process resumes it until it is freed: {call.reason}", (Offer("retry", "frees it"), ends[0])
    elif call.state == "unreadable":
        text, ends = "no process can resume it, since a row of it is damaged", ends[:1]
    elif not call.is_resumable:
        text = "no process can resume it, since its arguments were not stored"
    elif status.is_being_written:
        text = f"process {call.pid} left it, and the running one has not resumed it"
        ends = (*ends, Offer("run", "resumes it, once the running process has ended"))
    else:
        orders = f", ordered for the next start: {', '.join(call.ordered)}" if call.ordered else ""
        later: tuple[Offer, ...] = (
            Offer("retry", "has it tried at the next start"),
            Offer("pause", "keeps it from that"),
        )
        text, ends = f"process {call.pid} left it{orders}", (Offer("run", "resumes it"), *ends, *later)
    return NextStep(text=text, offers=ends, foremost=2 if ends[0].verb in ("run", "retry") else 1)


def _ended(call: CallStatus) -> NextStep:
    """What happens with a call that gave up, was rejected or was cancelled."""
    if call.state in OF_A_CLUSTER:
        return NextStep(text=OF_A_CLUSTER[call.state])
    if call.by:
        return NextStep(text=f"nothing: call {call.by} runs it again")
    if call.ordered:
        text = "runs again at the next start, as ordered"
        if call.refused:
            text = f"ordered to run again, which the latest process refused: {call.refused}; the next start tries it"
        return NextStep(
            text=text, offers=(Offer("run", "does that"), Offer("cancel", "withdraws the order")), foremost=1
        )
    again = (Offer("again", "runs it again, with the same arguments"),) if call.is_resumable else ()
    offers = Offer("run", "tries it again"), *again
    if has_ended(call.reason, call.operation, call.key):
        return NextStep(text=f"it gave up with incident {_incident(call)}", offers=offers, foremost=1)
    reason = HOPELESS if call.reason.startswith("permanent") else f"it gave up: {call.reason}"
    said = {"gave up": reason, "rejected": f"it was not started: {call.reason}"}
    text = said.get(call.state, f"nothing: it was {call.state}")
    return NextStep(text=text, offers=offers, foremost=int(call.state in said))


def _ends() -> tuple[Offer, Offer]:
    return Offer("give up", ENDS_IT), Offer("cancel", CANCELS_IT)


def _incident(call: CallStatus) -> str:
    return call.key or call.operation


def _of(call: CallStatus, incidents: tuple[IncidentLine, ...]) -> IncidentLine | None:
    """The incident for which *call* waits."""
    return next((one for one in incidents if (one.operation, one.key) == (call.operation, call.key)), None)


def command_of(offer: Offer, source: Source, call: CallStatus) -> str:
    """The command by which a person takes *offer*; "" where that is to run the program again, which we do not know.

    Args:
        offer: What to do.
        source: What to name in commands.
        call: With which call.
    """
    if offer.verb == "run":
        return shlex.join(("recovery", "run", str(source))) if Path(source).suffix == ".toml" else ""
    words = (str(source),) if offer.verb == "answer" else (str(source), call.call)
    to = ("--to", "any") if offer.verb == "move" else ()
    return shlex.join(("recovery", offer.verb.replace(" ", "-"), *filter(None, words), *to))


ANSWERS: dict[QuestionKind, tuple[str, ...]] = {"confirm": ("yes",), "choice": ("CHOICE",), "text": ("TEXT",)}
"""What stands for an answer in a command; a secret is asked for."""


def answer_command(source: Source, name: str, kind: QuestionKind) -> str:
    """How a person answers the question *name*: printable, and not redacted, since ``token:HOST`` is no secret."""
    return " ".join(
        (printable(shlex.join(("recovery", "answer", *filter(None, (str(source), name))))), *ANSWERS.get(kind, ()))
    )


def said(offer: Offer, source: Source, call: CallStatus) -> str:
    """*offer* as a sentence: the command, and its effect."""
    command = command_of(offer, source, call)
    return f"{f'`{command}`' if command else 'running the program again'} {offer.effect}"


def outcome_lines(call: CallStatus) -> Iterator[str]:
    """How the operations of a launch ended: how many are done, and which are not; nothing where all are."""
    by_state = {
        state: [
            f"{name} (optional)" if outcome.optional else name
            for name, outcome in call.outcomes.items()
            if outcome.state == state
        ]
        for state in ("done", "failed", "skipped")
    }
    counted = [f"{len(names)} {state}" for state, names in by_state.items() if names and state != "done"]
    if counted:
        yield f"done: {len(by_state['done'])} of {len(call.outcomes)}, {', '.join(counted)}"
    if by_state["failed"]:
        yield f"failed: {', '.join(by_state['failed'])}"
    for name, outcome in call.outcomes.items():
        if outcome.state == "skipped":
            yield f"skipped: {name}, which {outcome.why}"


def when(moment: float, now: float) -> str:
    """*moment*, a Unix time, as the local time of day; with the date if that is another day than *now*'s."""
    try:
        then = time.localtime(moment)
    except (OverflowError, ValueError, OSError):  # another program wrote it
        return "at an unknown time"
    is_today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)
