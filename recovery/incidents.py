"""``service.incidents``: what is out of order now, and the calls that wait for it to end."""

from __future__ import annotations

from events.bus import Bus
from recovery.subscribers.circuit_breaker import Break
from recovery.subscribers.incidents import FORCED_OPEN, Incident, OpenIncident
from recovery.subscribers.incidents import Incidents as OpenIncidents
from recovery.waiting.calls import WaitingCalls


class Incidents:
    """The incidents of one service. Safe to use from any thread.

        for incident in service.incidents.open():
            print(incident)
            service.incidents.retry_now(incident.operation, key=incident.key)

    ``IncidentOpened`` and ``IncidentClosed`` tell subscribers of them.
    """

    __slots__ = ("_break", "_bus", "_incidents", "_waiting")

    def __init__(self, bus: Bus, incidents: OpenIncidents, break_: Break, waiting: WaitingCalls) -> None:
        self._bus = bus
        self._incidents = incidents
        self._break = break_
        self._waiting = waiting

    def open(self) -> list[Incident]:
        """Every incident that has not ended, the oldest first."""
        self._break.states()  # it ends what is over by now
        return [self._described(incident) for incident in self._incidents.all()]

    def _described(self, incident: OpenIncident) -> Incident:
        opened, latest = incident.opened, incident.latest
        return Incident(
            operation=opened.operation,
            key=opened.key,
            cause=FORCED_OPEN if latest.forced else latest.cause or opened.cause,
            category=opened.category,
            lasted=self._bus.clock() - opened.at,
            waiting=tuple(self._waiting.held_by(opened.operation, opened.key)),
            calls=len(incident.calls),
            gave_up=incident.gave_up,
            next_probe=self._break.until_probe(opened.operation, opened.key),
        )

    def retry_now(self, operation: str, *, key: str = "") -> bool:
        """End the break of a circuit: the next call that waits for it probes now. The others wait for its answer.

        Returns whether there was a break to end: not where a probe is under way, or the circuit is forced or closed.

        Args:
            operation: The name of the operation.
            key: Its key; "" is the operation as a whole.
        """
        if not self._break.end_break(operation, key):
            return False
        self._waiting.may_probe(operation, key)
        return True

    def give_up(self, operation: str, reason: str = "", *, key: str = "") -> int:
        """Give up every call that waits for a circuit, as ``service.calls.give_up`` does; returns how many did.

        Args:
            operation: The name of the operation.
            reason: Why, for their callers and the journal.
            key: Its key; "" is the operation as a whole.
        """
        return sum(self._waiting.steer(call, "give up", reason) for call in self._waiting.held_by(operation, key))

    def __repr__(self) -> str:
        return f"<Incidents: {'; '.join(map(str, self.open())) or 'none'}>"
