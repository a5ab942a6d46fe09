"""What becomes of a journal's store, told to people and to the bus, and what people tell the process through it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from events.bus import Bus
from events.journal_events import JournalDegraded, JournalQuarantined, JournalRestored
from recovery.journal.history import OpenCircuit, Run, reopened
from recovery.journal.store import Command, CommandSink, Pending
from recovery.policies.circuit_breaker import Open

log = logging.getLogger("recovery.journal")


class JournalHealth:
    """Who is told by the writer, on its thread. *restore* and *commands* are as for ``Journal``."""

    def __init__(
        self,
        bus: Bus,
        run: Run,
        restore: Callable[[dict[tuple[str, str], Open]], object],
        commands: CommandSink | None,
    ) -> None:
        self._bus = bus
        self._run = run
        self._restore = restore
        self._commands = commands

    def opened(self, circuits: dict[tuple[str, str], OpenCircuit], pending: Pending) -> None:
        """The store was opened for the first time: put back the circuits that earlier runs left open."""
        if circuits:
            now = msgspec.structs.replace(self._run, monotonic=self._bus.clock(), wall=time.time())
            self._restore({part: reopened(circuit, pending.runs, now) for part, circuit in circuits.items()})

    def degraded(self, reason: str) -> None:
        """Nothing can be written for now."""
        log.warning("the journal cannot be written, operations go on in memory: %s", reason)
        self._bus.publish(JournalDegraded(at=self._bus.clock(), reason=reason))

    def restored(self, waiting: int, dropped: int) -> None:
        """The store can be written again; *waiting* events will be, now, *dropped* never."""
        log.warning("the journal is written again")
        self._bus.publish(JournalRestored(at=self._bus.clock(), waiting=waiting, dropped=dropped))

    def quarantined(self, what: str) -> None:
        """A file in the store's place could not be used, and is kept under another name."""
        log.warning("a journal file was set aside, and a new one begun: %s", what)
        self._bus.publish(JournalQuarantined(at=self._bus.clock(), reason=what))

    def concerns(self, call: str) -> bool:
        """Whether an order for that call is for this process."""
        return self._commands is not None and self._commands.concerns(call)

    def commanded(self, command: Command) -> None:
        """Somebody has told this process to do that."""
        if self._commands is not None:
            self._commands.carry_out(command)
