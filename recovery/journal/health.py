"""How changes of the journal's store reach the log and the bus."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from events.bus import Bus
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from recovery.journal.history import OpenCircuit, Run, reopened
from recovery.journal.store import Pending
from recovery.policies.circuit_breaker import Open

log = logging.getLogger("recovery.journal")


class JournalHealth:
    """Publishes and logs what happens to the store; called by the writer, on its thread.

    *restore* receives the circuits that earlier runs left open.
    """

    def __init__(self, bus: Bus, run: Run, restore: Callable[[dict[tuple[str, str], Open]], object]) -> None:
        self._bus = bus
        self._run = run
        self._restore = restore

    def opened(self, circuits: dict[tuple[str, str], OpenCircuit], pending: Pending) -> None:
        """The store opened for the first time: restore the circuits that earlier runs left open."""
        if circuits:
            now = msgspec.structs.replace(self._run, monotonic=self._bus.clock(), wall=time.time())
            self._restore({key: reopened(circuit, pending.runs, now) for key, circuit in circuits.items()})

    def degraded(self, reason: str) -> None:
        """The store cannot be written."""
        log.warning(
            "the journal cannot be written: %s; operations go on in memory, and the journal tries again", reason
        )
        self._bus.publish(JournalDegraded(at=self._bus.clock(), reason=reason))

    def restored(self, waiting: int, dropped: int) -> None:
        """The store can be written again; *waiting* events are written now, *dropped* events are lost."""
        log.warning("the journal is written again: %d events wait to be written, %d were dropped", waiting, dropped)
        self._bus.publish(JournalRestored(at=self._bus.clock(), waiting=waiting, dropped=dropped))

    def quarantined(self, description: str) -> None:
        """The store renamed an unusable file, as *description* says, and began a new one."""
        log.warning("an unusable journal file was renamed, and a new one begun: %s", description)
        self._bus.publish(JournalQuarantined(at=self._bus.clock(), reason=description))
