"""One line of a notification, and its data: what happened, to how many calls, and what a person can do. Pure."""

from __future__ import annotations

import shlex
from typing import Literal, TypeAlias

import msgspec

from events.alert_events import AlertCleared, AlertRaised
from events.incident_events import IncidentClosed, IncidentOpened
from events.names import display_name
from events.operation_events import GaveUp
from events.question_events import QuestionAsked
from recovery.explain import counted, duration, explain, shown
from recovery.policies.sentence_details import Known
from recovery.policies.sentences import Stands
from recovery.policies.sentences import in_words as words_of_failure
from recovery.redact import printable
from recovery.subscribers.log import alert_in_words

What: TypeAlias = Literal[
    "question asked", "gave up", "incident opened", "alert raised", "incident closed", "alert cleared"
]
"""The events of an item, the most urgent first."""


PLURALS = {"download": "downloads", "command": "commands", "clone": "clones", "update": "updates", "server": "servers"}
"""The operations whose calls have a word of their own."""

MOST_NAMED = 3
"""Calls that an item names in its text."""

MOST_CALLS = 10
"""Calls that an item lists in its data."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a notification. Every text is one printable line without secrets.

    Args:
        what: What happened.
        text: The line.
        count: How many events it stands for.
        operation: The name of the operation; "" for none.
        key: Its key, if all events share it.
        cause: What went wrong, in plain words.
        example: What the first failure said itself: the line of its tool, or its exception.
        category: The category of the failure, "" if there is none.
        calls: The ids of the first ten calls.
        names: What tells these calls from others, where that is known.
        remedy: What happens next, and what a person can do.
        question: The name of the question.
        choices: The answers to choose from: the first ten; none if it is no choice.
        link: Where a person does what is asked.
        command: The command that shows more, or that answers.
    """

    what: What
    text: str = ""
    count: int = 1
    operation: str = ""
    key: str = ""
    cause: str = ""
    example: str = ""
    category: str = ""
    calls: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    remedy: str = ""
    question: str = ""
    choices: tuple[str, ...] = ()
    link: str = ""
    command: str = ""


def asked(event: QuestionAsked, target: str) -> Item:
    """The item of a question."""
    answer = {"confirm": "yes", "choice": "CHOICE", "text": "TEXT"}.get(event.kind, "")
    return Item(
        what="question asked",
        operation=shown(event.operation),
        cause=shown("; ".join(filter(None, (event.reason, event.text)))),
        question=printable(event.name),
        choices=tuple(map(shown, event.choices[:MOST_CALLS])),
        link=shown(event.link),
        command=_command("answer", target, event.name, answer),
    )


def failed(event: GaveUp, name: str, target: str, stands: Stands) -> Item:
    """The item of a call that gave up, or asks a person, as *stands* says. A plan knows it by *name*."""
    explained = explain(event, stands=stands)
    return Item(
        what="gave up",
        operation=shown(event.operation),
        key=shown(event.key),
        cause=explained.sentence or shown(event.reason) or "no reason is known",
        example=explained.said or explained.error,
        category=explained.category,
        calls=(explained.call,),
        names=tuple(filter(None, (shown(name) if name else explained.which,))),
        remedy=explained.remedy,
        command=_command("why", target, event.call),
    )


def in_general(event: GaveUp, stands: Stands) -> tuple[str, str]:
    """What went wrong, and what a person can do, without what differs between calls: sizes, hosts, folders."""
    if event.failure is None:
        return shown(event.reason), ""
    cause, remedy = words_of_failure(event.failure, Known("", ()), "", stands)
    return shown(cause), shown(remedy)


def _command(verb: str, target: str, *words: str) -> str:
    return printable(shlex.join(["recovery", verb, target, *filter(None, words)])) if target else ""


def in_words(item: Item) -> str:
    """The line of *item*."""
    name = display_name(item.operation, item.key)
    match item.what:
        case "question asked":  # its name is not redacted: `token:HOST` would look like a secret
            choices = f" ({', '.join(item.choices)})" if item.choices else ""
            said = f"a call waits for an answer to {item.question!r}{choices}{f': {item.cause}' if item.cause else ''}"
            return _sentences(said, item.link, f"Answer it with: {item.command}" if item.command else "")
        case "gave up":
            which = "" if item.names and item.names[0] in name.split() else _listed(item)
            said = _failed_in_words(item) if item.count > 1 else f"{name} failed{which}: {item.cause}"
            said += f": {item.example}" if item.example and item.count == 1 else ""
            return _sentences(said, item.remedy, f"More: {item.command}" if item.command else "")
        case "incident opened":
            return f"{name}: {item.cause}; new calls wait or are rejected until it works again"
        case "incident closed":
            return f"{name} {item.remedy}{f' (it was: {item.cause})' if item.cause else ''}"
    return f"{name or 'all operations'}: {item.cause}"


def _failed_in_words(item: Item) -> str:
    calls = PLURALS.get(item.operation, f"calls of {item.operation}")
    return f"{item.count} {calls} failed{f' at {item.key}' if item.key else ''}: {item.cause}{_listed(item)}"


def _listed(item: Item) -> str:
    """The names of the calls of *item*, in brackets; further ones are counted."""
    named = item.names[:MOST_NAMED]
    more = item.count - len(named)
    return f" ({', '.join(named)}{f' and {more} more' if more else ''})" if named else ""


def of_incident(event: IncidentOpened | IncidentClosed) -> Item:
    """The item of an incident that began or ended."""
    operation, key = shown(event.operation), shown(event.key)
    if isinstance(event, IncidentOpened):
        cause, category = shown(event.cause) or "its circuit is open", str(event.category or "")
        return Item(what="incident opened", operation=operation, key=key, cause=cause, category=category)
    how = {"recovered": "works again", "forced": "was switched on again by hand"}.get(event.outcome, "is forgotten")
    waited = f", {counted(event.calls, 'call')} waited" if event.calls else ""
    ended = f", {event.gave_up} of them gave up" if event.gave_up else ""
    remedy = f"{how} after {duration(event.lasted)}{waited}{ended}"
    return Item(what="incident closed", operation=operation, key=key, remedy=remedy)


def of_alert(event: AlertRaised | AlertCleared) -> Item:
    """The item of an alert that was raised or cleared."""
    return Item(
        what="alert raised" if isinstance(event, AlertRaised) else "alert cleared",
        operation=shown(event.operation),
        key=shown(event.key),
        cause=shown(alert_in_words(event)),
        category=event.cause if isinstance(event, AlertRaised) else "",
    )


def merged(one: Item, other: Item, cause: str, remedy: str) -> Item:
    """Both as one item: like failures of several calls. Where they differ it has the *cause* and *remedy* of all."""
    return msgspec.structs.replace(
        one,
        cause=one.cause if one.cause == other.cause else cause,
        remedy=one.remedy if one.remedy == other.remedy else remedy,
        count=one.count + other.count,
        key=one.key if one.key == other.key else "",
        calls=(*one.calls, *other.calls)[:MOST_CALLS],
        names=(*one.names, *other.names)[:MOST_CALLS],
    )


def _sentences(*parts: str) -> str:
    """The *parts* that say something, as sentences of one line."""
    ended = (part if part.endswith(("?", "!")) else f"{part.rstrip('.')}." for part in parts if part)
    return " ".join(ended).removesuffix(".")
