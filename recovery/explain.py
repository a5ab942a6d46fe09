"""``explain``: what people read about a failing call, in plain words, redacted, each part in one line. Pure.

Events, records and exceptions carry data; log lines, notes, tables and alerts show it through this one function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from events.event import FOREVER, CallEvent
from events.evidence import Evidence
from events.lease_events import CallHandedBack
from events.names import display_name
from events.operation_events import (
    CallLeftPending,
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.trace_events import CallTraced
from recovery.policies.error_output import as_shown, telling_line
from recovery.policies.incidents import is_held
from recovery.policies.sentence_details import Known, room_of
from recovery.policies.sentences import Stands, in_words, sentence_of, without_failure
from recovery.redact import brief, printable, redact

MOST = 400
"""Characters of a part that are shown."""

MOST_ARGUMENT = 100
"""Characters of an argument that are shown."""

ADVERT = " For more information check: https://"
"""What httpx adds to the message of each HTTP status: a page of a manual."""

TELLING = ("name", "id", "url", "path", "file", "key")
"""The members of a mapping that tell calls apart."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What people read about a failing call. Each part is one printable line without secrets, or "".

    Args:
        sentence: What the failure means ("the connection to example.org was refused"), for people who are no
            programmers; "" if the call has not failed.
        category: Its category ("unreachable").
        said: The line of the tool's error output that says why it failed ("fatal: unable to access ...").
        error: The exception, with its message.
        call: The id of the call, by which commands and lookups find it.
        operation: The name of the operation, with its key.
        which: The idempotency key, or else the argument that tells the call from others; "" if neither is known.
        step: What happens next, and when ("retry 2 of 5 in 1.3 s"), or how the call ended.
        remedy: What a person can do, and what happens by itself ("Free some space. It goes on by itself once there is
            room."), as whole sentences; "" if nothing is known.
        asked: What the failure itself asks of a person (its ``Remedy``), and where; "" if it asks nothing.
    """

    sentence: str = ""
    category: str = ""
    said: str = ""
    error: str = ""
    call: str = ""
    operation: str = ""
    which: str = ""
    step: str = ""
    remedy: str = ""
    asked: str = ""

    @property
    def cause(self) -> str:
        """The sentence, the category, then the tool's line or the exception: for one line."""
        meaning = f"{self.sentence} ({self.category})" if self.category else self.sentence
        return redact(": ".join(filter(None, (meaning, self.said or self.error))))

    @property
    def short(self) -> str:
        """The sentence, then the tool's line or the exception: for a narrow column, whose end may be cut off."""
        return redact(": ".join(filter(None, (self.sentence, self.said or self.error))))

    @property
    def plain(self) -> str:
        """What failed, and what to do, as whole sentences: for people who read no log."""
        return redact(" ".join(filter(None, (_as_sentence(self.sentence), self.remedy))))

    @property
    def identity(self) -> str:
        """The operation, the id of the call, and what tells it from others."""
        return redact(" ".join(filter(None, (self.operation, self.call, f"({self.which})" if self.which else ""))))

    @property
    def line(self) -> str:
        """All of it in one line, the exception after the tool's own words and each sentence once: for a log."""
        also = self.error if self.said and self.error else ""
        _, _, message = self.error.partition(": ")
        asked = self.asked.replace(message, "").strip(" .") if message in self.asked and message else self.asked
        return redact(f"{self.identity}: {'; '.join(filter(None, (self.cause, also, self.step, asked)))}")


def explain(
    event: CallEvent,
    *,
    idempotency_key: str = "",
    arguments: bytes | None = None,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    most_retries: int | None = None,
    step: str = "",
    stands: Stands | None = None,
) -> Explanation:
    """What people read about a call, from an event of it: its outcome, its classified failure, ...

        explain(event).line

    ``CallRecord.explain`` of the journal does this for the record of a call.

    Args:
        event: The event.
        idempotency_key: The key of the call's effect; that of the event by default.
        arguments: The arguments of the call as JSON; those of the event by default.
        args: Its arguments as they are, if the event has none.
        kwargs: Its arguments by name, if the event has none.
        most_retries: How many retries its policy allows; None if that is unknown or there is no limit.
        step: What happens next; by default what the event says.
        stands: Where the call stands, which the remedy tells of; by default as the event leaves it.
    """
    failure = event if isinstance(event, FailureClassified) else getattr(event, "failure", None)
    sentence = category = said = error = asked = ""
    remedy = without_failure(stands)
    if failure is not None:
        evidence = failure.evidence
        # Redacted before a line is taken out of it: a secret may span lines.
        if stderr := brief(_stderr_of(evidence), reshape=as_shown, tail=True):
            said = shown(telling_line(stderr, failure.rule))
        error = shown(evidence.summary.partition(ADVERT)[0])
        category = str(failure.category)
        asked = "" if failure.remedy is None else shown(f"{failure.remedy.sentence} {failure.remedy.link}".strip())
        stands = _stands_after(event) if stands is None else stands
        wait = duration(failure.retry_after) if failure.retry_after else ""
        known = Known(failure.key, (error, stderr) if stderr else (error,), room_of(evidence), wait)
        sentence, remedy = map(shown, in_words(failure, known, asked, stands))
    elif isinstance(event, RetryScheduled | GaveUp):
        sentence = sentence_of(event.category)
    which = shown(idempotency_key or getattr(event, "idempotency_key", ""), MOST_ARGUMENT)
    if not which:
        arguments = arguments or bytes(getattr(event, "arguments", b""))
        which = telling_argument(*(_decoded(arguments) if arguments else (args, kwargs or {})))
    return Explanation(
        sentence=sentence,
        category=category,
        said="" if said and said in error else said,
        error=error,
        call=printable(event.call),
        operation=shown(display_name(event.operation, event.key)),
        which=which,
        step=shown(step or next_step(event, most_retries)),
        remedy=remedy,
        asked=asked,
    )


def _stands_after(event: CallEvent) -> Stands:
    """Where a call stands after *event*; "" where that says nothing."""
    match event:
        case RetryScheduled():
            return "retries"
        case Parked(category=category, asks_person=asks_person):
            return "asks" if asks_person else "" if category is None else "waits"
        case GaveUp() | CallRejected():
            return "ended"
        case OperationQuarantined():
            return "quarantined"
        case OperationInterrupted() | CallLeftPending():
            return "left"
    return ""


def _as_sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def shown(text: str, most: int = MOST) -> str:
    """*text* as it may be shown: without secrets, in one line, of at most *most* characters."""
    if not text:
        return text
    text = brief(text)
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"


def duration(amount: float) -> str:
    """A number of seconds for people: ``0.25 s``, ``1.3 s``, ``2 min 5 s``, ``1 h``."""
    if amount < 10.0:
        return f"{amount:.2g} s" if amount < 1.0 else f"{round(amount, 1):g} s"
    left = round(amount)
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= unit:
            rest = left % unit // part
            return f"{left // unit} {name} {rest} {part_name}" if rest else f"{left // unit} {name}"
    return f"{left} s"


def moment(after: float) -> str:
    """When something happens that happens in *after* seconds: ``at once``, ``in 1.3 s``."""
    return "at once" if after < 0.005 else f"in {duration(after)}"


def counted(number: int, noun: str) -> str:
    """*number* with its noun: ``1 attempt``, ``3 attempts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def waits_for(why: str, *, within: float = FOREVER, after: float = 0.0) -> str:
    """What a wait is for, and its bounds: ``waits for: disk space, at most 1 h``."""
    bounds = [f"at least {duration(after)}"] if after >= 1.0 else []
    bounds += [f"at most {duration(within)}"] if within < FOREVER else []
    return ", ".join((f"waits for: {why or 'a subscriber'}", *bounds))


def next_step(event: CallEvent, most_retries: int | None = None) -> str:
    """What happens after *event*, and when; "" where it does not say so."""
    match event:
        case RetryScheduled(uncharged=True, after=after):
            return f"attempt {event.attempt} failed as the clock jumped, the next uses no retry, {moment(after)}"
        case RetryScheduled(after=after, retry=retry):
            of = f" of {most_retries}" if most_retries is not None and retry <= most_retries else ""
            return f"attempt {event.attempt} failed, retry {retry}{of} {moment(after)}"
        case Parked(asks_person=True):
            tried = counted(event.attempt, "attempt")
            return f"asks after {tried}, no retries are left: service.calls.retry_now, or give_up?"
        case Parked(category=None, after=after, within=within, why=why):
            is_asked = 1.0 <= after < FOREVER and not is_held(why)  # what a circuit holds asks in its turn
            return waits_for(why, within=within) + (f"; asks again {moment(after)} at the latest" if is_asked else "")
        case Parked(after=after, within=within, why=why):
            return f"attempt {event.attempt} failed, {waits_for(why, within=within, after=after)}"
        case GaveUp(reason=reason):
            return f"gave up after {counted(event.attempt, 'attempt')}: {reason or 'no reason given'}"
        case CallRejected(reason=reason, retry_after=after):
            again = f"; a new call may begin {moment(after)}" if after is not None and after < FOREVER else ""
            return f"not started: {reason or 'no reason given'}{again}"
        case OperationResumed(after=after):
            return f"resumed with attempt {event.attempt} {moment(after)}"
        case OperationRecovered(elapsed=elapsed):
            return f"recovered with attempt {event.attempt} after {duration(elapsed)}"
        case CallTraced(trace=trace):
            return f"trace {trace[3:35]}"  # as tools for traces call it
        case OperationInterrupted():
            return f"stays pending: another caller, or the next run, goes on with attempt {event.attempt}"
        case CallLeftPending(reason=reason) | OperationQuarantined(reason=reason):
            return f"{'stays pending' if isinstance(event, CallLeftPending) else 'quarantined'}: {reason}"
        case CallHandedBack(after=after) if 0.0 < after < FOREVER:
            return f"{event.words}, attempt {event.attempt} {moment(after)}"
        case OperationCancelled(waiting=waiting):
            return "cancelled while it waited" if waiting else f"cancelled in attempt {event.attempt}"
        case CallSteered(command=command, reason=reason):
            return f"command: {command}{f' ({reason})' if reason else ''}"
        case FailureClassified():
            return f"attempt {event.attempt} failed"
        case OperationStarted():
            return f"attempt {event.attempt} runs"
        case OperationSucceeded():
            return f"succeeded with attempt {event.attempt}"
    return getattr(event, "words", "")


def telling_argument(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """The argument that tells a call from others of its operation: a URL, or else the first short plain one.

    Arguments by keyword are given with their names, so that a secret's name gives it away and it is redacted.
    """
    plain = [("", text) for one in args if (text := _plain(one))]
    plain += [(name, text) for name, one in kwargs.items() if (text := _plain(one))]
    name, text = next((one for one in plain if "://" in one[1]), plain[0] if plain else ("", ""))
    return shown(f"{name}={text}" if name else text, MOST_ARGUMENT)


def _plain(value: object) -> str:
    try:
        return _text_of(value)
    except Exception:  # a foreign class may raise anything, and an int have too many digits
        return ""


def _text_of(value: object) -> str:
    if isinstance(value, Mapping):
        tag, content = next(iter(value.items())) if len(value) == 1 else ("", "")
        if isinstance(tag, str) and tag.startswith("$"):  # as the journal writes what JSON lacks
            return "" if tag == "$secret" else _plain(content)
        return next((text for name in TELLING if (text := _plain(value.get(name)))), "")
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    is_telling = hasattr(type(value), "__fspath__") or type(value).__module__ in ("datetime", "decimal", "uuid")
    return str(value) if is_scalar or is_telling else ""


def _stderr_of(evidence: Evidence | None) -> str:
    """The error output of the failure, or of what caused it."""
    while evidence is not None:
        if evidence.stderr:
            return evidence.stderr
        evidence = evidence.cause
    return ""


def _decoded(arguments: bytes) -> tuple[Sequence[object], Mapping[str, object]]:
    try:
        args, kwargs = msgspec.json.decode(arguments, type=tuple[list[object], dict[str, object]])
    except msgspec.DecodeError:
        return (), {}
    return args, kwargs
