"""Count calls and durations, raise alerts, estimate the overhead."""

from recovery.monitoring.alerts import Threshold, Thresholds
from recovery.monitoring.counters import CircuitSnapshot, SubscriberSnapshot
from recovery.monitoring.monitor import Monitor
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.snapshot import Distribution, JournalSnapshot, OperationSnapshot, Snapshot, Waits, WindowCounts

__all__ = [
    "CircuitSnapshot", "Distribution", "JournalSnapshot", "Monitor", "OperationSnapshot", "Overhead",
    "Snapshot", "SubscriberSnapshot", "Threshold", "Thresholds", "Waits", "WindowCounts",
]  # fmt: skip
