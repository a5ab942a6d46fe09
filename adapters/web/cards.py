"""The parts of the page, made from the state of a journal. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adapters.journals.incidents import IncidentLine
from adapters.journals.next_step import Action, NextStep
from adapters.journals.status import CallStatus
from adapters.launcher.progress import Transfer, progress_words
from adapters.web.page_words import next_words, place_of, remedy_words, why_words
from adapters.web.state import MOST_CALLS, AlertCard, Bytes, CallLine, IncidentCard, QuestionCard
from events.alert_events import AlertRaised
from events.names import display_name
from recovery.explain import shown
from recovery.policies.sentences import sentence_of
from recovery.redact import brief, printable
from recovery.subscribers.log import alert_in_words

ORDER = ("quarantined", "unreadable", "left", "paused", "waiting", "queued", "running", "gave up", "rejected", "failed")
"""The states in the order in which calls are listed; the calls of all others come last."""

MOST_NAMED = 300
"""Characters of a name that the page shows."""

MOST_WAITING = 3
"""Calls that a question names."""

BUTTONS: tuple[Action, ...] = ("again", "unpause", "retry", "pause", "give up", "cancel")
"""The actions in the order of their buttons: what ends a call stands last."""

FORCED = "its program lets no call through"
"""What is said of a circuit that no failure has opened."""

FIRST_OVER = ORDER.index("gave up")


def in_order(calls: Iterable[CallStatus]) -> list[CallStatus]:
    """*calls*, those that need a look first: of those that are not over the oldest, of the others the latest."""

    def rank(call: CallStatus) -> tuple[int, float, str]:
        place = ORDER.index(call.state) if call.state in ORDER and not call.by else len(ORDER)
        return place, call.seen if place < FIRST_OVER else -call.seen, call.call

    return sorted(calls, key=rank)


def listed(calls: Iterable[CallStatus], more: Mapping[str, int]) -> tuple[list[CallStatus], dict[str, int]]:
    """The calls that the page lists, and how many there are besides, by state; *more* are counted already."""
    ordered, count = in_order(calls), dict(more)
    for call in ordered[MOST_CALLS:]:
        count[call.state] = count.get(call.state, 0) + 1
    return ordered[:MOST_CALLS], count


def call_line(call: CallStatus, step: NextStep, rate: float | None = None) -> CallLine:
    """The line of *call*, with what happens next.

    Args:
        call: The call.
        step: What happens next with it.
        rate: Bytes a second, of a download.
    """
    is_waiting = call.state in ("waiting", "paused")
    return CallLine(
        call=printable(call.call),
        name=named(call),
        operation=brief(call.operation, MOST_NAMED),
        state="repeated" if call.by else call.state,
        attempt=call.attempt,
        failures=len(call.failures),
        sentence=why_words(call),
        said=call.said,
        next=next_words(call, step),
        remedy=remedy_words(call, step),
        note=brief(call.note) if not call.is_over else "",
        due=None if call.is_over else step.due,
        deadline=(step.deadline or call.deadline) if is_waiting else None,
        waits_for=place_of(call) if is_waiting else "",
        seen=call.seen,
        bytes=bytes_of(call.transfer, rate),
        actions=tuple(sorted(step.actions, key=BUTTONS.index)),
    )


def bytes_of(transfer: Transfer | None, rate: float | None = None) -> Bytes | None:
    """How far a download is."""
    if transfer is None:
        return None
    words = progress_words(transfer.offset, transfer.size, transfer.start or 0, rate)
    return Bytes(done=transfer.offset, size=transfer.size, rate=rate, words=words)


def incident_cards(incidents: Iterable[IncidentLine]) -> tuple[IncidentCard, ...]:
    """The incidents that are open."""
    return tuple(
        IncidentCard(
            name=brief(display_name(one.operation, one.key)),
            sentence=f"{sentence_of(one.category)}: the calls wait, and one of them tries it"
            if one.category
            else FORCED,
            said=shown(one.cause),
            since=one.since,
            waiting=len(one.waiting),
            gave_up=one.gave_up,
            next_probe=None if one.is_probed else one.next_probe,
            is_probed=one.is_probed,
        )
        for one in incidents
        if one.is_open
    )


def question_card(
    name: str,
    kind: str,
    text: str,
    link: str,
    reason: str,
    choices: tuple[str, ...],
    waiting: Sequence[str],
    closed: str = "",
) -> QuestionCard:
    """A question; a *link* that is no address of the web is left out. *closed* says why it cannot be answered now.

    *waiting* are the names of the calls that wait for its answer.
    """
    return QuestionCard(
        name=printable(name),
        kind=kind,
        text=shown(text),
        link=brief(link) if link.startswith(("https://", "http://")) else "",
        reason=shown(reason),
        choices=tuple(map(brief, choices)),
        calls=len(waiting),
        waiting=tuple(waiting[:MOST_WAITING]),
        closed=closed,
    )


def alert_card(alert: AlertRaised, since: float) -> AlertCard:
    """An alert that is on *since* that Unix time."""
    about = f" of {display_name(alert.operation, alert.key)}" if alert.operation else ""
    return AlertCard(name=brief(f"{alert.alert}{about}"), sentence=shown(alert_in_words(alert)), since=since)


def chosen(value: bool | str, choices: Iterable[str]) -> bool | str:
    """The choice that the page shows as *value*; *value* itself if there is none."""
    return next((choice for choice in choices if brief(choice) == value), value)


def circuits_of(circuits: Mapping[str, str]) -> dict[str, str]:
    """The circuits that are not closed."""
    return {brief(name): state for name, state in circuits.items() if state != "closed"}


def named(call: CallStatus) -> str:
    """What people know *call* by: its name in the plan, or its operation, its key, and what tells it from others."""
    key, which = ("" if call.key in call.which else call.key), f" ({call.which})" if call.which else ""
    return brief(call.name or f"{display_name(call.operation, key)}{which}", MOST_NAMED)
