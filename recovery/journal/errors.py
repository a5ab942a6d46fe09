"""Errors of the journal and its store; all are ``RecoveryError``."""

from __future__ import annotations

from events.errors import RecoveryError


class JournalError(RecoveryError):
    """The journal cannot be used; the service goes on in memory."""


class DamagedJournalError(JournalError):
    """The journal's file is damaged or has an earlier format; a writer sets it aside and begins a new one."""


class ForeignJournalError(JournalError):
    """The file belongs to another application; it was left untouched."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is another application's database; choose another path for the journal")
        self.path = path


class JournalBusyError(JournalError):
    """Another process is the writer of this file, which should be this one's alone; it was left untouched."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is being written by another process; wait for it, or choose another path")
        self.path = path


class NewerJournalError(JournalError):
    """The file was written by a newer release; it was left untouched."""

    def __init__(self, path: object, version: int) -> None:
        super().__init__(f"{path} has the format of a newer release (version {version}); upgrade launcher-recovery")
        self.path = path
        self.version = version


class NotDurable(RecoveryError):  # noqa: N818  # named for what it says of an event
    """What was accepted is not known to be committed (or synced): *reason* says why. It may be written later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not known to be written: {reason}")
        self.reason = reason
