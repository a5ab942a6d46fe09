"""No counter of a service falls from one scrape to the next, in any history of its calls."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.metrics.families import FAMILIES
from adapters.metrics.prometheus import RecoveryCollector
from events.event import Event
from events.operation_events import CallRejected, GaveUp, OperationCancelled, OperationRecovered, RetryScheduled
from recovery.service import Recovery
from recovery.testing import VirtualClock
from tests.adapters.metrics.scraping import scrape
from tests.recovery.monitoring.monitored import failure

CUMULATIVE = {one.shown for one in FAMILIES if one.kind == "counter"} | {
    f"{one.name}_{part}" for one in FAMILIES if one.kind == "histogram" for part in ("bucket", "sum", "count")
}
KEYS = st.sampled_from(["", "a", "b", "c", "other"])


@st.composite
def events(draw: st.DrawFn) -> list[Any]:
    """The events of one call of a key, each with the seconds before it."""
    kinds: list[dict[str, Any]] = [{"kind": None}, {"kind": RetryScheduled, "after": 1.0, "retry": 1}]
    ends = [{"kind": kind} for kind in (GaveUp, OperationRecovered, CallRejected, OperationCancelled)]
    chosen = [*draw(st.sampled_from([kinds, []])), draw(st.sampled_from(ends))]
    key, call = draw(KEYS), draw(st.integers(0, 10**6))
    return [(draw(st.floats(0.0, 900.0)), {"key": key, "call": f"c{call}", **one}) for one in chosen]


def publish(service: Recovery, fields: dict[str, Any]) -> None:
    at, kind = service.bus.clock(), fields["kind"]
    rest = {name: value for name, value in fields.items() if name != "kind"}
    event: Event = (
        msgspec.structs.replace(failure("", at), **rest) if kind is None else kind(at=at, operation="fetch", **rest)
    )
    service.bus.publish(event)


@settings(max_examples=8)
@given(st.lists(st.lists(events(), max_size=4), min_size=2, max_size=5), st.integers(0, 2))
def test_no_counter_falls_and_no_series_counts_twice(scrapes: list[Any], most_keys: int):
    clock = VirtualClock()
    service = Recovery(clock=clock, breaker=None, enable_logging=False)
    collector = RecoveryCollector(service, most_keys=most_keys)
    greatest: dict[Any, float] = {}
    ended = 0
    for calls in scrapes:
        for seconds, fields in (one for call in calls for one in call):
            clock.advance(seconds)
            publish(service, fields)
        ended += len(calls)
        found = {of: number for of, number in scrape(collector).items() if of[0] in CUMULATIVE}
        assert [of for of, number in found.items() if number < greatest.get(of, 0.0)] == []
        greatest |= found
        kept = sum(number for (name, _), number in greatest.items() if name == "recovery_calls_total")
        assert kept == ended
