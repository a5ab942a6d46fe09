"""What a notification says: events in, one short text and its data out. Pure.

Equal failures are one item: ``12 downloads failed: the disk is full``. An incident or alert that is over before the
notification is sent is told as over, and a question that is answered by then is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from events.alert_events import AlertCleared, AlertRaised
from events.counting import as_counted
from events.event import CallEvent, Event
from events.incident_events import IncidentClosed, IncidentOpened
from events.names import display_name
from events.operation_events import GaveUp, Parked
from events.question_events import QuestionAnswered, QuestionAsked
from recovery.explain import counted, duration, explain, shown
from recovery.redact import printable
from recovery.subscribers.log import alert_in_words

Kind: TypeAlias = Literal["question", "gave up", "incident", "alert"]
"""What is notified of: questions, calls that gave up, incidents and alerts that begin or end."""

What: TypeAlias = Literal[
    "question asked", "gave up", "incident opened", "alert raised", "incident closed", "alert cleared"
]
"""The events of an item, the most urgent first."""

EVENTS: Mapping[Kind, tuple[type[Event], ...]] = {
    "question": (QuestionAsked, QuestionAnswered),
    "gave up": (GaveUp, Parked),  # a call that asks a person is counted as one that gave up
    "incident": (IncidentOpened, IncidentClosed),
    "alert": (AlertRaised, AlertCleared),
}
"""The events of each kind."""

HEADINGS: Mapping[What, tuple[str, str]] = {
    "question asked": ("question waits for an answer", "questions wait for answers"),
    "gave up": ("call failed", "calls failed"),
    "incident opened": ("incident began", "incidents began"),
    "alert raised": ("alert was raised", "alerts were raised"),
    "incident closed": ("incident is over", "incidents are over"),
    "alert cleared": ("alert is over", "alerts are over"),
}
"""How the first line of several says how many there are, in the order of the lines."""

PLURALS = {"download": "downloads", "command": "commands", "clone": "clones", "update": "updates", "server": "servers"}
"""The operations whose calls have a word of their own."""

MOST_ITEMS = 100
"""Items of one notification; further events are counted."""

MOST_NAMED = 3
"""Calls that an item names in its text."""

MOST_CALLS = 10
"""Calls that an item lists in its data."""

MOST_LINES = 20
"""Lines of the text; further ones are counted."""

MOST_CONTENT = 2000
"""Characters of a message that Discord takes."""

FORMAT: Literal["notification/1"] = "notification/1"


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
    link: str = ""
    command: str = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook or a command gets, as JSON.

    Args:
        at: When it was made, in Unix time.
        name: The program or plan that it is about; "" if it has no name.
        summary: All items as plain text: one line, or a line of counts and a line for each item.
        text: The same for Slack and Mattermost, where ``<`` would begin a link or call people.
        content: The same for Discord, of at most 2 000 characters.
        allowed_mentions: Tells Discord that the text calls no people.
        items: The most urgent first.
        left_out: Events that are in no item, because there were too many.
        unsent: Events of earlier notifications that could not be sent.
        format: The version of this form.
    """

    at: float
    name: str
    summary: str
    text: str
    content: str
    items: tuple[Item, ...]
    allowed_mentions: dict[str, list[str]] = msgspec.field(default_factory=lambda: {"parse": []})
    left_out: int = 0
    unsent: int = 0
    format: Literal["notification/1"] = FORMAT


class Digest:
    """What has happened since the latest notification. Its size is bounded.

    Args:
        target: What commands take to find the journal, a plan or a journal's file; "" names no commands.
        name_of: Names the call of an event, as a plan does; None for what has no name.
    """

    def __init__(self, target: str = "", name_of: Callable[[CallEvent], str | None] = lambda _event: None) -> None:
        self._target = target
        self._name_of = name_of
        self._items: dict[tuple[str, ...], Item] = {}
        self._left_out = 0

    def __len__(self) -> int:
        """How many events it stands for."""
        return sum(item.count for item in self._items.values()) + self._left_out

    def add(self, event: Event) -> bool:
        """Take *event*; returns whether there is something to tell then."""
        match event:
            case QuestionAnswered(name=name):
                self._items.pop(("question", name), None)
            case QuestionAsked():
                self._replace(("question", event.name), self._question(event))
            case GaveUp() | Parked():
                counts = as_counted(event)
                if isinstance(counts, GaveUp):
                    item = self._failed(counts, is_asked=isinstance(event, Parked))
                    self._put(("call", item.operation, item.cause, item.remedy), item)
            case IncidentOpened() | IncidentClosed():
                self._replace(("incident", event.operation, event.key), _incident(event))
            case AlertRaised() | AlertCleared():
                self._replace(("alert", event.alert, event.operation, event.key), _alert(event))
        return bool(self._items or self._left_out)

    def take(self, at: float, *, name: str = "", unsent: int = 0) -> Notification | None:
        """The notification of all that was added since the last time; None if there is nothing to tell."""
        if not len(self):
            return None
        order = tuple(HEADINGS)
        items = tuple(
            msgspec.structs.replace(item, text=in_words(item))
            for item in sorted(self._items.values(), key=lambda item: order.index(item.what))
        )
        left_out, self._left_out, self._items = self._left_out, 0, {}
        lines = _lines(items, left_out, unsent)
        summary = "\n".join(_fitting([f"{shown(name)}: {lines[0]}" if name else lines[0], *lines[1:]]))
        return Notification(
            at=at,
            name=shown(name),
            summary=summary,
            text=summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
            content=summary if len(summary) <= MOST_CONTENT else f"{summary[: MOST_CONTENT - 1]}\u2026",
            items=items,
            left_out=left_out,
            unsent=unsent,
        )

    def _replace(self, key: tuple[str, ...], item: Item) -> None:
        """Put *item* in the place of what was known; the end of an incident keeps its cause."""
        before = self._items.pop(key, item)
        self._put(key, msgspec.structs.replace(item, cause=item.cause or before.cause))

    def _put(self, key: tuple[str, ...], item: Item) -> None:
        known = self._items.get(key)
        if known is None and len(self._items) >= MOST_ITEMS:
            self._left_out += item.count
            return
        self._items[key] = item if known is None else _merged(known, item)

    def _question(self, event: QuestionAsked) -> Item:
        answer = {"confirm": " yes", "choice": " CHOICE", "text": " TEXT"}.get(event.kind, "")
        return Item(
            what="question asked",
            operation=event.operation,
            cause=shown("; ".join(filter(None, (event.reason, event.text)))),
            question=printable(event.name),
            link=shown(event.link),
            command=self._command("answer", event.name) + answer if self._target else "",
        )

    def _failed(self, event: GaveUp, *, is_asked: bool) -> Item:
        explained = explain(event)
        name = self._name_of(event)
        remedy = "a person is asked to say retry or give up" if is_asked else explained.remedy
        return Item(
            what="gave up",
            operation=shown(event.operation),
            key=shown(event.key),
            cause=explained.sentence or shown(event.reason) or "no reason is known",
            example=explained.said or explained.error,
            category=explained.category,
            calls=(explained.call,),
            names=tuple(filter(None, (shown(name) if name else explained.which,))),
            remedy=remedy,
            command=self._command("why", event.call),
        )

    def _command(self, verb: str, *words: str) -> str:
        return printable(shlex.join(["recovery", verb, self._target, *words])) if self._target else ""


def in_words(item: Item) -> str:
    """The line of *item*."""
    name = display_name(item.operation, item.key)
    match item.what:
        case "question asked":  # its name is not redacted: `token:HOST` would look like a secret
            said = f"a call waits for an answer to {item.question!r}{f': {item.cause}' if item.cause else ''}"
            return _sentences(said, item.link, f"answer it with: {item.command}" if item.command else "")
        case "gave up":
            said = _failed_in_words(item) if item.count > 1 else f"{name} failed{_listed(item)}: {item.cause}"
            said += f": {item.example}" if item.example and item.count == 1 else ""
            return _sentences(said, item.remedy, f"more: {item.command}" if item.command else "")
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


def _incident(event: IncidentOpened | IncidentClosed) -> Item:
    operation, key = shown(event.operation), shown(event.key)
    if isinstance(event, IncidentOpened):
        cause, category = shown(event.cause) or "its circuit is open", str(event.category or "")
        return Item(what="incident opened", operation=operation, key=key, cause=cause, category=category)
    how = {"recovered": "works again", "forced": "was switched on again by hand"}.get(event.outcome, "is forgotten")
    waited = f", {counted(event.calls, 'call')} waited" if event.calls else ""
    ended = f", {event.gave_up} of them gave up" if event.gave_up else ""
    remedy = f"{how} after {duration(event.lasted)}{waited}{ended}"
    return Item(what="incident closed", operation=operation, key=key, remedy=remedy)


def _alert(event: AlertRaised | AlertCleared) -> Item:
    return Item(
        what="alert raised" if isinstance(event, AlertRaised) else "alert cleared",
        operation=shown(event.operation),
        key=shown(event.key),
        cause=shown(alert_in_words(event)),
        category=event.cause if isinstance(event, AlertRaised) else "",
    )


def _merged(one: Item, other: Item) -> Item:
    """Both as one item: equal failures of several calls."""
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        key=one.key if one.key == other.key else "",
        calls=(*one.calls, *other.calls)[:MOST_CALLS],
        names=(*one.names, *other.names)[:MOST_CALLS],
    )


def _lines(items: tuple[Item, ...], left_out: int, unsent: int) -> list[str]:
    """What the text says, before it is cut: a line of counts where there are several."""
    lines = [item.text for item in items]
    lines += [f"{counted(left_out, 'further event')} of other kinds"] if left_out else []
    lines += [f"{counted(unsent, 'earlier event')} could not be notified of"] if unsent else []
    if len(lines) == 1:
        return lines
    counts = {what: sum(item.count for item in items if item.what == what) for what in HEADINGS}
    heads = [f"{count} {HEADINGS[what][count > 1]}" for what, count in counts.items() if count]
    return [", ".join(heads) or "notifications were lost", *lines]


def _fitting(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"and {counted(more, 'further line')}"] if more > 0 else lines


def _sentences(*parts: str) -> str:
    """The *parts* that say something, as sentences of one line."""
    return ". ".join(part.rstrip(".") for part in parts if part)
