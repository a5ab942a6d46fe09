"""The page of a service: what its calls wait for, and what a person does to them."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.memory import MemoryStore
from adapters.sqlite import SQLiteStore
from adapters.web import app
from adapters.web.service_source import ServiceSource
from adapters.web.state import CallLine, PageState
from events import Category, OperationFailed, OperationStarted, OperationSucceeded, RetryScheduled
from recovery import BreakerPolicy, Recovery, RetryPolicy, Strategy
from recovery.testing import Script
from tests.adapters.web.serving import BEARER, TOKEN, serving
from tests.until import wait_until

HOUR = RetryPolicy(max_retries=3, backoff=[3600.0], jitter="none")
EVIL = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp.exe\u2066\x00\r\nhf_abcdefghijklmnopqrstuvwxyz123456"


@contextmanager
def begun(*functions: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Run *functions*, each on its thread, and wait for their ends afterwards; what they raise is theirs."""

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:  # a call that gives up
            return

    threads = [threading.Thread(target=run, args=(one,)) for one in functions]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.join(10)


@contextmanager
def waiting_call(service: Recovery, function: Callable[[], object]) -> Iterator[str]:
    with begun(function):
        wait_until(service.calls.waiting)
        try:
            yield service.calls.waiting()[0].call
        finally:
            for call in service.calls.waiting():
                service.calls.give_up(call.call)


def only(state: PageState) -> CallLine:
    [line] = state.calls.values()
    return line


def test_a_call_that_waits_has_its_cause_its_next_try_and_its_buttons():
    service = Recovery(policy=HOUR)
    source = ServiceSource(service)
    fetch = service.recoverable("fetch", key=lambda: "example.org")(Script(ConnectionRefusedError()))
    with waiting_call(service, fetch) as call:
        state = source.read()
        line = only(state)
        assert (line.call, line.state, line.attempt) == (call, "waiting", 2)
        assert "refused" in line.sentence
        assert line.said.startswith("ConnectionRefusedError")
        assert line.due == pytest.approx(state.at + 3600.0, abs=10.0)
        assert line.actions[:2] == ("retry", "pause")
        assert state.headline.startswith("1 call waits, next try ")
        assert only(source.read()) is line
        assert source.act("pause", call).is_done
        assert only(source.read()).actions[0] == "unpause"
        assert source.act("unpause", call).is_done
        assert source.act("retry", call).said == "its next attempt begins now"
    assert source.read().calls == {}
    assert not source.act("retry", call).is_done


def test_a_call_that_gave_up_stays_and_can_run_again():
    with Recovery(store=MemoryStore(), enable_logging=False) as service:
        source = ServiceSource(service)
        script = Script(ValueError("no such model"))

        @service.recoverable("fetch", resumable=True, max_retries=0)
        def fetch(model: str) -> None:
            script()

        with begun(lambda: fetch("model.bin")):
            pass
        line = only(source.read())
        assert (line.state, line.name, line.actions) == ("gave up", "fetch (model.bin)", ("again",))
        assert "no such model" in line.said
        assert source.act("again", line.call).is_done
        wait_until(lambda: script.calls == 2)
        wait_until(lambda: only(source.read()).state == "repeated")
        assert source.act("again", line.call).said.startswith("it is not run again: ")


def test_a_call_that_recovers_is_shown_as_done():
    with Recovery(store=MemoryStore(), policy=HOUR, enable_logging=False) as service:
        source = ServiceSource(service)
        fetch = service.recoverable("fetch")(Script(ConnectionError()))
        with waiting_call(service, fetch) as call:
            source.read()
            service.calls.retry_now(call)
        line = only(source.read())
        assert (line.state, line.sentence, line.due) == ("succeeded", "", None)


def test_calls_that_do_not_fail_for_good_publish_nothing_for_the_page():
    service = Recovery()
    app(service)
    fetch = service.recoverable("fetch")(Script())
    fetch()
    for kind in (OperationStarted, OperationSucceeded, OperationFailed):
        assert not service.bus.has_subscribers(kind, "fetch", is_detail=False) or kind is OperationFailed
    ours = Recovery()
    assert service.bus.has_subscribers(RetryScheduled) == ours.bus.has_subscribers(RetryScheduled)


def test_nothing_that_is_shown_holds_markup_breaks_control_characters_or_secrets():
    service = Recovery(breaker=BreakerPolicy(failure_threshold=1), enable_logging=False, policy=HOUR)
    source = ServiceSource(service)
    asks = service.calls.question("token", "choice", [EVIL], EVIL, "javascript:alert(1)")
    strategy = {Category.UNREACHABLE: Strategy(wait_for=(asks,))}
    policy = RetryPolicy(per_category=strategy)
    broken = service.recoverable(f"o{EVIL}".replace("\0", ""), key=lambda: EVIL, max_retries=0)(Script(OSError(EVIL)))
    parked = service.recoverable("parked", policy=policy)(Script(ConnectionRefusedError(111, EVIL)))
    with begun(broken):
        pass
    with waiting_call(service, parked) as call:
        state = source.read()
        assert {line.state for line in state.calls.values()} == {"gave up", "waiting"}
        for text in texts(msgspec.to_builtins(state)):
            assert "hf_abc" not in text
            assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")], text
        [question] = state.questions
        assert (question.link, question.calls, len(question.waiting)) == ("", 1, 1)
        service.calls.give_up(call)


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, one in value.items():
                yield from texts(name)
                yield from texts(one)
        case list() | tuple():
            for one in value:
                yield from texts(one)


def test_a_question_is_answered_from_the_page_and_a_secret_stays_out_of_it():
    service = Recovery(enable_logging=False)
    source = ServiceSource(service)
    asks = service.calls.question("token:host", "secret", text="A token of host")
    policy = RetryPolicy(per_category={Category.UNREACHABLE: Strategy(wait_for=(asks,))})
    fetch = service.recoverable("fetch", policy=policy)(Script(ConnectionRefusedError()))
    with waiting_call(service, fetch):
        wait_until(lambda: source.read().questions)
        state = source.read()
        [question] = state.questions
        assert (question.name, question.kind, question.text) == ("token:host", "secret", "A token of host")
        assert only(state).waits_for == "token:host"
        assert state.headline == "1 call waits for your answer"
        with pytest.raises(LookupError):
            source.answer("token", "x")
        with pytest.raises(TypeError, match="must be a text"):
            source.answer("token:host", True)
        assert source.answer("token:host", "s3cret s3cret").is_done
    assert not source.read().questions
    assert "s3cret" not in str(source.read())


def test_calls_that_wait_for_an_incident_name_its_host():
    breaker = BreakerPolicy(failure_threshold=1, break_duration=3600.0)
    service = Recovery(breaker=breaker, enable_logging=False, when_open="wait", policy=RetryPolicy(max_retries=0))
    source = ServiceSource(service)
    fetch = service.recoverable("download", key=lambda: "example.org")(Script(ConnectionRefusedError()))
    with begun(fetch):
        pass
    with waiting_call(service, fetch) as call:
        state = source.read()
        [incident] = state.incidents
        assert (incident.name, incident.waiting) == ("download[example.org]", 1)
        assert state.calls[call].waits_for == "example.org"
        assert state.headline.startswith("1 download waits for example.org, next try ")
        assert state.circuits == {"download[example.org]": "open"}
        again = source.read()
        assert again.incidents == state.incidents
        with pytest.raises(LookupError, match="not open any more"):
            source.steer_incident("give up", "download[other.example]")
        assert source.steer_incident("give up", "download[example.org]").said == ("given up: 1 call that waited for it")
    assert source.steer_incident("probe", "download[example.org]").is_done


def test_calls_that_an_earlier_process_left_are_shown_from_the_journal(tmp_path: Path):
    journal = tmp_path / "calls.db"
    with Recovery(store=SQLiteStore(journal), enable_logging=False) as former:
        broken = former.recoverable("fetch", resumable=True, max_retries=0)(Script(ValueError("wrong")))
        with begun(broken):
            pass
    with Recovery(store=SQLiteStore(journal), enable_logging=False) as service:
        service.journal.receipt().wait()
        line = only(ServiceSource(service).read())
        assert (line.state, line.operation) == ("gave up", "fetch")


def test_a_monitored_service_has_alerts_charts_and_metrics():
    with Recovery(enable_logging=False) as service:
        monitored = app(service, TOKEN, monitor=service.monitor())
        broken = service.recoverable("fetch", max_retries=0)(Script(ValueError("wrong")))
        with begun(broken):
            pass
        with serving(monitored) as server:
            state = server.ask("/state").json()
            assert {chart["name"] for chart in state["charts"]} == {"success", "recovery", "overhead"}
            assert not any("not monitored" in note for note in state["notes"])
            metrics = server.ask("/metrics", BEARER)
            assert metrics.headers["content-type"].startswith("text/plain")
            families = {family.name for family in text_string_to_metric_families(metrics.body.decode())}
            assert "recovery_calls" in families
            assert server.ask("/metrics", {}).status == 401
