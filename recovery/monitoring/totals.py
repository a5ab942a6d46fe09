"""What was counted since a monitor began, as an exporter of metrics wants it: counts that only grow. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from ddsketch import DDSketch

from events.alert_events import AlertRaised
from recovery.monitoring.counters import CircuitSnapshot, SubscriberSnapshot
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.snapshot import JournalSnapshot
from recovery.monitoring.windows import Window
from recovery.operations import OperationKey


class OperationTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One operation key.

    Args:
        window: What was counted since the start.
        circuit: Its circuit.
        overhead: What recovery costs its calls; None until calls were sampled.
    """

    window: Window
    circuit: CircuitSnapshot
    overhead: Overhead | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a monitor counted since it began.

    Args:
        operations: Each operation key that was called; ("", "") stands for those beyond the first 256, together.
        waiting: Calls that wait for their next attempt.
        memory: Estimated bytes that these calls and the journal's write queue take.
        journal: None without a store.
        subscribers: The subscribers that failed, by name.
        dropped_events: Events that the bus dropped because they caused each other without end.
        alerts: The alerts that are on, oldest first.
        incidents: How many incidents are open.
    """

    operations: Mapping[OperationKey, OperationTotals]
    waiting: int
    memory: int
    journal: JournalSnapshot | None
    subscribers: Mapping[str, SubscriberSnapshot]
    dropped_events: int
    alerts: tuple[AlertRaised, ...]
    incidents: int


def bucket_counts(sketch: DDSketch | None, bounds: Sequence[float]) -> list[int]:
    """How many values of *sketch* lie in each bucket: up to the first of *bounds*, up to the second, ..., above all.

    A value within 1 % of a bound may be counted on its other side. It stays there, so that the counts only grow.
    """
    counts = [0] * (len(bounds) + 1)
    if sketch is None:
        return counts
    # Any, and private names: a sketch shows quantiles only, and to search them takes a thousand times as long.
    values: Any = sketch
    store, middle_of = values._store, values._mapping.value
    for index, number in enumerate(store.bins):
        if number:
            counts[bisect_left(bounds, middle_of(index + store.offset))] += round(number)
    counts[0] += round(sketch.count - store.count)  # zeros: no duration is negative
    return counts
