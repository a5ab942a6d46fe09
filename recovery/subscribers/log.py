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


LINES: dict[type[Event], tuple[int, str]] = {
    RetryScheduled: (logging.WARNING, "attempt {0.attempt} failed ({error}); retry {0.retry} in {0.after:.2f} s"),
    Parked: (logging.WARNING, "attempt {0.attempt} failed ({error}); waiting up to {0.after:.1f} s for: {0.why}"),
    GaveUp: (logging.ERROR, "gave up after attempt {0.attempt}, {0.reason}: {error}"),
    OperationRecovered: (logging.INFO, "recovered with attempt {0.attempt} after {0.elapsed:.2f} s"),
    OperationResumed: (logging.INFO, "resumed with attempt {0.attempt} in {0.after:.2f} s"),
    OperationCancelled: (logging.INFO, "cancelled in attempt {0.attempt}"),
    CallSteered: (logging.INFO, "command {0.command}, {0.reason}"),
    CallRejected: (logging.WARNING, "not started, {0.reason}"),
    CircuitOpened: (logging.ERROR, "circuit opened for {0.after:.1f} s after {0.failures} failures"),
    CircuitHalfOpened: (logging.INFO, "circuit half-open, a probe may begin"),
    CircuitClosed: (logging.INFO, "circuit closed"),
    AlertRaised: (
        logging.WARNING,
        "alert, {0.alert} is {0.value:.4g}, past the threshold {0.threshold:g} (of {0.count})",
    ),
    AlertCleared: (logging.INFO, "{0.alert} is back within its threshold after {0.lasted:.1f} s"),
}
"""The level and the line of each event that is logged."""


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
            self._logger.log(LINES[type(event)][0], "%s", redact(printable(line)))


def describe(event: Event) -> str | None:
    """*event* in one line of English, ``None`` if it is not worth a line."""
    if type(event) not in LINES:
        return None
    _, line = LINES[type(event)]
    match event:
        case Parked(error=None):
            line = "waiting up to {0.after:.1f} s for: {0.why}"
        case OperationCancelled(waiting=True):
            line = "cancelled before attempt {0.attempt}"
        case CallSteered(reason=""):
            line = "command {0.command}"
    error = (event.error or "unclassified error") if isinstance(event, Outcome) else ""
    return f"{display_name(event.operation, event.key) or 'all'}: {line.format(event, error=error)}"
