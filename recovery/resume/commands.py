"""What people tell a running process to do with its calls, from outside of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.errors import RecoveryError
from recovery.journal.store import Command
from recovery.resume.handles import Resumption
from recovery.waiting.calls import WaitingCalls

log = logging.getLogger("recovery")


class CommandHandler:
    """Carries out orders on the calls that wait here, or are quarantined here. From any thread."""

    def __init__(self, waits: WaitingCalls, resumption: Callable[[], Resumption | None]) -> None:
        self._waits = waits
        self._resumption = resumption
        self._of_parent: set[str] = set()

    def after_fork(self) -> None:
        """In a forked child: what waits is the parent's, and so are the orders for it."""
        self._of_parent |= {waiting.call for waiting in self._waits.calls()}

    def concerns(self, call: str) -> bool:
        """Whether an order for the call of that id is for this process."""
        if self._is_quarantined(call):
            return True
        return call not in self._of_parent and any(waiting.call == call for waiting in self._waits.calls())

    def _is_quarantined(self, call: str) -> bool:
        resumption = self._resumption()
        return (
            resumption is not None
            and resumption.is_ours
            and any(record.call == call for record in resumption.quarantined)
        )

    def carry_out(self, command: Command) -> None:
        """Do it, if it still can be done; say so, if not."""
        resumption = self._resumption()
        match command.command:
            case "retry" if resumption is not None and self._is_quarantined(command.call):
                try:
                    resumption.retry(command.call)
                except (LookupError, RecoveryError) as error:
                    log.warning("told to retry call %s, which cannot be done: %s", command.call, error)
                return
            case "retry":
                is_done = self._waits.retry_now(command.call, command.reason)
            case "pause":
                is_done = self._waits.pause(command.call, command.reason)
            case "unpause":
                is_done = self._waits.unpause(command.call, command.reason)
            case "give up":
                is_done = self._waits.give_up(command.call, command.reason)
        if not is_done:
            log.warning("told to %s call %s, which cannot be done with it now", command.command, command.call)
