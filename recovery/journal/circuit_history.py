"""Replay a journal: which circuits its runs left open. Pure, as ``recovery.journal.history``, which replays calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from events.evidence import Category
from events.question_events import QuestionAnswered
from recovery.journal.history import Run
from recovery.journal.remaining import time_left
from recovery.journal.store import Remembered
from recovery.policies.circuit_states import Open, Reopened

CIRCUIT: tuple[type[Event], ...] = (CircuitOpened, CircuitClosed)
"""The events from which an open circuit is restored."""


class Restore(NamedTuple):
    """What receives what the journal holds, besides calls.

    Args:
        circuits: Called once, with the circuits that earlier runs left open, by operation and key.
        questions: Called again and again, with the events about questions, of all processes, and the secrets that the
            store keeps.
        answer: Called with each answer before it is written, and whether *questions* was called since it was given;
            returns what is to be written.
        has_answers: Whether this process has given an answer, or refused one.
        to_remember: What the store is to keep or to drop since the last call.
    """

    circuits: Callable[[dict[tuple[str, str], Reopened]], object] = id
    questions: Callable[[Sequence[Event], Sequence[Remembered]], object] = lambda _events, _remembered: None
    answer: Callable[[QuestionAnswered, bool], QuestionAnswered] = lambda event, _: event
    has_answers: Callable[[], bool] = lambda: False
    to_remember: Callable[[], Sequence[Remembered]] = list


class OpenCircuit(msgspec.Struct, frozen=True):
    """A circuit that *run* left open or half-open.

    *due* is when its break ends, on the clock of *run*; *after* is the break in seconds. *category* and *cause* are of
    the latest failure that opened it.
    """

    run: str
    due: float
    after: float
    failures: int = 0
    times: int = 1
    category: Category | None = None
    cause: str = ""


def replay_circuits(
    circuits: dict[tuple[str, str], OpenCircuit], run: str, events: Iterable[Event]
) -> dict[tuple[str, str], OpenCircuit]:
    """Update *circuits*, by operation and key, with *events* that *run* wrote. Changes *circuits* and returns it."""
    for event in events:
        key = (event.operation, event.key)
        match event:
            case CircuitOpened(forced=True) | CircuitClosed():  # a forced circuit is one process's own
                circuits.pop(key, None)
            case CircuitOpened(node=node) if node:  # the cluster knows by then whether it is still open
                circuits.pop(key, None)
            case CircuitOpened(after=after, failures=failures, times=times, metrics_only=False):
                before = circuits.pop(key, None)
                category, cause = event.category, event.cause
                if before is not None and not cause:  # opened again by hand: the failure is still the reason
                    category, cause = before.category, before.cause
                circuits[key] = OpenCircuit(run, event.at + after, after, failures, times, category, cause)
    return circuits


def reopened(circuit: OpenCircuit, runs: Mapping[str, Run], now: Run) -> Reopened:
    """*circuit* on the clock of *now*, which was read at this moment: open for the rest of its break.

    A break that is over ended as long ago as the wall clock says: a circuit expires also while no process runs.
    """
    left, then = time_left(circuit.run, circuit.due, circuit.after, runs, now), runs.get(circuit.run)
    if left <= 0.0 and then is not None:
        left = min(then.wall + circuit.due - then.monotonic - now.wall, 0.0)
    reopened = Open(now.monotonic + left, circuit.failures, circuit.times)
    return Reopened(reopened, circuit.category, circuit.cause)
