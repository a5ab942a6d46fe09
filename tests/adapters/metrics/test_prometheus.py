"""What Prometheus gets: the counts of the monitor, as samples that its own client reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from adapters.memory import MemoryStore
from adapters.metrics import families
from adapters.metrics.families import BUCKETS, FAMILIES
from adapters.metrics.prometheus import RecoveryCollector, metrics_app, render
from events.alert_events import AlertRaised
from events.evidence import Category
from events.operation_events import OperationRecovered
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.adapters.metrics.scraping import Samples, scrape, series, value
from tests.recovery.monitoring.monitored import failing, failure, give_up, repeat, service_on
from tests.recovery.waiting.parked import parks, steered


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def service(clock: VirtualClock) -> Recovery:
    return service_on(clock)


@pytest.fixture
def collector(service: Recovery) -> RecoveryCollector:
    return RecoveryCollector(service)


@pytest.fixture
def journalled() -> Iterator[Recovery]:
    with Recovery(store=MemoryStore()) as service:
        yield service


def fail_by_keys(service: Recovery, calls: dict[str, int]) -> None:
    """Let calls of "fetch" give up, that many of each key."""

    @service.recoverable("fetch", key=lambda key: key, max_retries=0)
    def fetch(key: str) -> None:
        raise ConnectionError(key)

    for key, number in calls.items():
        for _ in range(number):
            with pytest.raises(ConnectionError):
                fetch(key)


def test_calls_are_counted_by_outcome_and_failures_by_category(service: Recovery, collector: RecoveryCollector):
    repeat(service.recoverable("fetch")(failing(0)), 3)
    service.recoverable("fetch")(failing(2))()
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(failing(9))()
    found = scrape(collector)
    part = {"operation": "fetch", "key": ""}
    calls = {one: value(found, families.CALLS, **part, outcome=one) for one in families.OUTCOMES}
    assert calls == {"succeeded": 3, "recovered": 1, "gave_up": 1, "rejected": 0, "cancelled": 0}
    assert value(found, families.FAILURES, **part, category="transient") == 6
    assert value(found, families.RETRIES, **part) == 5
    assert value(found, families.WAITED, **part) == pytest.approx(10.0)


def test_every_outcome_and_category_begins_at_zero(service: Recovery, collector: RecoveryCollector):
    service.recoverable("fetch")(failing(0))()
    found = scrape(collector)
    assert len(series(found, families.CALLS, operation="fetch")) == len(families.OUTCOMES)
    assert len(series(found, families.FAILURES, operation="fetch")) == len(Category)


def test_the_histogram_of_recovery_times_is_cumulative(service: Recovery, collector: RecoveryCollector):
    now = service.bus.clock()
    for number, seconds in enumerate((0.05, 0.7, 0.7, 45.0, 90_000.0)):
        service.bus.publish(failure(f"c{number}", at=now - seconds))
        service.bus.publish(OperationRecovered(at=now, operation="fetch", call=f"c{number}", attempt=2))
    found = scrape(collector)
    name, labels = families.RECOVERY.name, {("operation", "fetch")}
    below = {bound: found[f"{name}_bucket", frozenset({*labels, ("le", f"{bound}")})] for bound in BUCKETS}
    assert [below[one] for one in (0.1, 0.5, 1.0, 30.0, 60.0, 3600.0)] == [1, 1, 3, 3, 4, 4]
    assert found[f"{name}_count", frozenset(labels)] == 5
    assert found[f"{name}_sum", frozenset(labels)] == pytest.approx(90_046.45)


def test_no_label_holds_the_id_of_a_call(service: Recovery, collector: RecoveryCollector):
    service.recoverable("fetch")(failing(1))()
    _, text = render(collector)
    assert service.bus.run not in text.decode()


def test_the_busiest_keys_have_series_of_their_own(service: Recovery):
    collector = RecoveryCollector(service, most_keys=2)
    fail_by_keys(service, {"a": 3, "b": 1, "c": 2, "d": 1})
    found = scrape(collector)
    gave_up = {key: value(found, families.CALLS, operation="fetch", key=key, outcome="gave_up") for key in "abcd"}
    assert gave_up == {"a": 3, "b": None, "c": 2, "d": None}
    assert value(found, families.CALLS, operation="fetch", key="other", outcome="gave_up") == 2


def test_secrets_in_names_are_redacted(service: Recovery, collector: RecoveryCollector):
    fail_by_keys(service, {"https://user:hunter2@example.org": 1, "https://user:hunter3@example.org": 1})
    found = scrape(collector)
    [(labels, number)] = series(found, families.CALLS, operation="fetch", outcome="gave_up").items()
    assert "hunter" not in str(labels)
    assert number == 2


def test_names_with_quotes_and_newlines_can_be_read(service: Recovery, collector: RecoveryCollector):
    fail_by_keys(service, {'a"b\n{}\\\x1b[31m': 1})
    [labels] = series(scrape(collector), families.RETRIES, operation="fetch")
    assert "\x1b" not in dict(labels)["key"]


def test_a_circuit_that_is_open_is_shown(service: Recovery, collector: RecoveryCollector):
    service.recoverable("fetch")(failing(0))()
    service.circuits.force("fetch", "open")
    found = scrape(collector)
    assert value(found, families.CIRCUITS, operation="fetch", key="") == 1
    assert value(found, families.OPENINGS, operation="fetch", key="") == 1
    assert value(found, families.OPEN_INCIDENTS) == 1


def test_a_circuit_that_opened_before_the_collector_was_made_is_shown(service: Recovery):
    service.circuits.force("fetch", "open")
    service.circuits.force("clone", "metrics_only")
    found = scrape(RecoveryCollector(service))
    shown = [value(found, families.CIRCUITS, operation=operation, key="") for operation in ("fetch", "clone")]
    assert shown == [1, 0]


def test_an_alert_is_evaluated_by_a_scrape(service: Recovery, collector: RecoveryCollector, clock: VirtualClock):
    raised: list[AlertRaised] = []
    service.bus.subscribe(AlertRaised, raised.append)
    give_up(service, 30)
    found = scrape(collector)
    assert {(one.alert, one.operation) for one in raised} == {("success", "fetch"), ("success", "")}
    assert value(found, families.ALERTS, alert="success", operation="fetch", key="") == 1


def test_what_became_of_the_events_of_a_journal_is_shown(journalled: Recovery):
    collector = RecoveryCollector(journalled)
    journalled.recoverable("fetch", durability="journal")(failing(0))()
    journalled.journal.receipt().wait()
    found = scrape(collector)
    assert value(found, families.JOURNAL_EVENTS, result="stored") == 2
    assert value(found, families.JOURNAL_EVENTS, result="dropped") == 0
    assert value(found, families.JOURNAL_WRITABLE) == 1
    assert value(found, families.JOURNAL_WAITING) == 0


def test_a_call_that_waits_for_a_person_is_shown(service: Recovery, collector: RecoveryCollector):
    asked = service.calls.question("licence")
    seen: list[Samples] = []

    def act(_: str) -> None:
        seen.append(scrape(collector))
        service.calls.answer("licence")

    steered(service, Script(ConnectionError()), act, policy=parks(asked))
    assert [value(found, families.QUESTIONS) for found in (*seen, scrape(collector))] == [1, 0]
    assert value(seen[0], families.WAITING) == 1


def test_a_service_without_a_journal_shows_none(collector: RecoveryCollector):
    assert not [name for name, _ in scrape(collector) if "journal" in name]


def test_a_registry_takes_it_and_writes_open_metrics_where_asked(service: Recovery):
    registry = CollectorRegistry()
    collector = RecoveryCollector(service)
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(RecoveryCollector(service))
    service.recoverable("fetch")(failing(1))()
    content_type, text = render(collector, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {metric.name for metric in open_metrics(text.decode())} <= {family.name for family in FAMILIES}
    assert render(collector, "text/plain")[0].startswith("text/plain")


def test_the_application_answers_with_the_metrics(service: Recovery):
    app = metrics_app(service)
    service.recoverable("fetch")(failing(0))()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    assert b'recovery_calls_total{key="",operation="fetch",outcome="succeeded"} 1.0' in sent[1]["body"]


@pytest.mark.parametrize("most_keys", [-1, 1.5, None])
def test_a_wrong_number_of_keys_is_refused(service: Recovery, most_keys: Any):
    with pytest.raises((TypeError, ValueError), match="most_keys"):
        RecoveryCollector(service, most_keys=most_keys)


def test_every_label_value_of_a_journal_is_a_count_of_it(journalled: Recovery):
    shown = journalled.monitor().totals().journal
    assert families.JOURNAL_RESULTS.keys() <= set(msgspec.structs.asdict(shown))


def test_the_buckets_ascend():
    assert list(BUCKETS) == sorted(BUCKETS)
    assert math.inf not in BUCKETS
