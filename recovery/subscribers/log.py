"""``Log``: failures, and how they end, in the standard library's logging. Quiet on success."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

from events.alert_events import AlertCleared, AlertRaised
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.clock_events import ClockJumped
from events.event import FOREVER, CallEvent, Event
from events.incident_events import IncidentClosed
from events.lease_events import CallHandedBack, OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from events.names import display_name
from events.operation_events import (
    LONG_WAIT,
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationInterrupted,
    OperationRecovered,
    OperationResumed,
    Outcome,
    Parked,
    RetryScheduled,
)
from events.own_log import OwnLog
from events.question_events import QuestionAnswered, QuestionAsked, QuestionReopened
from recovery.explain import counted, duration, explain, shown
from recovery.policies.incidents import has_ended, is_held
from recovery.redact import excerpt


class Redacted(logging.Filter):
    """A logging filter that redacts records and their tracebacks before any handler formats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep *record*; a message or a traceback with a secret becomes redacted text."""
        with suppress(Exception):  # the handlers report a record that cannot be formatted
            message = record.getMessage()
            if (harmless := excerpt(message)) != message:
                record.msg, record.args = harmless, None
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if (harmless := excerpt(text)) != text:
                record.exc_info, record.exc_text = None, harmless
        return True


# The loggers that log foreign texts: errors of subscribers, names of conditions, messages of stores and servers.
for _name in (
    "recovery",
    "recovery.bus",
    "recovery.journal",
    "recovery.launch",
    "recovery.downloads",
    "recovery.notifications",
):
    logging.getLogger(_name).addFilter(Redacted())


LEVELS: dict[type[Event], int] = {
    RetryScheduled: logging.WARNING,
    Parked: logging.WARNING,
    GaveUp: logging.ERROR,
    OperationRecovered: logging.INFO,
    OperationResumed: logging.INFO,
    OperationInterrupted: logging.INFO,
    OperationCancelled: logging.INFO,
    CallSteered: logging.INFO,
    CallHandedBack: logging.INFO,
    OutcomeHeld: logging.WARNING,
    OutcomeDelivered: logging.INFO,
    OutcomeSuperseded: logging.WARNING,
    CallRejected: logging.WARNING,
    CircuitOpened: logging.ERROR,
    CircuitHalfOpened: logging.INFO,
    CircuitClosed: logging.DEBUG,  # IncidentClosed says more
    IncidentClosed: logging.INFO,
    AlertRaised: logging.WARNING,
    AlertCleared: logging.INFO,
    ClockJumped: logging.WARNING,
    QuestionAsked: logging.WARNING,
    QuestionAnswered: logging.INFO,
    QuestionReopened: logging.WARNING,
}
"""The level of each event that is logged, where logging is on."""

DETAILS: tuple[type[Event], ...] = (RetryScheduled, OperationRecovered)
"""What a call that recovers causes: by default it is logged, and built for the log, only where INFO is wanted."""


class Log:
    """A subscriber to ``Event``: a line for each retry and wait, for each call that gives up, circuit and alert.

        service.bus.subscribe(Event, Log())

    Args:
        wanted: Whether an operation of that name is logged: True, everything; False, nothing; None, retries at INFO,
            unless the wait takes ten seconds and more, and circuits that open at WARNING. Everything by default.
        logger: Where to log; the logger ``recovery`` by default.
        most_retries: How many retries the policy of an outcome's operation allows; None if that is unknown.
        exc_info: Whether the lines of a failure have its traceback, redacted.
    """

    def __init__(
        self,
        wanted: Callable[[str], bool | None] = lambda _: True,
        logger: logging.Logger | None = None,
        most_retries: Callable[[Outcome], int | None] = lambda _: None,
        *,
        exc_info: bool = False,
    ) -> None:
        self._wanted = wanted
        logger = logger or logging.getLogger("recovery")
        self._logger = OwnLog(logger, {})
        self._most_retries = most_retries
        self._exc_info = exc_info
        self._latest = threading.local()  # the failure that this thread publishes
        self._told: set[tuple[str, str, str]] = set()  # what all calls of an incident have in common, since its break
        if exc_info and not any(isinstance(one, Redacted) for one in logger.filters):
            logger.addFilter(Redacted())

    def __call__(self, event: Event) -> None:
        """Log *event*, if it is worth a line."""
        wanted = self._wanted(event.operation)
        if isinstance(event, OperationFailed):
            self._latest.failed = event if self._exc_info and wanted is not False else None
            return
        error = self._error_of(event) if self._exc_info else None
        level = LEVELS.get(type(event))
        if level is None or wanted is False:
            return
        if isinstance(event, Parked) and event.asks_person:
            level = logging.ERROR
        elif isinstance(event, Parked) and is_held(event.why):
            level = logging.INFO  # a circuit that opens has a line of its own, for all calls that wait for it
        elif isinstance(event, GaveUp | CallRejected) and has_ended(event.reason, event.operation, event.key):
            level = logging.INFO
            if self._is_first("gave up", event):
                then = "the calls that wait for it give up, each with a line at INFO"
                self._logger.log(LEVELS[GaveUp], "%s", shown(f"{event.reason}; {then}"))
        elif isinstance(event, CallRejected) and is_held(event.reason) and not self._is_first("rejected", event):
            level = logging.INFO
        elif isinstance(event, CircuitOpened | IncidentClosed):
            self._told -= {(what, event.operation, event.key) for what in ("gave up", "rejected")}
        if wanted is None:
            level = _quiet_level(event, level)
        if self._logger.isEnabledFor(level):
            most = self._most_retries(event) if isinstance(event, Outcome) else None
            self._logger.log(level, "%s", describe(event, most), exc_info=error)

    def _is_first(self, what: str, event: CallEvent) -> bool:
        """Whether *event* is the first of its incident, since the latest break began, that tells *what*."""
        told = (what, event.operation, event.key)
        is_first = told not in self._told
        self._told.add(told)
        return is_first

    def _error_of(self, event: Event) -> Exception | None:
        """What the attempt raised that led to *event*; a failure and what comes of it are published together."""
        failed: OperationFailed | None = getattr(self._latest, "failed", None)
        if failed is None or isinstance(event, FailureClassified) or getattr(event, "call", None) != failed.call:
            return None
        self._latest.failed = None  # its traceback holds frames
        return failed.error


def _quiet_level(event: Event, level: int) -> int:
    match event:
        case RetryScheduled(after=after):
            return logging.WARNING if after >= LONG_WAIT else logging.INFO
        case CircuitOpened():
            return logging.WARNING
    return level


def describe(event: Event, most_retries: int | None = None) -> str | None:
    """*event* in one line of English, redacted; ``None`` if it is not worth a line."""
    if type(event) not in LEVELS:
        return None
    if isinstance(event, CallEvent):
        return explain(event, most_retries=most_retries).line
    name = display_name(event.operation, event.key) or "all operations"
    match event:  # the name without a colon: "token: closed" would look like a secret
        case CircuitOpened(forced=True, after=after) if after >= FOREVER:
            line = f"circuit {name} opened by hand, until it is forced again"
        case CircuitOpened(after=after, failures=0, cause=""):
            line = f"circuit {name} opened by hand for {duration(after)}"
        case CircuitOpened(after=after, times=times, cause=cause) if times > 1:
            why = f": a probe failed, {cause}" if cause else ""
            line = f"circuit {name} opened again for {duration(after)}{why}; the calls that need it wait"
        case CircuitOpened(after=after, slow=slow) if slow:
            line = f"circuit {name} opened for {duration(after)} after {counted(slow, 'slow call')}"
        case CircuitOpened(after=after, failures=failures, cause=cause):
            why = f", the last {cause}" if cause else ""
            line = f"circuit {name} opened for {duration(after)} after {counted(failures, 'failure')}{why}"
        case CircuitHalfOpened():
            line = f"circuit {name} half-open, a probe may begin"
        case CircuitClosed():
            line = f"circuit {name} closed"
        case ClockJumped():
            line = jump_in_words(event)
        case QuestionAsked(name=asked, text=text, link=link, reason=reason):
            line = "; ".join(filter(None, (f"a call waits for an answer to {asked!r}", reason, text, link)))
        case QuestionAnswered(name=asked):
            line = f"the question {asked!r} is answered"
        case QuestionReopened(name=asked, reason=reason):
            line = f"the question {asked!r} is open: {reason}"
        case IncidentClosed(lasted=lasted, calls=calls, gave_up=gave_up, outcome=outcome):
            ends = f", {gave_up} gave up" if gave_up else ""
            line = f"incident {name} is over after {duration(lasted)}, {outcome}; {counted(calls, 'call')} waited{ends}"
        case AlertRaised() | AlertCleared():
            line = f"{name}: {alert_in_words(event)}"
        case _:
            return None
    return shown(line)


def jump_in_words(event: ClockJumped) -> str:
    """What a jump of the clock means, and what happens next."""
    what = "the machine slept" if event.kind == "sleep" else "the process or its event loop stood still"
    return (
        f"{what} for {duration(event.slept)}; calls that are overdue come back one after another, "
        "and a failure of a call that this caused uses no retry"
    )


def alert_in_words(event: AlertRaised | AlertCleared) -> str:
    """What an alert says: ``success rate 80 % is below 90 % (of 120 calls); most failures are unreachable, ...``."""
    what, unit, noun = ALERTS.get(event.alert, (event.alert, "", "measurement"))
    limit = in_unit(event.threshold, unit)
    of = f" (of {counted(event.count, noun)})" if event.count > 1 else ""
    side, other = ("below", "above") if event.alert == "success" else ("above", "below")
    if isinstance(event, AlertRaised):
        first, more = event.incidents[:MOST_NAMED], len(event.incidents[MOST_NAMED:])
        named = f"; incident {', '.join(first)}{f' and {more} more' if more else ''}" if first else ""
        cause = f"{named}; most failures are {event.cause}" if event.cause else named
        if event.failure is not None:
            cause += f", as that of call {event.failure.call}: {explain(event.failure).short}"
        return f"{what} {in_unit(event.value, unit)} is {side} {limit}{of}{cause}"
    on = "the alert was on for"
    if event.value is None:
        return f"{what} has nothing to measure any more; {on} {duration(event.lasted)}"
    return f"{what} {in_unit(event.value, unit)} is {other} {limit} again{of}; {on} {duration(event.lasted)}"


MOST_NAMED = 3
"""Incidents that an alert names; further ones are counted."""

ALERTS: dict[str, tuple[str, str, str]] = {
    "success": ("success rate", "%", "call"),
    "overhead": ("time that recovery adds", "%", "sample"),
    "lag": ("delay of retries beyond their schedule (95th percentile)", "s", "recovered call"),
    "memory": ("memory of waiting calls and the write queue", "MB", "measurement"),
}
"""Of each alert: what is measured, in which unit, and what is counted."""


def in_unit(value: float, unit: str) -> str:
    """A measured value for people: ``80 %``, ``0.8 s``, ``6.1 MB``."""
    match unit:
        case "%":
            return f"{100.0 * value:.3g} %"
        case "s":
            return duration(value)
        case "MB":
            return f"{value / 1e6:.3g} MB"
    return f"{value:.4g}"
