"""Errors of the journal and its store; all derive from ``RecoveryError``.

- ``JournalError``: the journal cannot be used; the service goes on in memory.
    - ``DamagedJournalError``, ``ForeignJournalError``, ``JournalBusyError``, ``NewerJournalError``: the file cannot.
- ``NotDurable``: accepted events are not known to be committed.
"""

from __future__ import annotations

from events.errors import RecoveryError


class JournalError(RecoveryError):
    """The journal cannot be used; the service goes on in memory."""


class DamagedJournalError(JournalError):
    """The journal's file is damaged or has an earlier format. The writer renames it and begins a new one."""


class ForeignJournalError(JournalError):
    """The file belongs to another application. It is left untouched."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is another application's database; choose another path for the journal")
        self.path = path


class JournalBusyError(JournalError):
    """Another process writes to this file, which only one process may do. It is left untouched."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is being written by another process; wait for it, or choose another path")
        self.path = path


class NewerJournalError(JournalError):
    """A newer release wrote the file. It is left untouched."""

    def __init__(self, path: object, version: int) -> None:
        super().__init__(f"{path} has the format of a newer release (version {version}); upgrade launcher-recovery")
        self.path = path
        self.version = version


class NotDurable(RecoveryError):  # noqa: N818  # named for what it says of an event
    """Accepted events are not known to be committed (or synced), for *reason*. They may be written later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not known to be written: {reason}")
        self.reason = reason
