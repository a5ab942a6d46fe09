"""Metrics of a service for Prometheus: a collector, a web application, or the text alone.

    from prometheus_client import REGISTRY

    REGISTRY.register(RecoveryCollector(service))

It reads the service's monitor when it is asked; a healthy call pays nothing for it. No label holds the id of a call.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from adapters.metrics import families
from adapters.metrics.busiest import MOST_KEYS, Busiest
from adapters.metrics.families import BUCKETS, FAMILIES, Family
from events.evidence import Category
from recovery import validation
from recovery.installation import extra
from recovery.monitoring.counters import OVERFLOW
from recovery.monitoring.overhead import combined_overhead
from recovery.monitoring.snapshot import JournalSnapshot
from recovery.monitoring.totals import OperationTotals, Totals, bucket_counts
from recovery.monitoring.windows import OTHER
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Circuit, Forced, HalfOpen, Open
from recovery.redact import brief
from recovery.service import Recovery

with extra("prometheus"):
    from prometheus_client import CollectorRegistry, make_asgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

MAX_LABEL = 128
"""Characters of a label's value."""

METRICS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class Series(NamedTuple):
    """A counter of one operation key: its *family*, and the *value* of its third label, "" for none."""

    family: Family
    value: str = ""


Counts: TypeAlias = Mapping[Series, float]


class RecoveryCollector(Collector):
    """Collects the metrics of *service*, for a registry of ``prometheus_client``. Safe to use from any thread.

    The counts begin with the service's monitor, which is made here if there is none. A scrape takes half a millisecond
    for each operation key, and evaluates the monitor's alerts.

    Args:
        service: The service.
        most_keys: Keys with series of their own: the busiest ones. The others are counted as the key "other".
    """

    def __init__(self, service: Recovery, *, most_keys: int = MOST_KEYS) -> None:
        self._service = service
        self._monitor = service.monitor()
        self._busiest: Busiest[Series] = Busiest(validation.whole("most_keys", most_keys, least=0))
        self._lock = threading.RLock()  # a subscriber to an alert may ask, too

    def describe(self) -> Iterator[Metric]:
        """Every metric, without samples."""
        return (_metric(family) for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it is now."""
        found = {family: _metric(family) for family in FAMILIES}
        with self._lock:  # one scrape after another, or an older one would seem to fall
            totals = self._monitor.totals()
            self._add_operations(found, totals)
        _add_whole(found, totals, len(self._service.calls.questions()))
        return iter([metric for metric in found.values() if metric.samples])

    def _add_operations(self, found: dict[Family, Any], totals: Totals) -> None:
        counts: defaultdict[OperationKey, defaultdict[Series, float]] = defaultdict(lambda: defaultdict(float))
        for key, of in totals.operations.items():
            into = counts[_labels(key)]
            for series, number in _counts(of).items():
                into[series] += number
        activity = [Series(families.FAILURES, one.value) for one in Category]
        activity += [Series(families.CALLS, outcome) for outcome in families.OUTCOMES]
        shares = self._busiest.share(counts, activity, self._service.bus.clock())
        for part, shared in sorted(shares.items()):
            for series, number in shared.items():
                labels = [*part, series.value] if series.value else part
                found[series.family].add_metric(labels, number)
        circuits = _open_circuits(totals, self._service.circuits.states())
        for family, gauges in ((families.CIRCUITS, circuits), (families.ALERTS, _alerts(totals))):
            numbers: defaultdict[tuple[str, ...], int] = defaultdict(int)
            for alert, key, number in gauges:
                numbers[*alert, *self._busiest.name_of(_labels(key))] += number
            for names, number in sorted(numbers.items()):
                found[family].add_metric(names, number)
        _add_distributions(found, totals)


def render(collector: RecoveryCollector, accept: str = "") -> tuple[str, bytes]:
    """The content type and the text of all metrics of *collector*.

    Args:
        collector: The collector; keep it, since its counters begin with it.
        accept: The header ``Accept`` of the request: OpenMetrics is written only where that asks for it.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(collector)


def metrics_app(service: Recovery, *, most_keys: int = MOST_KEYS) -> Callable[..., Any]:
    """An ASGI application that answers every path with the metrics of *service*. It asks for no password.

    Args:
        service: The service.
        most_keys: As of ``RecoveryCollector``.
    """
    registry = CollectorRegistry()
    registry.register(RecoveryCollector(service, most_keys=most_keys))
    return make_asgi_app(registry)


def _metric(family: Family) -> Any:  # Any: each kind of metric takes samples of another form
    return METRICS[family.kind](family.name, family.help, labels=family.labels)


def _labels(key: OperationKey) -> OperationKey:
    """*key* as labels, without secrets."""
    return (OTHER, "") if key == OVERFLOW else (brief(key[0], MAX_LABEL), brief(key[1], MAX_LABEL))


def _counts(of: OperationTotals) -> Counts:
    """What is counted of one operation key. All outcomes and categories are there, or their first would not show."""
    tally = of.window.tally
    outcomes = {
        "succeeded": of.window.successes - tally.recovered,
        **{name: getattr(tally, name) for name in families.OUTCOMES if name != "succeeded"},
    }
    return {
        **{Series(families.CALLS, outcome): number for outcome, number in outcomes.items()},
        **{Series(families.FAILURES, one.value): tally.categories.get(one.value, 0) for one in Category},
        Series(families.RETRIES): tally.retries,
        Series(families.PARKS): tally.parks,
        Series(families.RESUMED): tally.resumed,
        Series(families.WAITED): sum(seconds for _, seconds in tally.waits.values()),
        Series(families.DECIDED): tally.decision_seconds,
        Series(families.OPENINGS): tally.opened,
        Series(families.OPEN_SECONDS): of.circuit.open_for,
        Series(families.INCIDENTS): tally.incidents,
    }


def _open_circuits(
    totals: Totals, states: Mapping[OperationKey, Circuit | Forced]
) -> Iterator[tuple[tuple[()], OperationKey, int]]:
    """Whether the circuit of each key is open: also of one that was not called since a restart."""
    opened = {
        key
        for key, state in states.items()
        if isinstance(state, Open | HalfOpen) or (isinstance(state, Forced) and state.mode == "open")
    }
    return (((), key, int(key in opened)) for key in {**totals.operations, **states})


def _alerts(totals: Totals) -> Iterator[tuple[tuple[str], OperationKey, int]]:
    return (((alert.alert,), (alert.operation, alert.key), 1) for alert in totals.alerts)


def _add_distributions(found: dict[Family, Any], totals: Totals) -> None:
    """The histograms and the overhead of each operation: all its keys together."""
    operations: defaultdict[str, list[OperationTotals]] = defaultdict(list)
    for key, of in totals.operations.items():
        operations[_labels(key)[0]].append(of)
    names = [*map(str, BUCKETS), "+Inf"]
    for operation, parts in sorted(operations.items()):
        for family, field in ((families.RECOVERY, "recovery"), (families.LAG, "lag")):
            sketches = [getattr(of.window.tally, field) for of in parts]
            counts = [sum(each) for each in zip(*(bucket_counts(one, BUCKETS) for one in sketches), strict=True)]
            below = [sum(counts[: index + 1]) for index in range(len(counts))]
            seconds = sum(sketch.sum for sketch in sketches if sketch is not None)
            found[family].add_metric([operation], list(zip(names, below, strict=True)), seconds)
        cost = combined_overhead([(of.overhead, of.window.calls) for of in parts if of.overhead is not None])
        if cost is not None and cost.share is not None:
            found[families.OVERHEAD].add_metric([operation], cost.share)


def _add_whole(found: dict[Family, Any], totals: Totals, questions: int) -> None:
    """What concerns the service as a whole."""
    subscribers = totals.subscribers
    numbers: dict[Family, float] = {
        families.WAITING: totals.waiting,
        families.OPEN_INCIDENTS: totals.incidents,
        families.QUESTIONS: questions,
        families.MEMORY: totals.memory,
        families.SUBSCRIBERS_DISABLED: sum(one.disabled for one in subscribers.values()),
        families.DROPPED_EVENTS: totals.dropped_events,
    }
    if totals.journal is not None:
        numbers |= _journal(totals.journal)
        for result in families.JOURNAL_RESULTS:
            found[families.JOURNAL_EVENTS].add_metric([result], getattr(totals.journal, result))
    for family, number in numbers.items():
        found[family].add_metric([], number)
    failures: defaultdict[str, int] = defaultdict(int)
    for name, seen in subscribers.items():
        failures[brief(name, MAX_LABEL)] += seen.failures
    for name, number in failures.items():
        found[families.SUBSCRIBER_FAILURES].add_metric([name], number)


def _journal(journal: JournalSnapshot) -> dict[Family, float]:
    return {
        families.JOURNAL_DEGRADED: journal.degraded,
        families.JOURNAL_QUARANTINED: journal.quarantined,
        families.JOURNAL_WAITING: journal.waiting,
        families.JOURNAL_BYTES: journal.bytes,
        families.JOURNAL_AGE: journal.age,
        families.JOURNAL_WRITABLE: int(journal.reason is None),
    }
