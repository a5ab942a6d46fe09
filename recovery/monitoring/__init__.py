"""Count calls and durations, raise alerts, estimate the overhead."""

from recovery.monitoring.alerts import Alert, Threshold, Thresholds
from recovery.monitoring.monitor import Monitor
from recovery.monitoring.overhead import Overhead
from recovery.monitoring.snapshot import (
    CircuitSnapshot,
    Distribution,
    JournalSnapshot,
    OperationSnapshot,
    Snapshot,
    SubscriberSnapshot,
    Waits,
    WindowCounts,
)

__all__ = [
    "Alert",
    "CircuitSnapshot",
    "Distribution",
    "JournalSnapshot",
    "Monitor",
    "OperationSnapshot",
    "Overhead",
    "Snapshot",
    "SubscriberSnapshot",
    "Threshold",
    "Thresholds",
    "Waits",
    "WindowCounts",
]
