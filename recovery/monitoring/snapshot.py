"""What a monitor knows at one moment: frozen, and ready for JSON (``msgspec.json.encode``). Pure.

All that counts since the start only ever grows, as an exporter of metrics wants its counters; the windows are for
people and alerts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from recovery.journal.accounting import Backlog, Counts
from recovery.monitoring.alerts import Alert
from recovery.monitoring.counters import OperationKey, State
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.windows import SPANS, Sketch, Tally, Window
from recovery.redact import redact


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of seconds: of *count* values the mean, and the percentiles to 1 % of their value."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


class WaitsFor(msgspec.Struct, frozen=True, kw_only=True):
    """*count* waits, and the *seconds* that they were told to last; those without an end count as none."""

    count: int
    seconds: float


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the last *seconds*.

    *calls* are those that ended: *successes* (*recovered* of them after a failure), *gave_up* and *rejected*;
    *success_rate* is the share of the first, ``None`` without a call. *cancelled* calls are neither. *attempts* are
    *successes* and *failures*, the latter by category. *waits* are by cause: the category of the failure, or what was
    parked for. *recovery* is the time from a call's first failure to its success, *lag* how much later than it was
    told the latest retry of a recovered call began. *deciding* is seconds from failures to their verdicts. *opened*
    counts circuits.
    """

    seconds: float
    calls: int
    successes: int
    success_rate: float | None
    recovered: int
    gave_up: int
    rejected: int
    cancelled: int
    resumed: int
    attempts: int
    failures: int
    categories: dict[str, int]
    retries: int
    parks: int
    waits: dict[str, WaitsFor]
    recovery: Times | None
    lag: Times | None
    deciding: float
    opened: int


class CircuitSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The circuit of one part: its *state*, how often it *opened*, and how many seconds it was not closed, in all.

    A *metrics_only* one holds nobody back.
    """

    state: Literal["closed", "open", "half_open"] = "closed"
    opened: int = 0
    open_for: float = 0.0
    metrics_only: bool = False


class PartSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, or one *key* of it: what happened in each window ("1m", "5m", "60m", and "all": since the start).

    *overhead* is ``None`` until calls were sampled. An empty name stands for all operations too many to count apart.
    """

    operation: str
    key: str
    counted: dict[str, Counted]
    circuit: CircuitSeen
    overhead: Overhead | None = None


class JournalSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The journal: what became of its events, and its lag.

    *waiting* events are accepted but not committed, about *bytes* of them, the oldest for *age* seconds. *reason* says
    why nothing can be written at the moment.
    """

    issued: int
    stored: int
    coalesced: int
    dropped: int
    waiting: int
    bytes: int
    age: float
    reason: str | None
    degraded: int
    restored: int
    quarantined: int


class SubscriberSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How often a subscriber failed, and whether it was set aside for it."""

    failures: int
    disabled: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at the moment *at*, on the bus's clock, since *began*.

    *counted* and *overhead* are of all *parts* together. *waiting* calls wait for an attempt; *memory* is what they and
    the journal's queue take, in bytes, by estimate.
    """

    at: float
    began: float
    counted: dict[str, Counted]
    parts: tuple[PartSeen, ...]
    overhead: Overhead | None
    waiting: int
    memory: int
    journal: JournalSeen | None
    subscribers: dict[str, SubscriberSeen]
    ignored_verdicts: int
    dropped_events: int
    alerts: tuple[Alert, ...]


WINDOWS: tuple[str, ...] = (*SPANS, "all")


def windows_of(part: OperationKey, now: float) -> dict[str, Window]:
    """Each window of *part*, by name."""
    return {name: part.history.over(None if name == "all" else name, now) for name in WINDOWS}


def in_all(parts: Iterable[dict[str, Window]], state: State, now: float) -> dict[str, Window]:
    """The windows of all *parts* together."""
    total = {name: Window(0.0, 0, Tally()) for name in WINDOWS}
    for windows in parts:
        for name, window in windows.items():
            before = total[name]
            before.tally.add(window.tally, state.new_sketch)
            seconds = max(before.seconds, window.seconds)
            total[name] = Window(seconds, before.successes + window.successes, before.tally)
    return total


def counted(window: Window) -> Counted:
    """*window* as it is shown."""
    tally, successes = window.tally, window.successes
    return Counted(
        seconds=window.seconds,
        calls=window.calls,
        successes=successes,
        success_rate=success_rate(window),
        recovered=tally.recovered,
        gave_up=tally.gave_up,
        rejected=tally.rejected,
        cancelled=tally.cancelled,
        resumed=tally.resumed,
        attempts=successes + tally.failures,
        failures=tally.failures,
        categories=dict(tally.categories),
        retries=tally.retries,
        parks=tally.parks,
        waits={
            redact(cause): WaitsFor(count=count, seconds=seconds) for cause, (count, seconds) in tally.waits.items()
        },
        recovery=times(tally.recovery),
        lag=times(tally.lag),
        deciding=tally.deciding,
        opened=tally.opened,
    )


def success_rate(window: Window) -> float | None:
    """The share of calls that succeeded; ``None`` if none has ended."""
    return window.successes / window.calls if window.calls else None


def times(sketch: Sketch | None) -> Times | None:
    """The distribution that *sketch* remembers; ``None`` if there is nothing in it."""
    if sketch is None or not sketch.count:
        return None
    quantiles = {name: sketch.get_quantile_value(share) or 0.0 for name, share in _PERCENTILES}
    return Times(count=round(sketch.count), mean=sketch.avg, **quantiles)


_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def circuit(part: OperationKey, now: float) -> CircuitSeen:
    """The circuit of *part*."""
    open_for = part.open_for + (0.0 if part.opened_at is None else max(now - part.opened_at, 0.0))
    return CircuitSeen(state=part.circuit, opened=part.opened, open_for=open_for, metrics_only=part.is_metrics_only)


def subscribers(state: State) -> dict[str, SubscriberSeen]:
    """The subscribers that failed, by name."""
    return {
        name: SubscriberSeen(failures=one.failures, disabled=one.disabled) for name, one in state.subscribers.items()
    }


def journal_seen(state: State, counts: Counts, backlog: Backlog, reason: str | None, now: float) -> JournalSeen:
    """The journal that counts so many events, and has that *backlog*."""
    return JournalSeen(
        issued=counts.issued,
        stored=counts.stored,
        coalesced=counts.coalesced,
        dropped=counts.dropped,
        waiting=counts.waiting,
        bytes=backlog.bytes,
        age=0.0 if backlog.since is None else max(now - backlog.since, 0.0),
        reason=None if reason is None else redact(reason),
        degraded=state.degraded,
        restored=state.restored,
        quarantined=state.quarantined,
    )
