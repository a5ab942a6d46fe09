"""The top line of the page: what needs a look first, in few words. Pure, but for the local time of day."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from adapters.web.state import CallLine, IncidentCard, QuestionCard
from events.names import display_name
from recovery.explain import counted

MOST_PARTS = 2
"""Parts of the line; the page itself says the rest."""

NOUNS = {"download": "download", "git": "repository", "server": "server", "command": "command", "packages": "install"}
"""What a call of an operation of launch plans is called; any other is a call."""

PLURALS = {"repository": "repositories"}

STUCK = {
    "quarantined": "in quarantine",
    "unreadable": "with a damaged row",
    "left": "left by a process that is gone",
    "paused": "paused",
}


def time_of_day(moment: float) -> str:
    """*moment*, a Unix time, as the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def headline(
    calls: Collection[CallLine],
    *,
    more: Mapping[str, int] = {},
    incidents: Iterable[IncidentCard] = (),
    questions: Sequence[QuestionCard] = (),
    said: Callable[[float], str] = time_of_day,
) -> str:
    """The state in one short line: ``2 downloads wait for huggingface.co, next try 14:03:20``.

    It has no countdown and no rate, so that it changes, and is read aloud, only when something happens.

    Args:
        calls: The calls that are listed.
        more: How many calls there are besides, by state.
        incidents: The incidents that are open.
        questions: The questions that are open.
        said: Says a Unix time as a time of day.
    """
    asked = {question.name for question in questions}
    waiting = [call for call in calls if call.state == "waiting" and call.waits_for not in asked]
    parts = [*_asked(questions), *_waiting(waiting, incidents, said), *_states(calls, more)]
    return "; ".join(parts[:MOST_PARTS]) or "no calls"


def _asked(questions: Sequence[QuestionCard]) -> list[str]:
    if len(questions) == 1:
        return [f"a question waits for an answer: {questions[0].name}"]
    return [f"{len(questions)} questions wait for an answer"] if questions else []


def _waiting(calls: Iterable[CallLine], incidents: Iterable[IncidentCard], said: Callable[[float], str]) -> list[str]:
    """What *calls* wait for, the largest group first."""
    groups: dict[str, list[CallLine]] = {}
    for call in calls:
        groups.setdefault(call.waits_for, []).append(call)
    probes = {card.name: card.next_probe for card in incidents}
    told = []
    for place, waiting in sorted(groups.items(), key=lambda one: (-len(one[1]), one[0])):
        names = {name for call in waiting for name in (display_name(call.operation, place), call.operation)}
        tries = [due for name in names if (due := probes.get(name)) is not None]
        tries = tries or [call.due for call in waiting if call.due is not None]
        wait = "waits" if len(waiting) == 1 else "wait"
        when = f"next try {said(min(tries))}" if tries else ""
        for_what = f" for {place}" if place else ""
        told.append(f"{_counted(waiting)} {wait}{for_what}{', ' if when else ''}{when}")
    return told


def _states(calls: Iterable[CallLine], more: Mapping[str, int]) -> list[str]:
    by_state: dict[str, list[CallLine]] = {}
    for call in calls:
        by_state.setdefault(call.state, []).append(call)
    parts = [f"{_counted(by_state[state])} {words}" for state, words in STUCK.items() if state in by_state]
    failed = sum(len(by_state.get(state, ())) + more.get(state, 0) for state in ("gave up", "rejected", "failed"))
    running = len(by_state.get("running", ())) + more.get("running", 0)
    done = len(by_state.get("succeeded", ())) + more.get("succeeded", 0)
    if running:
        parts.append(f"{_counted(by_state.get('running', ()), running)} {'runs' if running == 1 else 'run'}")
    if failed:
        parts.append(f"{failed} failed")
    if done and not parts:
        parts.append(f"all done: {counted(done, 'call')} succeeded")
    return parts


def _counted(calls: Collection[CallLine], number: int | None = None) -> str:
    """How many *calls* there are, or that *number*, by their common noun."""
    number = len(calls) if number is None else number
    nouns = Counter(NOUNS.get(call.operation.partition(" ")[0], "call") for call in calls)
    noun = next(iter(nouns)) if len(nouns) == 1 else "call"
    if number == 1:
        return f"1 {noun}"
    return f"{number} {PLURALS.get(noun, f'{noun}s')}"
