"""``Incidents``: one trouble of many calls is one incident, from the first break of a circuit until it is closed."""

from __future__ import annotations

import threading

import msgspec

from events.bus import Bus
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import CallEvent
from events.fork_locks import fork_safe
from events.incident_events import IncidentClosed, IncidentOpened
from events.operation_events import CallRejected, GaveUp, Parked, as_counted
from events.subscription import Subscription
from recovery.operations import OperationKey
from recovery.policies.incidents import open_circuit


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
            cause = "forced open" if event.forced else event.cause
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
