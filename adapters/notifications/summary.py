"""What a notification says: events in, one short text and its data out. Pure.

Equal failures are one item: ``12 downloads failed: the disk is full``. An incident or alert that is over before the
notification is sent is told as over, and a question that is answered by then is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

import msgspec

from adapters.notifications.items import Item, What, asked, failed, in_general, in_words, merged, of_alert, of_incident
from events.alert_events import AlertCleared, AlertRaised
from events.counting import as_counted
from events.event import CallEvent, Event
from events.incident_events import IncidentClosed, IncidentOpened
from events.operation_events import GaveUp, Parked
from events.question_events import QuestionAnswered, QuestionAsked
from recovery.explain import counted, shown
from recovery.policies.sentences import Stands

Kind: TypeAlias = Literal["question", "gave up", "incident", "alert"]
"""What is notified of: questions, calls that gave up, incidents and alerts that begin or end."""

KINDS: tuple[Kind, ...] = get_args(Kind)

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

ORDER = tuple(HEADINGS)

MOST_ITEMS = 100
"""Items of one notification, the most urgent ones; further events are counted."""

MOST_LINES = 20
"""Lines of the text; further ones are counted."""

MOST_CONTENT = 2000
"""Characters of a message that Discord takes."""

MENTION = re.compile(r"(?<!\w)@(?=\w)")
"""``@channel``, which calls people in Mattermost; no address, as in ``git@example.org``."""

FORMAT: Literal["notification/1"] = "notification/1"


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook or a command gets, as JSON.

    Args:
        format: The version of this form.
        at: When it was made, in Unix time.
        name: The program or plan that it is about; "" if it has no name.
        summary: All items as plain text: one line, or a line of counts and a line for each item.
        text: The same for Slack and Mattermost: nothing in it calls people, or hides the address of a link.
        content: The same for Discord, of at most 2 000 characters.
        allowed_mentions: Tells Discord that the text calls no people.
        items: The most urgent first.
        left_out: Events that are in no item, because there were too many.
        unsent: Events of earlier notifications that could not be sent.
    """

    format: Literal["notification/1"] = FORMAT
    at: float
    name: str
    summary: str
    text: str
    content: str
    allowed_mentions: dict[str, list[str]] = msgspec.field(default_factory=lambda: {"parse": []})
    items: tuple[Item, ...]
    left_out: int = 0
    unsent: int = 0


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
                self._replace(("question", event.name), asked(event, self._target))
            case GaveUp() | Parked():
                counts = as_counted(event)
                if isinstance(counts, GaveUp):
                    stands: Stands = "asks" if isinstance(event, Parked) else "ended"
                    item = failed(counts, self._name_of(event) or "", self._target, stands)
                    self._put(("call", item.operation, item.category, *in_general(counts, stands)), item)
            case IncidentOpened() | IncidentClosed():
                self._replace(("incident", event.operation, event.key), of_incident(event))
            case AlertRaised() | AlertCleared():
                self._replace(("alert", event.alert, event.operation, event.key), of_alert(event))
        return bool(self._items or self._left_out)

    def take(self, at: float, *, name: str = "", unsent: int = 0) -> Notification | None:
        """The notification of all that was added since the last time; None if there is nothing to tell."""
        if not len(self):
            return None
        items = tuple(
            msgspec.structs.replace(item, text=in_words(item))
            for item in sorted(self._items.values(), key=lambda item: ORDER.index(item.what))
        )
        left_out, self._left_out, self._items = self._left_out, 0, {}
        lines = _lines(items, left_out, unsent)
        summary = "\n".join(_fitting([f"{shown(name)}: {lines[0]}" if name else lines[0], *lines[1:]]))
        content = _for_chats(summary)
        return Notification(
            at=at,
            name=shown(name),
            summary=summary,
            text=content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
            content=content if len(content) <= MOST_CONTENT else f"{content[: MOST_CONTENT - 1]}\u2026",
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
        self._items[key] = item if known is None else merged(known, item, *key[-2:])
        if len(self._items) > MOST_ITEMS:  # the latest of the least urgent ones makes room
            self._left_out += self._items.pop(max(reversed(self._items), key=self._urgency)).count

    def _urgency(self, key: tuple[str, ...]) -> int:
        return ORDER.index(self._items[key].what)


def _for_chats(text: str) -> str:
    """*text* where Markdown is read: nothing calls people, and no other words stand for the address of a link."""
    return MENTION.sub("\uff20", text).replace("](", "] (")


def _lines(items: tuple[Item, ...], left_out: int, unsent: int) -> list[str]:
    """What the text says, before it is cut: a line of counts where there are several."""
    lines = [item.text for item in items]
    lines += [f"{counted(left_out, 'further event')} of other kinds"] if left_out else []
    lines += [f"{counted(unsent, 'earlier event')} could not be notified of"] if unsent else []
    if len(lines) == 1:
        return lines
    counts = [(sum(item.count for item in items if item.what == what), said) for what, said in HEADINGS.items()]
    heads = [f"{count} {said[count > 1]}" for count, said in counts if count]
    return [", ".join(heads) or "notifications were lost", *lines]


def _fitting(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"and {counted(more, 'further line')}"] if more > 0 else lines
