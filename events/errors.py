"""Every error of this distribution, as one tree.

RecoveryError
├── CallRejectedError      an open circuit, or a subscriber, turned a call away
├── CodecError             bytes that are no event of ours
├── DownloadError          (``adapters.downloads.partial_file``) a transfer that cannot be trusted
├── JournalError           the journal cannot be used
│   ├── DamagedJournalError    the file is damaged, or has an earlier format
│   ├── ForeignJournalError    the file belongs to another application
│   ├── JournalBusyError       another process writes this file
│   └── NewerJournalError      written by a newer release
├── PlanError              (``adapters.launcher.plan``) a launch plan that cannot be run
├── NotDurable             a receipt: what was accepted is not committed, or not synced
├── Permanent              raised by user code: do not try again
├── Retryable              raised by user code: do try again
└── UnwantedResult         what a result that ``retry_on_result`` refused is called on the bus; no caller gets it

What comes out of a recoverable call after its last attempt is *the caller's own exception*, never one of these,
with two exceptions: ``CallRejectedError``, and what user code raises itself.
"""

from __future__ import annotations


class RecoveryError(Exception):
    """The root: ``except RecoveryError`` catches every error that this distribution raises by itself."""

    def __init__(self, *args: object) -> None:  # or ``inspect.signature`` finds none
        super().__init__(*args)


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
    """These bytes are no event that this release knows."""


class Permanent(RecoveryError):  # noqa: N818  # named for what it says of a failure, not for what it is
    """Raise it (or a subclass) from an operation: trying again cannot help, whatever any rule says."""


class UnwantedResult(RecoveryError):  # noqa: N818  # it is no error until somebody refuses it
    """A function returned what ``retry_on_result`` refuses; *result* is that. The caller gets the result, never
    this.
    """

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
