"""Spans of calls and attempts: of what, around what, with which links, and over the wire."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from adapters.memory import MemoryStore
from adapters.metrics.tracing import Tracing
from events.operation_events import OperationStarted
from events.trace_events import CallTraced
from events.verdicts import GiveUp, Park
from recovery import context
from recovery.explain import next_step
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import Killed, kill

QUICK: dict[str, Any] = {"initial_delay": 0.0, "jitter": "none"}


class Spans:
    """A tracer provider, and the spans that have ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def ended(self, name: str | None = None) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if name in (None, span.name)]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.ended(name)
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def service(spans: Spans) -> Iterator[Recovery]:
    service = Recovery()
    with Tracing(service, tracer_provider=spans.provider):
        yield service


def attempts(spans: Spans, name: str = "fetch") -> list[ReadableSpan]:
    return spans.ended(f"{name} attempt")


def test_a_call_is_a_span_and_each_attempt_a_child_of_it(service: Recovery, spans: Spans):
    service.recoverable("fetch", **QUICK)(Script(ConnectionError("reset"), "done"))()
    call, (first, second) = spans.one("fetch"), attempts(spans)
    assert {one.parent.span_id for one in (first, second)} == {call.context.span_id}
    assert [one.attributes["recovery.attempt"] for one in (first, second)] == [1, 2]
    assert [one.status.status_code for one in (first, second, call)] == [StatusCode.ERROR, *[StatusCode.UNSET] * 2]
    assert call.attributes["recovery.outcome"] == "recovered"
    assert [event.name for event in call.events] == ["recovery.retry_scheduled"]
    assert call.start_time <= first.start_time <= first.end_time <= second.start_time <= second.end_time
    assert second.end_time <= call.end_time


def test_a_healthy_call_has_two_spans(service: Recovery, spans: Spans):
    service.recoverable("fetch")(lambda: None)()
    assert len(attempts(spans)) == 1
    assert spans.one("fetch").attributes["recovery.outcome"] == "succeeded"


def test_a_failure_says_what_failed_by_the_names_of_the_conventions(service: Recovery, spans: Spans):
    error = OSError(28, "No space left on device: https://user:hunter2@example.org")
    with pytest.raises(OSError, match="28"):
        service.recoverable("fetch", max_retries=0)(Script(error))()
    call, [attempt] = spans.one("fetch"), attempts(spans)
    [event] = attempt.events
    assert (event.name, event.attributes["exception.type"]) == ("exception", "builtins.OSError")
    assert "No space left" in event.attributes["exception.message"]
    assert "hunter2" not in f"{attempt.to_json()}{call.to_json()}"
    for span in (call, attempt):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "builtins.OSError"
        assert span.attributes["recovery.category"] == "environment"
        assert span.attributes["recovery.errno"] == 28
    assert call.attributes["recovery.outcome"] == "gave_up"


def test_what_an_attempt_runs_is_traced_within_it(service: Recovery, spans: Spans):
    script = Script(ConnectionError(), "done")

    def fetch() -> object:
        with spans.tracer.start_as_current_span("GET"):
            return script()

    with spans.tracer.start_as_current_span("outer") as outer:
        service.recoverable("fetch", **QUICK)(fetch)()
        assert trace.get_current_span() is outer
    parents = [span.parent.span_id for span in spans.ended("GET")]
    assert parents == [one.context.span_id for one in attempts(spans)]
    assert spans.one("fetch").parent.span_id == outer.get_span_context().span_id


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_the_tasks_of_one_loop_keep_their_spans_apart(service: Recovery, spans: Spans, run: Any):
    @service.recoverable("fetch", key=str, attempt_timeout=5.0)
    async def fetch(number: int) -> None:
        for _ in range(3):
            await (trio.sleep(0) if run is trio.run else asyncio.sleep(0))
        with spans.tracer.start_as_current_span(f"GET {number}"):
            pass

    async def all_of_them() -> None:
        if run is trio.run:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(fetch, number)
        else:
            await asyncio.gather(*map(fetch, range(5)))

    run(all_of_them) if run is trio.run else run(all_of_them())
    of_attempt = {one.context.span_id: one.attributes["recovery.key"] for one in attempts(spans)}
    assert [of_attempt[spans.one(f"GET {number}").parent.span_id] for number in range(5)] == list("01234")


def test_attempts_by_hand_that_end_in_another_order_leave_no_current_span(service: Recovery, spans: Spans):
    fetch = service.operation("fetch")
    one, two = fetch.start(), fetch.start()
    one.succeed()
    two.succeed()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert len(spans.ended("fetch")) == 2


def test_an_attempt_that_ends_in_another_thread_changes_no_span_there(service: Recovery, spans: Spans):
    attempt = service.operation("fetch").start()
    seen: list[object] = []

    def end() -> None:
        with spans.tracer.start_as_current_span("other") as other:
            attempt.succeed()
            seen.append(trace.get_current_span() is other)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert seen == [True]
    assert spans.one("fetch")
    service.operation("clone").start().succeed()  # in the thread where the first one began
    assert spans.one("clone").parent is None
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_user_span_that_an_attempt_leaves_open_stays_current(service: Recovery, spans: Spans):
    attempt = service.operation("fetch").start()
    with spans.tracer.start_as_current_span("inner") as inner:
        attempt.succeed()
        assert trace.get_current_span() is inner


def test_a_call_within_a_call_is_a_child_of_its_attempt(service: Recovery, spans: Spans):
    inner = service.recoverable("clone")(lambda: None)
    service.recoverable("fetch")(lambda: inner())()
    assert spans.one("clone").parent.span_id == spans.one("fetch attempt").context.span_id


def test_a_deferred_attempt_has_no_span(service: Recovery, spans: Spans):
    answers = iter([Park(after=0.0), None])
    service.bus.subscribe(OperationStarted, lambda _: next(answers))
    service.recoverable("fetch")(lambda: None)()
    assert len(attempts(spans)) == 1
    assert [event.name for event in spans.one("fetch").events] == ["recovery.parked"]


def test_a_rejected_call_has_no_attempt(service: Recovery, spans: Spans):
    service.bus.subscribe(OperationStarted, lambda _: GiveUp("closed on Sundays"))
    with pytest.raises(Exception, match="Sundays"):
        service.recoverable("fetch")(lambda: None)()
    call = spans.one("fetch")
    assert attempts(spans) == []
    assert (call.attributes["recovery.outcome"], call.status.status_code) == ("rejected", StatusCode.ERROR)
    assert "Sundays" in call.status.description


def test_a_cancelled_call_is_no_error(service: Recovery, spans: Spans):
    with pytest.raises(KeyboardInterrupt):
        service.recoverable("fetch")(Script(KeyboardInterrupt()))()
    assert spans.one("fetch").attributes["recovery.outcome"] == "cancelled"
    assert spans.one("fetch").status.status_code is StatusCode.UNSET


def test_only_the_named_operation_is_traced(spans: Spans):
    service = Recovery()
    with Tracing(service, tracer_provider=spans.provider, operation="fetch"):
        service.recoverable("clone")(lambda: None)()
        service.recoverable("fetch")(lambda: None)()
    assert {span.name for span in spans.ended()} == {"fetch", "fetch attempt"}


def test_a_closed_tracing_ends_what_is_open_and_observes_nothing(spans: Spans):
    service = Recovery()
    tracing = Tracing(service, tracer_provider=spans.provider)
    service.operation("fetch").start()
    assert spans.ended() == []
    tracing.close()
    tracing.close()
    assert {span.name for span in spans.ended()} == {"fetch", "fetch attempt"}
    assert not service.operation("fetch").is_observed
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_oldest_of_too_many_open_spans_is_ended(spans: Spans):
    service = Recovery()
    with Tracing(service, tracer_provider=spans.provider, max_open=2):
        first, *_ = [service.operation(name).start() for name in ("a", "b", "c")]
        assert [span.name for span in spans.ended()] == ["a attempt", "a"]
        first.succeed()
    assert len(spans.ended("a")) == 1


def trace_in_processes(store: MemoryStore, spans: Spans, *bodies: Any) -> None:
    """Run a call with the first body, in a process that is killed in it, and resume it with the others in turn."""
    for number, body in enumerate(bodies):
        with Recovery(store=store) as service, Tracing(service, tracer_provider=spans.provider):
            work = service.recoverable("work", resumable=True, **QUICK)(partial(body, service))
            if number:
                assert service.resume().wait(10.0)
            else:
                with pytest.raises(Killed):
                    work()


def test_a_resumed_call_links_to_its_span_before_the_restart(spans: Spans):
    trace_in_processes(MemoryStore(), spans, kill, kill, lambda _: None)
    killed, again, resumed = spans.ended("work")
    assert [one.attributes["recovery.resumed"] for one in (killed, again, resumed)] == [False, True, True]
    assert len({one.attributes["recovery.call"] for one in (killed, again, resumed)}) == 1
    assert killed.links == ()
    assert [link.context.span_id for one in (again, resumed) for link in one.links] == [
        one.context.span_id for one in (killed, again)
    ]
    assert len({one.context.trace_id for one in (killed, again, resumed)}) == 3


def test_a_call_that_runs_again_links_to_the_former_one_also_in_its_own_journal(spans: Spans):
    with Recovery(store=MemoryStore()) as service, Tracing(service, tracer_provider=spans.provider):
        traced = events_of(service, CallTraced)
        script = Script(ConnectionError(), "done")
        with pytest.raises(ConnectionError):
            service.recoverable("work", resumable=True, max_retries=0)(script)()
        assert service.again(state="gave up").wait(10.0)
    former, again = spans.ended("work")
    assert [link.context.span_id for link in again.links] == [former.context.span_id]
    assert again.attributes["recovery.former_call"] == former.attributes["recovery.call"]
    assert [event.call for event in traced] == [one.attributes["recovery.call"] for one in (former, again)]
    assert [next_step(event) for event in traced] == [f"trace {one.context.trace_id:032x}" for one in (former, again)]


def test_a_journal_without_spans_links_to_none(spans: Spans):
    store = MemoryStore()
    with Recovery(store=store) as service, pytest.raises(Killed):
        service.recoverable("work", resumable=True)(lambda: kill(service))()
    with Recovery(store=store) as service, Tracing(service, tracer_provider=spans.provider):
        service.recoverable("work", resumable=True)(lambda: context.attempt())
        assert service.resume().wait(10.0)
    assert spans.one("work").links == ()


class Receiver(HTTPServer):
    """Takes spans over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.requests: list[ExportTraceServiceRequest] = []


class _Take(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_spans_reach_a_receiver_over_http():
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        provider = TracerProvider()
        endpoint = f"http://127.0.0.1:{receiver.server_port}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
        service = Recovery()
        with Tracing(service, tracer_provider=provider):
            service.recoverable("fetch", **QUICK)(Script(ConnectionError(), "done"))()
        provider.shutdown()
        receiver.shutdown()
        thread.join()
    taken = [
        span
        for request in receiver.requests
        for of in request.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]
    [call] = [span for span in taken if span.name == "fetch"]
    assert [span.parent_span_id for span in taken if span.name == "fetch attempt"] == [call.span_id] * 2
