"""The top line of the page: what needs a look first, in few words. Pure, but for the local time of day."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from adapters.web.state import CallLine, IncidentCard, QuestionCard
from events.names import display_name
from recovery.explain import counted
from recovery.policies.sentence_details import short_host

MOST_PARTS = 2
"""Parts of the line; the page itself says the rest."""

NOUNS = {"download": "download", "git": "repository", "server": "server", "command": "command", "packages": "install"}
"""What a call of an operation of launch plans is called; any other is a call."""

PLURALS = {"repository": "repositories"}

STUCK = {
    "quarantined": "in quarantine",
    "unreadable": "with a damaged row",
    "left": "interrupted",
    "paused": "paused",
}

FAILED = ("gave up", "rejected", "failed")


def time_of_day(moment: float) -> str:
    """*moment*, a Unix time, as the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def headline(
    calls: Collection[CallLine],
    *,
    more: Mapping[str, int] = {},
    incidents: Iterable[IncidentCard] = (),
    questions: Sequence[QuestionCard] = (),
    is_live: bool = True,
    said: Callable[[float], str] = time_of_day,
) -> str:
    """The state in one short line: ``2 downloads wait for huggingface.co, next try 14:03:20``.

    It has no countdown and no rate, so that it changes, and is read aloud, only when something happens.

    Args:
        calls: The calls that are listed.
        more: How many calls there are besides, by state.
        incidents: The incidents that are open.
        questions: The questions that are open.
        is_live: Whether a process runs the calls: else what it left comes before its questions.
        said: Says a Unix time as a time of day.
    """
    asked = {question.name for question in questions}
    waiting = [call for call in calls if call.state == "waiting"]
    answers = _asked([call for call in waiting if call.waits_for in asked], questions)
    waits = _waiting([call for call in waiting if call.waits_for not in asked], incidents, said)
    states = _states(calls, more)
    parts = [*answers, *waits, *states] if is_live else [*states, *answers, *waits]
    failed = _failed(calls, more)
    told = [*parts[: MOST_PARTS - len(failed)], *failed]
    left = _number("left", calls, more)
    if left and not any(part.endswith(STUCK["left"]) for part in told):
        told.append(f"{left} {'was' if left == 1 else 'were'} {STUCK['left']}")
    return "; ".join(told) or _done(calls, more)


def _asked(calls: Collection[CallLine], questions: Sequence[QuestionCard]) -> list[str]:
    if len(questions) == 1 and calls:
        return [f"{_counted(calls)} {_wait(calls)} for your answer"]
    if len(questions) == 1:
        return ["a question waits for your answer"]
    return [f"{len(questions)} questions wait for your answers"] if questions else []


def _waiting(calls: Collection[CallLine], incidents: Iterable[IncidentCard], said: Callable[[float], str]) -> list[str]:
    """What *calls* wait for, the largest group first."""
    groups: dict[str, list[CallLine]] = {}
    for call in calls:
        groups.setdefault(call.waits_for, []).append(call)
    probes = {card.name: card.next_probe for card in incidents}
    if len(groups) > MOST_PARTS and max(map(len, groups.values())) == 1:
        groups = {"": list(calls)}  # each waits for something else
    told = []
    for place, waiting in sorted(groups.items(), key=lambda one: (-len(one[1]), one[0])):
        names = {name for call in waiting for name in (display_name(call.operation, place), call.operation)}
        tries = [due for name in names if (due := probes.get(name)) is not None]
        tries = tries or [call.due for call in waiting if call.due is not None]
        when = f", next try {said(min(tries))}" if tries else ""
        for_what = f" for {short_host(place) or place}" if place else ""
        told.append(f"{_counted(waiting)} {_wait(waiting)}{for_what}{when}")
    return told


def _wait(calls: Collection[CallLine]) -> str:
    return "waits" if len(calls) == 1 else "wait"


def _number(state: str, calls: Iterable[CallLine], more: Mapping[str, int]) -> int:
    return sum(call.state == state for call in calls) + more.get(state, 0)


def _failed(calls: Collection[CallLine], more: Mapping[str, int]) -> list[str]:
    failed = sum(_number(state, calls, more) for state in FAILED)
    return [f"{failed} failed"] if failed else []


def _done(calls: Collection[CallLine], more: Mapping[str, int]) -> str:
    done = _number("succeeded", calls, more)
    return f"all done: {counted(done, 'call')} succeeded" if done else "nothing runs" if calls else "no calls"


def _states(calls: Collection[CallLine], more: Mapping[str, int]) -> list[str]:
    parts = [
        f"{_counted(those)} {words}"
        for state, words in STUCK.items()
        if (those := [call for call in calls if call.state == state])
    ]
    running = [call for call in calls if call.state == "running"]
    if number := len(running) + more.get("running", 0):
        parts.append(f"{_counted(running, number)} {'runs' if number == 1 else 'run'}")
    return parts


def _counted(calls: Collection[CallLine], number: int | None = None) -> str:
    """How many *calls* there are, or that *number*, by their common noun."""
    number = len(calls) if number is None else number
    nouns = Counter(NOUNS.get(call.operation.partition(" ")[0], "call") for call in calls)
    noun = next(iter(nouns)) if len(nouns) == 1 else "call"
    if number == 1:
        return f"1 {noun}"
    return f"{number} {PLURALS.get(noun, f'{noun}s')}"
