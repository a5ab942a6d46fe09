"""Commands from outside the process, carried out on its waiting and quarantined calls."""

from __future__ import annotations

import logging
from collections.abc import Callable

from events.errors import RecoveryError
from recovery.journal.store import Command
from recovery.resume.handles import Resumption
from recovery.waiting.calls import WaitingCalls

log = logging.getLogger("recovery")


class CommandHandler:
    """Carries out commands on the calls that wait, or are quarantined, in this process. Safe to use from any thread.

    Args:
        waiting: The calls that wait.
        resumption: What ``resume()`` found, with the quarantined calls; ``None`` before it.
    """

    def __init__(self, waiting: WaitingCalls, resumption: Callable[[], Resumption | None]) -> None:
        self._waiting = waiting
        self._resumption = resumption
        self._of_parent: set[str] = set()

    def after_fork(self) -> None:
        """Leave the calls that wait now, and the commands for them, to the parent process."""
        self._of_parent |= {waiting.call for waiting in self._waiting.describe_all()}

    def concerns(self, call: str) -> bool:
        """Whether a command for that call is for this process."""
        return self._quarantine_of(call) is not None or (call in self._waiting and call not in self._of_parent)

    def _quarantine_of(self, call: str) -> Resumption | None:
        resumption = self._resumption()
        if resumption is None or not resumption.is_ours:
            return None
        return resumption if any(record.call == call for record in resumption.quarantined) else None

    def carry_out(self, command: Command) -> None:
        """Carry out *command*; log a warning if that is not possible."""
        quarantine = self._quarantine_of(command.call)
        if quarantine is not None and command.name == "retry":
            try:
                quarantine.retry(command.call)
            except (LookupError, RecoveryError) as error:
                log.warning("cannot retry call %s: %s", command.call, error)
            return
        steering = "retry now" if command.name == "retry" else command.name
        if not self._waiting.steer(command.call, steering, command.reason):
            log.warning("cannot %s call %s: %s", command.name, command.call, self._why_not(command))

    def _why_not(self, command: Command) -> str:
        if command.call in self._waiting and command.name in ("pause", "unpause"):
            return "it is paused already" if command.name == "pause" else "it is not paused"
        if self._quarantine_of(command.call) is not None:
            return "it is quarantined, and can only be retried"
        return "it is not waiting"
