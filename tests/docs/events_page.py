"""Write the tables of docs/reference/events.md from the classes of events, and from what a journal keeps of each.

python -m tests.docs.events_page
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from adapters.memory import MemoryStore
from events import event as bases
from events import operation_events
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.kinds import EVENTS, ON_REQUEST
from events.operation_events import FailureClassified
from recovery import Recovery
from tests.docs.plans_page import meanings, own_fields

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "events.md"
BEGIN = "<!-- `make pages` writes what follows from the classes in events/ -->\n"
BASES: tuple[type[Event], ...] = (bases.Event, bases.CallEvent, operation_events.Outcome)
"""The classes that other events extend; their fields are listed once."""
DURABILITIES = ("lazy", "journal", "strict")

SECTIONS: dict[str, tuple[str, ...]] = {
    "Attempts": (
        "OperationStarted", "OperationFailed", "FailureClassified", "RetryScheduled", "Parked", "CheckpointSaved",
        "ProgressMade", "CallSteered",
    ),
    "Ends of calls": (
        "OperationSucceeded", "OperationRecovered", "GaveUp", "CallRejected", "OperationCancelled",
    ),
    "Calls across processes": (
        "OperationInterrupted", "OperationResumed", "CallLeftPending", "OperationQuarantined", "OperationRepeated",
        "CallTraced",
    ),
    "Calls of a cluster": ("CallHandedBack", "OutcomeHeld", "OutcomeDelivered", "OutcomeSuperseded"),
    "Circuits and incidents": (
        "CircuitOpened", "CircuitHalfOpened", "CircuitClosed", "IncidentOpened", "IncidentClosed",
    ),
    "Questions": ("QuestionAsked", "QuestionAnswered", "QuestionReopened"),
    "The journal": ("JournalDegraded", "JournalRestored", "JournalQuarantined"),
    "The bus, the monitor and the clock": (
        "SubscriberFailed", "EventsDropped", "AlertRaised", "AlertCleared", "ClockJumped",
    ),
}  # fmt: skip
"""The events by what they are about."""

WHEN: dict[str, tuple[str, str]] = {
    # Event: when it is published, and by which part.
    "OperationStarted": (
        "before each attempt, the first and those after a wait; once more each time that a deferred attempt asks again",
        "the runner, or `operation.start()` and `attempt.next()`",
    ),
    "OperationFailed": ("when an attempt raised", "the runner, or `attempt.fail(error)`"),
    "FailureClassified": ("after `OperationFailed`, as an answer to it", "the subscriber `Classify`"),
    "RetryScheduled": (
        "after the failure, when all verdicts are joined and the strictest is `Retry`",
        "the runner, or `attempt.fail(error)`",
    ),
    "Parked": (
        "after the failure, when all verdicts are joined and the strictest is `Park`; or after an `OperationStarted` "
        "whose attempt is deferred",
        "the runner, or `attempt.fail(error)`",
    ),
    "CheckpointSaved": (
        "when the function calls `recovery.context.checkpoint(...)`; when a repeated call begins with the checkpoint "
        "of the former one",
        "the attempt",
    ),
    "ProgressMade": (
        "when the function of a resumable call calls `recovery.context.progress(...)` and is farther than any attempt "
        "before, from one second after its first progress on",
        "the attempt",
    ),
    "CallSteered": (
        "when a command of a person is carried out, before what it leads to",
        "`service.calls`, or the journal's thread for a command from outside",
    ),
    "OperationSucceeded": (
        "when an attempt returned; after `OperationRecovered`, if an attempt had failed",
        "the runner, or `attempt.succeed()`",
    ),
    "OperationRecovered": (
        "when an attempt returned after an attempt had failed",
        "the runner, or `attempt.succeed()`",
    ),
    "GaveUp": (
        "after the failure, when all verdicts are joined and the strictest is `GiveUp`; when a wait ends the call, as "
        "a deadline or a command does",
        "the runner, or `attempt.fail(error)`",
    ),
    "CallRejected": (
        "after an `OperationStarted` whose first attempt must not begin, and does not wait",
        "the runner, or `operation.start()`",
    ),
    "OperationCancelled": (
        "when the call is cancelled in an attempt or a wait; in place of `GaveUp` after a failure of the category "
        "cancelled",
        "the runner, or `attempt.cancel()`",
    ),
    "OperationInterrupted": (
        "when the service is closed while the call runs; when the caller that runs a joined call is cut off; when a "
        "resumed call must not begin here",
        "the runner, or the service that is closed",
    ),
    "CallHandedBack": (
        "when a leg of a cluster's call ends without an outcome: a wait is too long for the lease, the node drains, "
        "its task is cancelled; or, of a leg that a dead process left, when the journal is read next",
        "`recovery.leased`, or the journal's thread",
    ),
    "OutcomeHeld": ("when a call has ended here and the servers have not taken its outcome", "`leased.hold(...)`"),
    "OutcomeDelivered": ("when the cluster has taken an outcome that was held", "`leased.settle(...)`"),
    "OutcomeSuperseded": (
        "when the cluster refuses an outcome that was held: another node has claimed the call since",
        "`leased.settle(...)`",
    ),
    "OperationResumed": (
        "when `service.resume()`, an equal call, or the adoption of a dead process's file takes the call",
        "the resumption",
    ),
    "CallLeftPending": ("once for each call and reason, when the resumption leaves a call", "the resumption"),
    "OperationQuarantined": (
        "when the resumption finds a call whose last allowed attempt died with its process",
        "the resumption",
    ),
    "OperationRepeated": (
        "when `service.again(...)` or a command runs a call again: first of the new call, then of the former one",
        "the runner",
    ),
    "CallTraced": (
        "after the first `OperationStarted` or `OperationResumed` of a resumable call, if calls are traced",
        "`adapters.metrics.tracing.Tracing`",
    ),
    "CircuitOpened": (
        "when the failure is counted that opens the circuit: after `GaveUp` where calls count, before the outcome "
        "where attempts count; when a person forces it open",
        "the subscriber `Break`, or `service.circuits.force`",
    ),
    "CircuitHalfOpened": (
        "when the first attempt asks after the break; when a person forces it",
        "the subscriber `Break`, or `service.circuits.force`",
    ),
    "CircuitClosed": (
        "after the `OperationSucceeded` of the last probe that was needed; when a person forces it; when it is "
        "forgotten",
        "the subscriber `Break`, or `service.circuits.force`",
    ),
    "IncidentOpened": (
        "after the `CircuitOpened` of a circuit that has no incident, unless it only counts (`metrics_only`)",
        "the subscriber `Incidents`",
    ),
    "IncidentClosed": ("after `CircuitClosed`", "the subscriber `Incidents`"),
    "QuestionAsked": ("when the first call of this process waits for the question", "`service.calls.question(...)`"),
    "QuestionAnswered": ("when an answer is given in this process", "`service.calls.answer(...)`"),
    "QuestionReopened": (
        "when a call is denied again after the answer, or the program reopens the question",
        "`service.calls`",
    ),
    "JournalDegraded": ("when the store fails, once for each reason in a row", "the journal's thread"),
    "JournalRestored": ("when the first batch after that is written", "the journal's thread"),
    "JournalQuarantined": ("when the store is opened and sets a file aside", "the journal's thread"),
    "SubscriberFailed": ("after the event on which the subscriber raised", "the bus"),
    "EventsDropped": ("once for each subscription, at the first event that it misses", "the queue of the subscriber"),
    "AlertRaised": ("when the monitor counts events, and at each `snapshot()` and scrape", "the monitor"),
    "AlertCleared": ("as `AlertRaised`", "the monitor"),
    "ClockJumped": (
        "at the first look at the clocks after the jump: when a wait ends or a failure is handled",
        "the waits",
    ),
}  # fmt: skip


def tables() -> str:
    """The sections of the page that are made from the code."""
    sections = [f"\n## What every event has\n{''.join(map(_base, BASES))}"]
    for title, names in SECTIONS.items():
        sections.append(f"\n## {title}\n{''.join(_event(_kinds()[name]) for name in names)}")
    return "".join(sections)


def _kinds() -> dict[str, type[Event]]:
    return {kind.__name__: kind for kind in EVENTS}


def fields_of(kind: type[Event]) -> dict[str, str]:
    """The fields that *kind* itself has, each with what its docstring says of it."""
    said = meanings(kind) if "\nArgs:" in inspect.cleandoc(kind.__doc__ or "") else {}
    return {field.name: _in_markdown(said[field.name]) for field in own_fields(kind)}


def _base(kind: type[Event]) -> str:
    whose = {"Event": "every event", "CallEvent": "every event of a call", "Outcome": "outcomes of a failure"}
    more = "".join(f", besides those of {_linked(one)}" for one in _shared(kind)[:1])
    return f"\n### {kind.__name__}\n\nThe fields of {whose[kind.__name__]}{more}.\n\n{_fields(kind)}{_properties(kind)}"


def _linked(kind: type[Event]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _shared(kind: type[Event]) -> list[type[Event]]:
    """The classes that *kind* extends and that are listed once, the nearest first."""
    return [one for one in kind.__mro__[1:] if one in BASES]


def all_fields(kind: type[Event]) -> list[str]:
    """The names of everything that an event of *kind* has: its fields, those of its bases first, and properties."""
    kinds = [kind, *_shared(kind)]
    return [*kind.__struct_fields__, *(name for one in kinds for name in _properties_of(one))]


def _properties_of(kind: type[Event]) -> dict[str, property]:
    return {name: one for name, one in vars(kind).items() if isinstance(one, property)}


def _properties(kind: type[Event]) -> str:
    """The properties of *kind* as a table: they are no fields, and not in its JSON."""
    rows = [
        f"| `{name}` | {_type(get_type_hints(one.fget)['return'])} | {_in_markdown(inspect.getdoc(one) or '')} |\n"
        for name, one in _properties_of(kind).items()
    ]
    head = "\nIts properties, which its JSON does not have:\n\n| property | value | meaning |\n|---|---|---|\n"
    return f"{head}{''.join(rows)}" if rows else ""


def _event(kind: type[Event]) -> str:
    about = _in_markdown(inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:")[0]).strip()
    when, who = WHEN[kind.__name__]
    points = [f"**When:** {when}.", f"**By:** {who}.", f"**Journalled:** {journalled(kind)}."]
    if kind.asks:
        points.append("**Verdicts** on it count.")
    if kind.ends:
        points.append("**It is an end:** every subscriber gets it, also if Ctrl-C interrupts one of them.")
    if kind in ON_REQUEST:
        points.append("**It is built** only for a subscription that names it.")
    points.append(f"**It has** {', '.join(f'`{one}`' for one in all_fields(kind))}.")
    listed = "".join(f"- {one}\n" for one in points)
    own = f"and has of its own:\n\n{_fields(kind)}" if fields_of(kind) else "and has none of its own.\n"
    shared = f"It shares those of {' and '.join(map(_linked, _shared(kind)[:-1] or _shared(kind)))}, {own}"
    return f"\n### {kind.__name__}\n\n{about}\n\n{listed}\n{shared}{_properties(kind)}"


def _fields(kind: type[Event]) -> str:
    hints, said = get_type_hints(kind), fields_of(kind)
    rows = [
        f"| `{one.name}` | {_type(hints[one.name])} | {_default(one)} | {said[one.name]} |\n"
        for one in own_fields(kind)
    ]
    return f"| field | value | default | meaning |\n|---|---|---|---|\n{''.join(rows)}"


def _type(kind: Any) -> str:
    if get_origin(kind) is not None and type(None) in get_args(kind):
        return f"{' or '.join(_type(one) for one in get_args(kind) if one is not type(None))} or `None`"
    if get_args(kind) and get_origin(kind) is not tuple:
        return " or ".join(f'`"{one}"`' for one in get_args(kind))
    return f"`{kind.__name__}`" if isinstance(kind, type) else f"`{kind}`".replace(", ...", ", ...")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required"
    if isinstance(field.default, msgspec.Raw):
        return "nothing"
    return f"`{field.default!r}`".replace("'", '"')


def _in_markdown(text: str) -> str:
    return re.sub(r"(?<![\w*])\*([\w ]+)\*", r"`\1`", text).replace("``", "`")


# What a journal keeps.


@cache
def _kept() -> Mapping[str, frozenset[str]]:
    """The durabilities of an operation with which a journal keeps each event; "any" for one without an operation."""
    kept: dict[str, set[str]] = {}
    for durability in ("off", *DURABILITIES):
        store = MemoryStore()
        with Recovery(store=store, enable_logging=False) as service:
            service.operation("example", durability=durability)
            for kind in EVENTS:
                operation = "example" if _is_of_an_operation(kind) else ""
                service.bus.publish(example(kind, operation=operation))
        for row in store.rows:
            kept.setdefault(row.kind, set()).add(durability)
    return {name: frozenset(durabilities) for name, durabilities in kept.items()}


def _is_of_an_operation(kind: type[Event]) -> bool:
    return issubclass(kind, CallEvent) or kind.__name__.startswith(("Circuit", "Incident"))


def journalled(kind: type[Event]) -> str:
    """With which durabilities a journal keeps events of *kind*, in words."""
    kept = _kept().get(kind.__name__, frozenset())
    if not kept:
        return "never"
    if "off" in kept:
        return "always"
    return f"with the durability {', '.join(f'`{one}`' for one in DURABILITIES if one in kept)}"


def example(kind: type[Event], **given: Any) -> Event:
    """An event of *kind* with any values."""
    values = {name: given[name] for name in given.keys() & set(kind.__struct_fields__)}
    for field, hint in ((one, get_type_hints(kind)[one.name]) for one in msgspec.structs.fields(kind)):
        if field.name not in values and field.default is msgspec.NODEFAULT:
            values[field.name] = _value(field.name, hint)
    return kind(**values)


def _value(name: str, hint: Any) -> Any:
    made: dict[Any, Any] = {
        str: name, bytes: b"", float: 0.0, int: 1, Category: Category.TRANSIENT,
        Evidence: Evidence(type="example.Error"),
        Exception: OSError("example"), msgspec.Raw: msgspec.Raw(b"{}"), FailureClassified: None,
    }  # fmt: skip
    return made[hint] if hint in made else get_args(hint)[0]


def all_events() -> Iterator[str]:
    """The names of the events on the page, in its order."""
    for names in SECTIONS.values():
        yield from names


if __name__ == "__main__":
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + tables(), encoding="utf-8")
