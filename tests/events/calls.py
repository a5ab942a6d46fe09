"""Operations whose failures are answered by a script, and the ways in which an attempt ends."""

from __future__ import annotations

from collections.abc import Callable

from events.attempt import Attempt
from events.bus import Bus
from events.event import Event
from events.kinds import EVENTS, ON_REQUEST
from events.operation import Operation
from events.operation_events import OperationFailed
from events.runner_api import give_up, reject
from events.verdicts import GiveUp, Verdict

succeed, cancel = Attempt.succeed, Attempt.cancel


def operation(*answers: Verdict | None, key: str = "", clock: Callable[[], float] = lambda: 0.0) -> Operation:
    """An operation on a bus of its own; its failures are answered with *answers*, one after the other."""
    bus = Bus(clock=clock, run="run")
    left = list(answers)
    if left:
        bus.subscribe(OperationFailed, lambda _: left.pop(0))
    return Operation("fetch", bus, key=key)


def events_of(of: Operation, *kinds: type[Event]) -> list[Event]:
    """A list that fills with the events of these kinds; by default with all but failures, starts and successes."""
    events: list[Event] = []
    of.bus.subscribe(kinds or [kind for kind in EVENTS if kind not in (OperationFailed, *ON_REQUEST)], events.append)
    return events


def fail(attempt: Attempt) -> None:
    attempt.fail(OSError())


def retry(attempt: Attempt) -> None:
    fail(attempt)
    attempt.next()


def end_for_good(attempt: Attempt) -> None:
    give_up(attempt, GiveUp("no"))


def turn_away(attempt: Attempt) -> None:
    reject(attempt, GiveUp("no"))


def cancel_while_waiting(attempt: Attempt) -> None:
    fail(attempt)
    attempt.cancel()
