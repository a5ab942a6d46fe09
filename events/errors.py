"""The errors that code of a user's meets or raises; docs/reference/exceptions.md draws the tree of all errors.

A recoverable call ends with *the caller's own exception*, never with one of these. There are four exceptions:
``CallRejectedError``, ``CallCancelledError``, ``AwaitableResultError``, and an error that user code raises itself. A
caller that waits for a call of the same arguments gets ``StaysPendingError`` if the service is closed meanwhile, or
``JoinedElsewhere``.
"""

from __future__ import annotations

import copyreg
from typing import Any, TypeGuard, TypeVar

from events.evidence import Remedy

E = TypeVar("E", bound=BaseException)


class RecoveryError(Exception):
    """The root: ``except RecoveryError`` catches every error that this distribution raises by itself."""

    def __init__(self, *args: object) -> None:  # or ``inspect.signature`` finds none
        super().__init__(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its text and attributes: its ``__init__``, which may take other arguments, is not called."""
        return copyreg.__newobj__, (type(self), *self.args), self.__getstate__()  # type: ignore[attr-defined]  # typeshed lacks it


class CallCancelledError(RecoveryError):
    """A call was cancelled by its id. An outer call does not retry it.

    A plain function that finds ``recovery.context.cancelled()`` true may raise it to end its call.
    """


class CallRejectedError(RecoveryError):
    """The call was rejected before it began; nothing was tried.

    Args:
        operation: Its name, with its key.
        reason: Why.
        retry_after: Seconds after which a new call may be allowed; None if that is unknown.
    """

    def __init__(self, operation: str, reason: str, retry_after: float | None = None) -> None:
        when = "" if retry_after is None else f"; come back in {retry_after:.1f} s"
        super().__init__(f"{operation} was not started: {reason}{when}")
        self.operation = operation
        self.reason = reason
        self.retry_after = retry_after


class CodecError(RecoveryError):
    """These bytes are no event that this release knows."""


class JoinedElsewhere(RecoveryError):  # noqa: N818  # named for what became of the call
    """Another process on the same journal ran an equal call, and its result is not recorded.

    ``idempotency_key`` with ``remember`` records results, which the other processes then return.

    Args:
        operation: The name of the operation.
        call: The id of the call.
        ended: How it ended: "succeeded", "gave up", "cancelled" or "rejected".
        error: Why, redacted; "" for a call that succeeded.
    """

    def __init__(self, operation: str, call: str, ended: str, error: str = "") -> None:
        how = f"was {ended}" if ended in ("cancelled", "rejected") else ended
        unknown = ", and its result was not recorded (remember= records results)" if ended == "succeeded" else ""
        why = f": {error}" if error else unknown
        super().__init__(f"{operation}: call {call} {how} in another process{why}")
        self.operation = operation
        self.call = call
        self.ended = ended
        self.error = error


class NeedsPerson(RecoveryError):  # noqa: N818  # as Permanent
    """Raise it (or a subclass) from an operation: a person must log in, pay or consent before a retry can help.

        raise NeedsPerson("403", remedy=Remedy("Accept the licence.", link=page, question="licence:org/repo"))

    Its category is AUTH. ``Strategy(wait_for=(service.calls.question_of,))`` parks the call on the question of the
    remedy. An error of any other class may bear a ``remedy``, too.

    Args:
        args: As for any exception.
        remedy: What a person can do; None if that is unknown.
    """

    def __init__(self, *args: object, remedy: Remedy | None = None) -> None:
        super().__init__(*args)
        self.remedy = remedy


class Permanent(RecoveryError):  # noqa: N818  # named for what it says of a failure, not for what it is
    """Raise it (or a subclass) from an operation: trying again cannot help, even if a rule says otherwise."""


class AwaitableResultError(Permanent, TypeError):
    """A recoverable plain function returned an awaitable: it would fail later, where no retry sees it."""


class StaysPendingError(RecoveryError):
    """A call is not finished in this process: it stays pending in the journal, for a later call or process."""

    attempt: object = None
    """The attempt that was not made; the register of joinable calls goes on from it."""

    def __getstate__(self) -> dict[str, Any]:
        """Its attributes, without the attempt: another process cannot go on from it."""
        return {name: value for name, value in vars(self).items() if name != "attempt"}


class UnwantedResult(RecoveryError):  # noqa: N818  # a result is no error until it is refused
    """A function returned a *result* that ``retry_if`` refuses. The caller gets that result, never this."""

    def __init__(self, result: object) -> None:
        super().__init__(f"retry_if refused a result of type {type(result).__name__}")
        self.result = result


class Retryable(RecoveryError):  # noqa: N818  # as Permanent
    """Raise it (or a subclass) from an operation: trying again may help, even if a rule says otherwise.

    Args:
        args: As for any exception.
        after: Seconds to wait at least; they are not cut, as those of a server are. None: the policy alone decides.
    """

    def __init__(self, *args: object, after: float | None = None) -> None:
        super().__init__(*args)
        self.after = after


def is_a(error: object, kind: type[E]) -> TypeGuard[E]:
    """Whether *error* really is of that *kind*: ``isinstance`` asks for its ``__class__``, which may lie or raise."""
    return issubclass(type(error), kind)
