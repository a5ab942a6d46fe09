"""What the page says of a call: why it stands as it does, what happens next, what a person can do. Pure.

The words fit the page: its buttons are below them, and its questions above. They leave the times to the page.
"""

from __future__ import annotations

from adapters.journals.next_step import GONE, RESUMED_LATER, NextStep
from adapters.journals.status import CallStatus
from events.verdicts import OUT_OF_TIME
from recovery.explain import counted, shown
from recovery.policies.incidents import has_ended, is_held
from recovery.policies.pacing import RATE_LIMIT
from recovery.policies.retry import OUT_OF_RETRIES, PERSON
from recovery.policies.sentence_details import short_host
from recovery.policies.sentences import spoken
from recovery.questions import cause_of
from recovery.redact import brief, printable

REACHABLE = " reachable"
DAMAGED = "a part of what the journal has of it is damaged"
ORDERED = {"retry now": "is tried at once", "pause": "stays paused", "unpause": "waits for the rest of its time"}
"""What the next process does with a call, by what it was ordered."""

BY_PERSON = "your decision"


def why_words(call: CallStatus) -> str:
    """Why *call* failed, or stands still; "" if nothing is wrong."""
    match call.state:
        case "left":
            ended = f"its program has ended; its latest failure: {call.sentence}"
            return ended if call.sentence else f"its program {GONE}"
        case "unreadable":
            return DAMAGED
        case "quarantined":
            return shown(call.reason)
        case "failed":
            undone = [f"{name} ({one.why})" for name, one in call.outcomes.items() if not one.is_fine]
            return shown(f"not done: {', '.join(undone)}") if undone else call.sentence
        case "gave up" | "rejected":
            return call.sentence or shown(call.reason)
        case "waiting" if not call.sentence and is_held(call.waits_for):
            return f"other calls of {_short(place_of(call))} have failed again and again"
        case "waiting" if not call.sentence and call.waits_for.startswith(RATE_LIMIT):
            return f"{_short(place_of(call))} has asked other calls for fewer requests"
        case "waiting" if not call.sentence and call.attempt == 1:
            return "nothing has failed: it waits before it starts"
    return call.sentence


def place_of(call: CallStatus) -> str:
    """What *call* waits for, as short as a headline has it: a host, a question, a condition; "" for nothing."""
    why = call.waits_for
    if is_held(why) or why.startswith(RATE_LIMIT):
        return brief(call.key or call.operation)
    if why.startswith(cause_of("")):
        return printable(why.removeprefix(cause_of("")))  # `token:HOST` would look like a secret
    if why == PERSON:
        return BY_PERSON
    if why.startswith("room for "):
        return brief(why.partition(" at ")[0])
    return brief(why.removesuffix(REACHABLE))


def _short(place: str) -> str:
    return short_host(place) or place


def next_words(call: CallStatus, step: NextStep) -> str:
    """What happens next with *call*; the page adds the times."""
    match call.state:
        case "waiting":
            return _waits(call)
        case "paused":
            return "stays paused until you continue it"
        case "left":
            return _left(call, step)
        case "unreadable":
            return "nothing by itself: no program can go on with it"
        case "quarantined":
            return "nothing by itself: it is held back until you decide"
        case "gave up" | "rejected" | "cancelled" if call.by:
            return "another call runs it again"
        case "gave up" | "rejected" if not call.ordered:
            return f"nothing by itself: {_end(call)}"
    return brief(step.text)


def _waits(call: CallStatus) -> str:
    if not call.waits_for:
        return "tries again" if call.attempt > 1 else "starts"
    if call.waits_for == PERSON:
        return f"waits for {BY_PERSON}: it has no retries left"
    if is_held(call.waits_for):
        return f"waits for {_short(place_of(call))} to work again; one call tries it for all"
    causes = [_cause(cause, call) for cause in call.waits_for.split("; ")]
    return shown(f"waits for {', and for '.join(causes)}")


def _cause(cause: str, call: CallStatus) -> str:
    if cause.startswith(cause_of("")):
        return "the answer to the question above"
    if cause.startswith(RATE_LIMIT):
        return f"{_short(call.key) or 'the server'} to take requests again"
    if cause.endswith(REACHABLE):
        return f"{_short(cause.removesuffix(REACHABLE))} to answer"
    return cause


def _left(call: CallStatus, step: NextStep) -> str:
    if call.ordered:
        return f"{ORDERED.get(call.ordered[-1], 'goes on')} when its program is started again, as ordered"
    if not call.is_resumable:
        return "nothing by itself: no program can go on with it, since what it was called with is not known"
    if step.offers[0].verb == "run":
        return "goes on when its program is started again"
    return "nothing by itself: the program that runs now has not taken it over"


def _end(call: CallStatus) -> str:
    """Why *call* is not tried any more."""
    if call.state == "rejected":
        return "it was not started"
    reason = call.reason
    if has_ended(reason, call.operation, call.key):
        return f"{brief(_short(call.key) or call.operation)} still failed when other calls tried it"
    if reason.startswith("permanent"):
        return "it would fail in the same way until its cause is gone"
    if reason.startswith(OUT_OF_RETRIES):
        return f"{counted(call.attempt, 'attempt')} failed, and no more are allowed"
    if reason.startswith(OUT_OF_TIME):
        return "the time that it may take is over"
    return shown(f"it was {reason}" if reason.startswith(("given up", "cancelled")) else reason) or "it has ended"


def remedy_words(call: CallStatus, step: NextStep) -> str:
    """What a person can do about *call*; "" if nothing, or no person is needed."""
    if call.by or (call.is_over and call.ordered) or call.state in ("succeeded", "cancelled"):
        return ""
    match call.state:
        case "left" if call.is_resumable and step.offers[0].verb == "run":
            itself = spoken().advice("left", "")  # which the next step says, too
            step_by_hand = call.remedy.removesuffix(itself).strip()
            return f"{step_by_hand} Then start its program again." if step_by_hand else "Start its program again."
        case "left" if call.is_resumable:
            return f"{RESUMED_LATER[0].upper()}{RESUMED_LATER[1:]}. Or give it up."
        case "left" | "unreadable":
            return "Give it up, and start its program again."
        case "quarantined":
            return "Find out why its program ends whenever it runs. Then retry it, or give it up."
        case "failed":
            return "Run the plan again. What is there is kept."
        case "gave up" | "rejected":
            return call.remedy or ("Start it again." if "again" in step.actions else "Start its program again.")
        case "waiting" if not call.sentence and (is_held(call.waits_for) or call.waits_for.startswith(RATE_LIMIT)):
            return "Nothing needs to be done. It goes on by itself."
    return call.remedy
