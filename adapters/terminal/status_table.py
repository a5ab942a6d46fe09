"""The state of a journal for people: each call with what failed, why, what happens next, and the id to act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from adapters.journals.find import title
from adapters.journals.next_step import NextStep, Source, next_step, outcome_lines, said, when
from adapters.journals.status import CallStatus, JournalStatus
from adapters.launcher.progress import progress_words
from adapters.terminal.screen import STYLES, incident_lines
from events.names import display_name
from recovery.explain import counted
from recovery.installation import extra
from recovery.policies.incidents import has_ended, is_held
from recovery.redact import brief

with extra("launcher"):
    from rich.console import Console, Group
    from rich.table import Column, Table
    from rich.text import Text

ORDER = ("quarantined", "unreadable", "left", "paused", "waiting", "queued", "running", "gave up", "rejected", "failed")
"""The states in the order in which they are shown; the calls of all others come last, the latest first."""

FIRST_OVER = ORDER.index("gave up")

MOST_FINISHED = 10
"""Calls that need no action, of which more are counted only."""

MOST_ALIKE = 3
"""Calls that stand alike for one incident, of which more are counted only."""

ALIKE = {"waiting": "wait for", "left": "were left as they waited for", "ended": "gave up with"}
"""How calls stand for an incident, by their state."""


def fitting_table(
    status: JournalStatus, source: Path, *, now: float, show_all: bool = False, console: Console
) -> Group:
    """The same as ``status_table``, of as many calls as *console* has lines for."""
    most = console.height
    while True:
        table = status_table(status, source, now=now, show_all=show_all, most=most)
        lines = len(console.render_lines(table))
        if lines < console.height or most <= 1:
            return table
        most = min(most - 1, max(most * console.height // lines, 1))


def status_table(
    status: JournalStatus, source: Path, *, now: float, show_all: bool = False, most: int | None = None
) -> Group:
    """What *status* says, for a console of any width: the incidents, the calls, and whether a process writes it.

    Args:
        status: A journal.
        source: What to name in commands: the journal's file, or its plan.
        now: The Unix time.
        show_all: Show every call, not the latest alone of those that succeeded or were cancelled, and a few alone of
            those that stand alike for one incident.
        most: How many calls are shown at most; the others are counted.
    """
    calls = in_order(status.calls)
    needed = sum(_rank(call) < len(ORDER) for call in calls)
    shown, alike = (calls, []) if show_all else _folded(calls[: needed + MOST_FINISHED])
    shown, cut = shown[:most], Counter(call.state for call in shown[most:] if most is not None)
    table = calls_table((call, (*call_lines(call, now), *_next(call, status, source, now))) for call in shown)
    more = dict(status.more)
    done = (
        max(len(calls) - needed - MOST_FINISHED, 0) * (not show_all)
        + more.pop("succeeded", 0)
        + more.pop("cancelled", 0)
    )
    others = alike + ([f"{done} more that succeeded or were cancelled"] if done else [])
    others += [f"{count} more: {state}" for state, count in more.items()]
    told = {display_name(one.operation, one.key) for one in status.incidents if one.line(now) is not None}
    circuits = [Text(f"circuit {brief(name)}: {state}") for name, state in status.circuits.items() if name not in told]
    problems = [f"{status.unreadable} rows cannot be read"] if status.unreadable else []
    problems += [f"{brief(name)} cannot be read" for name in status.damaged]
    writer = "a running process is writing it" if status.is_being_written else "no process is writing it"
    return Group(
        *incident_lines(status.incidents, now),
        table if calls else Text("no calls"),
        *(Text(f"and {other}; --all shows them", style="dim") for other in others),
        *(
            Text(f"and {count} more: {state}; the terminal has no lines for them", style="dim")
            for state, count in cut.items()
        ),
        *circuits,
        *(Text(problem, style="red") for problem in problems),
        Text(f"journal {brief(status.path)}: {writer}", style="dim"),
    )


def _folded(calls: Iterable[CallStatus]) -> tuple[list[CallStatus], list[str]]:
    """*calls*, but a few of those that stand alike for one incident, and how many more there are."""
    shown: list[CallStatus] = []
    alike: Counter[str] = Counter()
    for call in calls:
        state = "ended" if has_ended(call.reason, call.operation, call.key) else call.state
        if state in ALIKE and (state == "ended" or is_held(call.waits_for)):
            what = f"{ALIKE[state]} incident {brief(display_name(call.operation, call.key))}"
            alike[what] += 1
            if alike[what] > MOST_ALIKE:
                continue
        shown.append(call)
    return shown, [f"{number - MOST_ALIKE} more {what}" for what, number in alike.items() if number > MOST_ALIKE]


def calls_table(calls: Iterable[tuple[CallStatus, Iterable[Text]]]) -> Table:
    """Each of *calls* with its state and its lines."""
    table = Table.grid(
        Column(no_wrap=True, width=11), Column(overflow="fold", ratio=1), padding=(0, 1, 0, 0), expand=True
    )
    for call, lines in calls:
        table.add_row(Text(call.state, style=STYLES.get(call.state, "red")), Text("\n").join(lines))
    return table


def in_order(calls: Iterable[CallStatus]) -> list[CallStatus]:
    """*calls* in the order in which they are shown: of those that are not over the oldest first."""
    return sorted(calls, key=lambda call: (_rank(call), call.seen if _rank(call) < FIRST_OVER else -call.seen))


def _rank(call: CallStatus) -> int:
    return ORDER.index(call.state) if call.state in ORDER else len(ORDER)


def call_lines(call: CallStatus, now: float) -> Iterator[Text]:
    """*call*, what failed in it, and how far it is."""
    which = f" ({call.which})" if call.which and not call.name else ""
    restarts = f", {counted(call.restarts, 'restart')}" if call.restarts else ""
    about = f"attempt {call.attempt}{restarts}, call {call.call}, {when(call.seen, now)}"
    yield Text.assemble((brief(title(call)), "bold"), f"{which}  ", (brief(about), "dim"))
    if call.state not in ("succeeded", "failed") and call.cause:
        often = f"{len(call.failures)} failures, last: " if len(call.failures) > 1 else ""
        yield Text(brief(often + call.cause))
    if (there := call.transfer) is not None and (words := progress_words(there.offset, there.size, there.start or 0)):
        yield Text(words)
    if call.state == "running" and call.note:
        yield Text(brief(call.note))


def _next(call: CallStatus, status: JournalStatus, source: Path, now: float) -> Iterator[Text]:
    """What happens next with *call*, and, where it needs a person, what can be done."""
    if call.state in ("failed", "succeeded"):
        yield from (Text(brief(line)) for line in outcome_lines(call))
    if call.state in ("running", "cancelled", "succeeded"):
        return
    yield step_line(next_step(call, status, now), source, call, now)


def step_line(step: NextStep, source: Source, call: CallStatus, now: float) -> Text:
    """The line of *step*: what happens next with *call*, and, where it needs a person, what can be done."""
    offers = ", ".join(said(offer, source, call) for offer in step.offers[: step.foremost])
    return Text(brief("; ".join(filter(None, (step.line(now), offers)))))
