"""``Incidents``: one trouble of many calls is one incident, from the first break of a circuit until it is closed."""

from __future__ import annotations

import threading

import msgspec

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitOpened
from events.counting import as_counted
from events.event import CallEvent
from events.evidence import Category
from events.fork_locks import fork_safe
from events.incident_events import IncidentClosed, IncidentOpened
from events.names import display_name
from events.operation_events import CallRejected, GaveUp, Parked
from events.subscription import Subscription
from recovery.explain import counted, duration, moment, shown
from recovery.operations import OperationKey
from recovery.policies.incidents import open_circuit

FORCED_OPEN = "forced open"
"""The cause of an incident whose circuit was forced open."""


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One trouble that calls wait for: a circuit is open. ``str`` is one line about it, with one estimate.

    Args:
        operation: The name of the operation.
        key: Its key, such as a host; "" for the operation as a whole.
        cause: What the failure that opened the circuit means, in a few words.
        category: The category of that failure; None if the circuit was forced open.
        lasted: Seconds since it opened.
        waiting: The ids of the calls that wait for it now, the next to probe first.
        calls: How many calls have waited for it so far.
        gave_up: How many of them gave up.
        next_probe: Seconds until the next call may probe, or until the circuit is forced no longer; None while a probe
            is under way, or if it is forced open for good.
    """

    operation: str
    key: str
    cause: str
    category: Category | None
    lasted: float
    waiting: tuple[str, ...]
    calls: int
    gave_up: int
    next_probe: float | None

    def __str__(self) -> str:
        waiting = len(self.waiting)
        parts = [f"{counted(waiting, 'call')} wait{'s' if waiting == 1 else ''}" if waiting else "no call waits"]
        if self.cause == FORCED_OPEN:
            ends = "until it is forced again" if self.next_probe is None else f"for {duration(self.next_probe)}"
            parts.append(ends)
        elif self.next_probe is None:
            parts.append("a probe is under way")
        else:
            parts.append(f"{'next probe' if waiting else 'the next may probe'} {moment(self.next_probe)}")
        if self.gave_up:
            parts.append(f"{self.gave_up} gave up")
        # Redacted apart: "get_token: unreachable" looks like a secret.
        name, cause = shown(display_name(self.operation, self.key)), shown(self.cause or "circuit open")
        return f"{name}: {cause}; {', '.join(parts)}"


class OpenIncident(msgspec.Struct, eq=False):
    """An incident that has not ended.

    Args:
        opened: Its event.
        latest: How its circuit opened last.
        calls: The ids of the calls that have waited for it.
        gave_up: How many of them gave up.
        subscriptions: What counts them.
    """

    opened: IncidentOpened
    latest: CircuitOpened
    calls: set[str]
    gave_up: int = 0
    subscriptions: tuple[Subscription, ...] = ()


class Incidents:
    """CircuitOpened -> IncidentOpened; CircuitClosed -> IncidentClosed, with the calls that waited. From any thread."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = fork_safe(threading.Lock())
        self._open: dict[OperationKey, OpenIncident] = {}
        bus.subscribe(CircuitOpened, self.on_opened, essential=True)
        bus.subscribe(CircuitClosed, self.on_closed, essential=True)

    def all(self) -> list[OpenIncident]:
        """The incidents that have not ended, the oldest first."""
        with self._lock:
            return list(self._open.values())

    def on_opened(self, event: CircuitOpened) -> IncidentOpened | None:
        """Note that a circuit has opened; the first time in a row that opens an incident."""
        if event.metrics_only:
            return None
        operation_key = (event.operation, event.key)
        with self._lock:
            known = self._open.get(operation_key)
            if known is not None:
                known.latest = event
                return None
            cause = FORCED_OPEN if event.forced else event.cause
            opened = IncidentOpened(
                at=event.at, operation=event.operation, key=event.key, cause=cause, category=event.category
            )
            incident = self._open[operation_key] = OpenIncident(opened, event, set())
        self._count_calls(incident)
        return opened

    def _count_calls(self, incident: OpenIncident) -> None:
        operation, key = incident.opened.operation, incident.opened.key
        why = open_circuit(operation, key)

        def count(told: CallEvent) -> None:
            event = as_counted(told)
            if isinstance(event, Parked):
                if why in event.why:
                    incident.calls.add(event.call)
            elif event is not None and event.call in incident.calls:
                incident.gave_up += 1

        incident.subscriptions = (
            self._bus.subscribe(
                (Parked, GaveUp, CallRejected), count, operation=operation, key=key or None, essential=True
            ),
        )

    def on_closed(self, event: CircuitClosed) -> IncidentClosed | None:
        """End the incident of the circuit, if there is one."""
        with self._lock:
            incident = self._open.pop((event.operation, event.key), None)
        if incident is None:
            return None
        for subscription in incident.subscriptions:
            subscription.close()
        return IncidentClosed(
            at=event.at,
            operation=event.operation,
            key=event.key,
            lasted=event.at - incident.opened.at,
            calls=len(incident.calls),
            gave_up=incident.gave_up,
            outcome=event.why,
        )
