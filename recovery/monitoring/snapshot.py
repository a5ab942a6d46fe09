"""What a monitor knows at one moment: frozen, and ready for JSON (``msgspec.json.encode``). Pure.

The counts since the start only grow, as an exporter of metrics expects. The windows are for people and alerts.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from ddsketch import DDSketch

from events.alert_events import AlertRaised
from events.names import display_name
from recovery.explain import counted, duration
from recovery.journal.journal import Journal
from recovery.monitoring.counters import CircuitSnapshot, Counters, SubscriberSnapshot
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.windows import SUMS, WINDOWS, Tally, Window
from recovery.redact import brief
from recovery.subscribers.incidents import Incident
from recovery.subscribers.log import alert_in_words


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of durations.

    Args:
        count: How many durations.
        mean: Their mean in seconds.
        p50: The median in seconds, within 1 % of its value.
        p95: Seconds that 95 % of them do not exceed, likewise.
        p99: Seconds that 99 % of them do not exceed, likewise.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of one cause.

    Args:
        count: How many waits.
        seconds: How long they were planned to last together; a wait without an end adds none.
    """

    count: int
    seconds: float


class WindowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the last *seconds*.

    Args:
        seconds: How far the window reaches back; less than its span while the monitor is young.
        calls: Calls that ended: *successes*, *gave_up* and *rejected*. A *cancelled* call is none of them.
        successes: Calls that returned.
        success_rate: *successes* as a share of *calls*; None without a call.
        recovered: Successes after at least one failure.
        gave_up: Calls that gave up.
        rejected: Calls that were not allowed to begin.
        cancelled: Calls that were cancelled.
        resumed: Calls that were resumed after a restart.
        attempts: *successes* and *failures*.
        failures: Attempts that raised.
        categories: Failures by category.
        retries: Retries that were scheduled.
        parks: How often a call was parked.
        waits: Waits by cause: the category of the failure, or the condition that was waited for.
        recovery: Time from a call's first failure to its success.
        lag: By how much the retries of a recovered call began later than scheduled: the longest of them.
        decision_seconds: Time between failures and their verdicts, added up.
        opened: How many times a circuit opened.
        incidents: How many incidents ended: each from the first break of a circuit until it was closed.
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
    waits: dict[str, Waits]
    recovery: Distribution | None
    lag: Distribution | None
    decision_seconds: float
    opened: int
    incidents: int


class OperationSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, or one key of it.

    Args:
        operation: Its name; "" stands for the operation keys beyond the first 256, counted together.
        key: Its key; "" for the operation as a whole.
        windows: What was counted, by window: "1m", "5m", "60m", and "all" since the start.
        circuit: Its circuit.
        overhead: What recovery costs its calls; None until calls were sampled.
    """

    operation: str
    key: str
    windows: dict[str, WindowCounts]
    circuit: CircuitSnapshot
    overhead: Overhead | None = None


class JournalSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The journal: what became of its events, and how far writing is behind.

    Args:
        issued: Events that were given a number; the sum of the next four.
        stored: Events that are committed.
        coalesced: Events that a later one of the same call made needless (checkpoints).
        dropped: Events that are lost.
        waiting: Events that are accepted and not committed.
        bytes: About how many bytes those take.
        age: Seconds since the oldest of them happened.
        reason: Why the journal cannot be written now; None while it can.
        degraded: How often it could not be written (``JournalDegraded``).
        restored: How often it could be written again (``JournalRestored``).
        quarantined: How many files were set apart (``JournalQuarantined``).
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


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a monitor knows at one moment.

    ``str`` says it in short: the last five minutes, then a line for each open incident and each alert.

    Args:
        at: The moment, on the bus's clock.
        began: When the monitor began to count, on the same clock.
        windows: All operations together, in "1m", "5m", "60m", and "all" since the start.
        operations: Each operation key that was called, sorted.
        overhead: What recovery costs all sampled operations together; None until calls were sampled.
        waiting: Calls that wait for their next attempt.
        memory: Estimated bytes that these calls and the journal's write queue take.
        journal: None without a store.
        subscribers: The subscribers that failed, by name.
        ignored_verdicts: Verdicts given to events that ask for none.
        dropped_events: Events that the bus dropped because they caused each other without end.
        alerts: The alerts that are on, oldest first: when each was raised, and its latest value.
        incidents: The incidents that are open, oldest first. The calls that wait for one are among those *waiting*.
    """

    at: float
    began: float
    windows: dict[str, WindowCounts]
    operations: tuple[OperationSnapshot, ...]
    overhead: Overhead | None
    waiting: int
    memory: int
    journal: JournalSnapshot | None
    subscribers: dict[str, SubscriberSnapshot]
    ignored_verdicts: int
    dropped_events: int
    alerts: tuple[AlertRaised, ...]
    incidents: tuple[Incident, ...] = ()

    def __str__(self) -> str:
        seen = self.windows["5m"]
        alone = self.waiting - sum(len(incident.waiting) for incident in self.incidents)
        first = f"{seen.successes} of {counted(seen.calls, 'call')} succeeded in {duration(seen.seconds)}"
        return "\n".join(
            (
                f"{first}; {counted(alone, 'call')} waiting" if alone > 0 else first,
                *(f"incident {incident}" for incident in self.incidents),
                *(f"alert {_name_of(alert)}: {alert_in_words(alert)}" for alert in self.alerts),
            )
        )


def _name_of(alert: AlertRaised) -> str:
    return display_name(alert.operation, alert.key) or "all operations"


def combined_windows(operations: Iterable[dict[str, Window]]) -> dict[str, Window]:
    """The windows of all *operations* together."""
    total = {name: Window(0.0, 0, Tally()) for name in WINDOWS}
    for windows in operations:
        for name, window in windows.items():
            total[name].seconds = max(total[name].seconds, window.seconds)
            total[name].successes += window.successes
            total[name].tally.add(window.tally)
    return total


def counts_of(windows: dict[str, Window]) -> dict[str, WindowCounts]:
    """The counts of each window, by name."""
    return {name: window_counts(window) for name, window in windows.items()}


def window_counts(window: Window) -> WindowCounts:
    """The counts of *window*, without secrets in the causes of waits."""
    tally, successes = window.tally, window.successes
    return WindowCounts(
        seconds=window.seconds,
        calls=window.calls,
        successes=successes,
        success_rate=window.success_rate,
        attempts=successes + tally.failures,
        categories=dict(tally.categories),
        waits={brief(cause): Waits(count=count, seconds=seconds) for cause, (count, seconds) in tally.waits.items()},
        recovery=distribution(tally.recovery),
        lag=distribution(tally.lag),
        **{name: getattr(tally, name) for name in SUMS},
    )


def distribution(sketch: DDSketch | None) -> Distribution | None:
    """The distribution that *sketch* holds; None without a value."""
    if sketch is None:
        return None
    p50, p95, p99 = (sketch.get_quantile_value(share) or 0.0 for share in (0.5, 0.95, 0.99))
    return Distribution(count=round(sketch.count), mean=sketch.avg, p50=p50, p95=p95, p99=p99)


def journal_snapshot(counters: Counters, journal: Journal, now: float) -> JournalSnapshot:
    """The journal, by its own counts and the events about it."""
    backlog, reason = journal.backlog, journal.reason
    return JournalSnapshot(
        bytes=backlog.bytes,
        age=0.0 if backlog.since is None else max(now - backlog.since, 0.0),
        reason=None if reason is None else brief(reason),
        **msgspec.structs.asdict(journal.counts),
        **counters.journal,
    )
