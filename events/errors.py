"""Every error of this distribution, as one tree.

RecoveryError
├── CallRejectedError      an open circuit, or a subscriber, turned a call away
├── CodecError             bytes that are no fact of ours
├── DownloadError          (``adapters.parts``) a transfer that cannot be trusted
├── JournalError           the journal cannot be used
│   ├── DamagedJournalError    the file is damaged, or has an earlier format
│   ├── ForeignJournalError    the file belongs to another application
│   ├── JournalBusyError       another process writes this file
│   └── NewerJournalError      written by a newer release
├── PlanError              (``adapters.plans``) a launch plan that cannot be run
├── NotDurable             a receipt: what was accepted is not committed, or not synced
├── Permanent              raised by user code: do not try again
├── Retryable              raised by user code: do try again
└── UnwantedResult         what a result that ``retry_if`` refused is called on the bus; no caller gets it

What comes out of a recoverable call after its last attempt is *the caller's own exception*, never one of these,
with two exceptions: ``CallRejectedError``, and what user code raises itself.
"""

from __future__ import annotations


class RecoveryError(Exception):
    """The root: ``except RecoveryError`` catches whatever this distribution raises by itself."""


class CallRejectedError(RecoveryError):
    """The call was turned away before it began; nothing was tried.

    *operation* is its name, *reason* says who turned it away, *retry_after* is the number of seconds after which
    a new call may be welcome, or ``None`` where nobody knows.
    """

    def __init__(self, operation: str, reason: str, retry_after: float | None = None) -> None:
        when = "" if retry_after is None else f"; come back in {retry_after:.1f} s"
        super().__init__(f"{operation} was not started: {reason}{when}")
        self.operation = operation
        self.reason = reason
        self.retry_after = retry_after


class CodecError(RecoveryError):
    """These bytes are no fact that this release knows."""


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


class NotDurable(RecoveryError):  # noqa: N818  # named for what it says of a fact
    """What was accepted is not known to be committed (or synced): *reason* says why. It may be written later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not known to be written: {reason}")
        self.reason = reason


class Permanent(RecoveryError):  # noqa: N818  # named for what it says of a failure, not for what it is
    """Raise it (or a subclass) from an operation: trying again cannot help, whatever any rule says."""


class UnwantedResult(RecoveryError):  # noqa: N818  # it is no error until somebody refuses it
    """A function returned what ``retry_if`` refuses; *result* is that. The caller gets the result, never this."""

    def __init__(self, result: object) -> None:
        super().__init__(f"retry_if refused the result, a {type(result).__name__}")
        self.result = result


class Retryable(RecoveryError):  # noqa: N818  # as Permanent
    """Raise it (or a subclass) from an operation: trying again may help, whatever any rule says.

    *after* is the number of seconds to wait at least (not cut, as a server's wish is), ``None`` where the policy alone
    decides.
    """

    def __init__(self, *args: object, after: float | None = None) -> None:
        super().__init__(*args)
        self.after = after
