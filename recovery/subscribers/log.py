"""``Log``: failures, and how they end, in the standard library's logging. Quiet on success."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress

from events.alert_events import AlertCleared, AlertRaised
from events.circuit_events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from events.event import Event
from events.names import display_name
from events.operation_events import (
    CallRejected,
    CallSteered,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationResumed,
    Outcome,
    Parked,
    RetryScheduled,
)
from recovery.redact import printable, redact


class Redacted(logging.Filter):
    """A logging filter that redacts records and their tracebacks before any handler formats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep *record*; a message or a traceback with a secret becomes redacted text."""
        with suppress(Exception):  # the handlers report a record that cannot be formatted
            message = record.getMessage()
            if (harmless := redact(message)) != message:
                record.msg, record.args = harmless, None
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if (harmless := redact(text)) != text:
                record.exc_info, record.exc_text = None, harmless
        return True


# The loggers that log foreign texts: errors of subscribers, names of conditions, messages of stores and servers.
for _name in ("recovery", "recovery.bus", "recovery.journal", "recovery.launch", "recovery.downloads"):
    logging.getLogger(_name).addFilter(Redacted())


class Log:
    """A subscriber to ``Event``: a warning for each retry and wait, an error when a call gives up or a circuit opens.

        service.bus.subscribe(Event, Log())

    Args:
        wanted: Whether an operation of that name is logged; all by default.
        logger: Where to log; the logger ``recovery`` by default.
    """

    def __init__(self, wanted: Callable[[str], bool] = lambda _: True, logger: logging.Logger | None = None) -> None:
        self._wanted = wanted
        self._logger = logger or logging.getLogger("recovery")

    def __call__(self, event: Event) -> None:
        """Log *event*, if it is worth a line."""
        if not self._wanted(event.operation):
            return
        line = describe(event)
        if line is not None:
            self._logger.log(_level(event), "%s", redact(printable(line)))


def describe(event: Event) -> str | None:
    """*event* in one line of English, ``None`` if it is not worth a line."""
    name = display_name(event.operation, event.key)
    failure = (event.error or "unclassified error") if isinstance(event, Outcome) else ""
    match event:
        case RetryScheduled(attempt=attempt, after=after, retry=retry):
            return f"{name}: attempt {attempt} failed ({failure}); retry {retry} in {after:.2f} s"
        case Parked(error=None, after=after, why=why):
            return f"{name}: waiting up to {after:.1f} s for: {why}"
        case Parked(attempt=attempt, after=after, why=why):
            return f"{name}: attempt {attempt} failed ({failure}); waiting up to {after:.1f} s for: {why}"
        case GaveUp(attempt=attempt, reason=reason):
            return f"{name}: gave up after attempt {attempt}, {reason}: {failure}"
        case OperationRecovered(attempt=attempt, elapsed=elapsed):
            return f"{name}: recovered with attempt {attempt} after {elapsed:.2f} s"
        case OperationResumed(attempt=attempt, after=after):
            return f"{name}: resumed with attempt {attempt} in {after:.2f} s"
        case OperationCancelled(attempt=attempt, waiting=waiting):
            return f"{name}: cancelled {'before' if waiting else 'in'} attempt {attempt}"
        case CallSteered(command=command, reason=reason):
            return f"{name}: command {command}{f', {reason}' if reason else ''}"
        case CallRejected(reason=reason):
            return f"{name}: not started, {reason}"
        case CircuitOpened(after=after, failures=failures):
            return f"{name}: circuit opened for {after:.1f} s after {failures} failures"
        case CircuitHalfOpened():
            return f"{name}: circuit half-open, a probe may begin"
        case CircuitClosed():
            return f"{name}: circuit closed"
        case AlertRaised(alert=alert, value=value, threshold=threshold, count=count):
            return f"{name or 'all'}: alert, {alert} is {value:.4g}, past the threshold {threshold:g} (of {count})"
        case AlertCleared(alert=alert, lasted=lasted):
            return f"{name or 'all'}: {alert} is back within its threshold after {lasted:.1f} s"
    return None


def _level(event: Event) -> int:
    match event:
        case GaveUp() | CircuitOpened():
            return logging.ERROR
        case RetryScheduled() | Parked() | CallRejected() | AlertRaised():
            return logging.WARNING
    return logging.INFO
