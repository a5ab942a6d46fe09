"""Outcomes of a cluster's calls that cannot be delivered: kept in the journal until the cluster has answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from events.bus import Bus
from events.fork_locks import fork_safe
from events.lease_events import OutcomeDelivered, OutcomeHeld, OutcomeSuperseded
from events.own_log import own_log
from recovery.redact import brief

if TYPE_CHECKING:
    from recovery.journal.core import JournalCore

READ_TIMEOUT = 5.0
"""Seconds that the journal may take to say what dead processes have held."""

IN_MEMORY = (
    "an outcome of %s cannot be delivered to the cluster, and is kept in memory alone: "
    "with a store (SQLiteStore) it would survive the process"
)

log = own_log("recovery")


class HeldOutcomes:
    """The outcomes that this service holds. Safe to use from any thread.

    Args:
        bus: Where it says so.
        journal: The journal, once there is one.
    """

    def __init__(self, bus: Bus, journal: Callable[[], JournalCore | None]) -> None:
        self._bus = bus
        self._journal = journal
        self._lock = fork_safe(threading.Lock())
        self._held: dict[str, OutcomeHeld] = {}
        self._settled: set[str] = set()
        self._has_warned = False

    def hold(self, operation: str, call: str, fence: int, data: bytes) -> OutcomeHeld:
        """Keep *data*, the outcome of *call*."""
        outcome = OutcomeHeld(
            at=self._bus.clock(), operation=operation, call=id_of(f"{call}@{fence}"), of=call, fence=fence, data=data
        )
        with self._lock:
            self._held[outcome.call] = outcome
        if self._journal() is None and not self._has_warned:
            self._has_warned = True
            log.warning(IN_MEMORY, call)
        self._bus.publish(outcome)
        return outcome

    def held(self) -> list[OutcomeHeld]:
        """Those that are not settled, of dead processes of the journal too."""
        journal = self._journal()
        if journal is not None:
            journal.ask_for_pending().wait(READ_TIMEOUT)
            found = journal.pending(READ_TIMEOUT).held if journal.loaded.is_open else ()
            with self._lock:
                self._held = {one.call: one for one in found if one.call not in self._settled} | self._held
        with self._lock:
            return list(self._held.values())

    def settle(self, call: str, superseded: str | None) -> bool:
        """The outcome is delivered, or *superseded*; whether it was held."""
        with self._lock:
            outcome = self._held.pop(call, None)
            if outcome is None:
                return False
            self._settled.add(call)
        if superseded is None:
            self._bus.publish(OutcomeDelivered(at=self._bus.clock(), operation=outcome.operation, call=call))
        else:
            self._bus.publish(
                OutcomeSuperseded(
                    at=self._bus.clock(), operation=outcome.operation, call=call, reason=brief(superseded)
                )
            )
        return True


SUFFIX = " outcome"


def id_of(leg: str) -> str:
    """What events call the outcome of the *leg* with that id."""
    return f"{leg}{SUFFIX}"


def leg_of(call: str) -> str:
    """The leg whose outcome has the id *call*; "" for the id of a call."""
    return call.removesuffix(SUFFIX) if "@" in call and call.endswith(SUFFIX) else ""
