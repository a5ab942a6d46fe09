"""Spans of a service for OpenTelemetry: one for each call, and within it one for each attempt.

    with Tracing(service):
        ...

The spans go where the program's tracer provider sends them. What an attempt runs is traced within the attempt's span:
the requests of an instrumented HTTP client are its children. A call that is resumed after a restart has a new span,
with a link to the one that it had in the process that died.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Self

import msgspec

from events.event import CallEvent
from events.evidence import Evidence
from events.lease_events import CallHandedBack
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.repeat_events import OperationRepeated
from events.trace_events import CallTraced
from recovery import validation
from recovery.installation import extra
from recovery.redact import brief
from recovery.service import Recovery

with extra("opentelemetry"):
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Status, StatusCode, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

KINDS: tuple[type[CallEvent], ...] = (
    OperationStarted,
    OperationSucceeded,
    OperationResumed,
    OperationRepeated,
    FailureClassified,
    RetryScheduled,
    Parked,
    CallSteered,
    GaveUp,
    OperationRecovered,
    CallRejected,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    CallHandedBack,
)

MAX_OPEN = 16_384
"""Calls with an open span, by default."""

MAX_TEXT = 1024
"""Characters of a message in a span."""

OUTCOMES: dict[type[CallEvent], str] = {
    OperationSucceeded: "succeeded",
    OperationRecovered: "recovered",
    GaveUp: "gave_up",
    CallRejected: "rejected",
    OperationCancelled: "cancelled",
    OperationInterrupted: "interrupted",
    OperationQuarantined: "quarantined",
    CallHandedBack: "handed_back",
}
"""The attribute ``recovery.outcome`` of a call's span, by the event that ends it."""

_propagator = TraceContextTextMapPropagator()
_ATTEMPT = contexts.create_key("recovery-attempt")


class _Attempt(msgspec.Struct, eq=False):
    """The span of an attempt, and the context around it."""

    span: Span
    outer: Context
    is_over: bool = False


class _Call(msgspec.Struct, eq=False):
    """The span of a call, what it shares with those of its attempts, and its attempt that runs.

    *is_told* says that a ``CallTraced`` was published of it.
    """

    span: Span
    name: str
    attributes: dict[str, Any]
    attempt: _Attempt | None = None
    is_told: bool = False


class Tracing:
    """Begins and ends spans for the calls of *service*, until it is closed; ``with`` closes it.

    Every call is observed meanwhile: a healthy call pays for two spans. Names, keys and messages are redacted.

    Args:
        service: The service.
        tracer_provider: Where the spans come from; by default the program's (``opentelemetry.trace``).
        operation: Only calls of the operation of that name.
        max_open: Calls with an open span. Of more, the span of the oldest ends before the call: some calls by hand
            never end.
    """

    def __init__(
        self,
        service: Recovery,
        *,
        tracer_provider: TracerProvider | None = None,
        operation: str | None = None,
        max_open: int = MAX_OPEN,
    ) -> None:
        self._max_open = validation.whole("max_open", max_open, least=1)
        self._tracer = trace.get_tracer("launcher-recovery", tracer_provider=tracer_provider)
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._lock = threading.Lock()
        self._subscription = service.bus.subscribe(KINDS, self.on_event, operation=operation)

    def on_event(self, event: CallEvent) -> CallTraced | None:
        """Take *event* into the spans of its call; answers with the call's new span, if the call can be resumed."""
        match event:
            case OperationStarted() | OperationResumed():
                return self._begin(event)
            case OperationRepeated():
                return self._begin(event) if event.former else None  # the former call has its span
        call = self._calls.get(event.call)
        if call is None:
            return None  # its span has ended, or it began before the tracing
        match event:
            case FailureClassified():
                _end_attempt(call, event)
            case RetryScheduled(after=after, retry=retry):
                call.span.add_event("recovery.retry_scheduled", {"recovery.wait": after, "recovery.retry": retry})
            case Parked(why=why, category=category):
                if category is None:
                    _leave(call)  # its attempt was deferred: it did not begin, and has no span
                call.span.add_event("recovery.parked", {"recovery.reason": brief(why, MAX_TEXT)})
            case CallSteered(command=command, reason=reason):
                steered = {"recovery.command": command, "recovery.reason": brief(reason, MAX_TEXT)}
                call.span.add_event("recovery.steered", steered)
            case _:
                self._end(call, event)
        return None

    def _begin(self, event: OperationStarted | OperationResumed | OperationRepeated) -> CallTraced | None:
        """Begin the span of a call that has none yet, and that of its attempt if that begins."""
        call = self._calls.get(event.call)
        if call is None:
            links = () if isinstance(event, OperationStarted) else _links(event.trace)
            name, attributes = brief(event.operation), _attributes(event)
            begun: dict[str, Any] = {"recovery.resumed": isinstance(event, OperationResumed)}
            if isinstance(event, OperationRepeated):
                begun["recovery.former_call"] = event.former
            span = self._tracer.start_span(name, context=_around(), attributes=attributes | begun, links=links)
            call = _Call(span, name, attributes)
            self._keep(event.call, call)
        if isinstance(event, OperationStarted):
            _leave(call)  # of an attempt that was deferred, and is asked for again
            within, number = trace.set_span_in_context(call.span), {"recovery.attempt": event.attempt}
            attributes = call.attributes | number
            _enter(call, self._tracer.start_span(f"{call.name} attempt", context=within, attributes=attributes))
        if call.is_told or isinstance(event, OperationRepeated) or not bytes(event.arguments):
            return None
        call.is_told = True
        return _traced(call.span, event)

    def _keep(self, call_id: str, call: _Call) -> None:
        with self._lock:
            self._calls[call_id] = call
            oldest = self._calls.popitem(last=False)[1] if len(self._calls) > self._max_open else None
        if oldest is not None:
            _end_attempt(oldest)
            oldest.span.end()

    def _end(self, call: _Call, event: CallEvent) -> None:
        """End the span of the call, and that of the attempt that runs; *event* ends them."""
        with self._lock:
            self._calls.pop(event.call, None)
        if isinstance(event, CallRejected):
            _leave(call)
        else:
            _end_attempt(call)
        call.span.set_attribute("recovery.outcome", OUTCOMES[type(event)])
        if isinstance(event, GaveUp | CallRejected | OperationQuarantined):
            call.span.set_status(Status(StatusCode.ERROR, brief(event.reason, MAX_TEXT)))
        if isinstance(event, GaveUp) and event.failure is not None:
            call.span.set_attributes(_of_failure(event.failure))
        call.span.end()

    def close(self) -> None:
        """Trace no more, and end the spans that are open. Idempotent."""
        self._subscription.close()
        with self._lock:
            calls, self._calls = list(self._calls.values()), OrderedDict()
        for call in calls:
            _end_attempt(call)
            call.span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _traced(span: Span, event: CallEvent) -> CallTraced | None:
    """What the journal keeps of *span*, of the call of *event*; None if the program has no tracer provider."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    if "traceparent" not in carrier:
        return None
    of: dict[str, Any] = {"operation": event.operation, "key": event.key, "call": event.call, "attempt": event.attempt}
    return CallTraced(at=event.at, trace=carrier["traceparent"], **of)


def _enter(call: _Call, span: Span) -> None:
    """Make *span*, of an attempt that begins, the current one."""
    outer = _around()
    call.attempt = attempt = _Attempt(span, outer)
    contexts.attach(contexts.set_value(_ATTEMPT, attempt, trace.set_span_in_context(span, outer)))


def _leave(call: _Call) -> _Attempt | None:
    """Make what is around the attempt current again, if the attempt is current here; returns the attempt.

    The end of an attempt may be told in another thread or task: nothing is changed there. So no token is given back.
    """
    attempt, call.attempt = call.attempt, None
    if attempt is not None:
        attempt.is_over = True
        contexts.attach(_around())
    return attempt


def _around() -> Context:
    """The current context, or what is around it if it is that of an attempt that is over.

    By hand, attempts end in any order, and in other threads than they began in.
    """
    context = contexts.get_current()
    while (
        isinstance(attempt := contexts.get_value(_ATTEMPT, context), _Attempt)
        and attempt.is_over
        and trace.get_current_span(context) is attempt.span
    ):
        context = attempt.outer
    return context


def _end_attempt(call: _Call, failure: FailureClassified | None = None) -> None:
    """End the span of the attempt that runs, if one does; with *failure*, if it failed."""
    attempt = _leave(call)
    if attempt is None:
        return
    if failure is not None:
        evidence = failure.evidence
        message = brief(evidence.message, MAX_TEXT)
        attempt.span.set_attributes(_of_failure(failure))
        attempt.span.add_event("exception", {"exception.type": evidence.type, "exception.message": message})
        attempt.span.set_status(Status(StatusCode.ERROR, brief(evidence.summary, MAX_TEXT)))
    attempt.span.end()


def _links(traceparent: str) -> list[Link]:
    """A link to the span that *traceparent* names, if it names one."""
    span = trace.get_current_span(_propagator.extract({"traceparent": traceparent}, Context()))
    return [Link(span.get_span_context())] if span.get_span_context().is_valid else []


def _attributes(event: CallEvent) -> dict[str, Any]:
    key = {"recovery.key": brief(event.key)} if event.key else {}
    return {"recovery.operation": brief(event.operation), "recovery.call": event.call, **key}


def _of_failure(failure: FailureClassified) -> dict[str, str | int]:
    """The attributes of a span that failed: the names of the semantic conventions, where they have one."""
    evidence: Evidence = failure.evidence
    known = {
        "http.response.status_code": evidence.status,
        "process.exit.code": evidence.exit_code,
        "recovery.errno": evidence.errno,
        "recovery.code": evidence.code,
    }
    return {
        "error.type": str(evidence.status) if evidence.status is not None else evidence.type,
        "recovery.category": failure.category.value,
        "recovery.rule": failure.rule,
        **{name: value for name, value in known.items() if value is not None},
    }
