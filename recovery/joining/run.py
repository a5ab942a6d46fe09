"""One caller's run of a shared call: where it begins, and to which caller it is handed over if this one is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from events.attempt import Attempt
from events.errors import StaysPendingError, is_a
from events.own_log import own_log
from events.runner_api import interrupt
from recovery.joining.shared_call import Outcome, Rest, SharedCall
from recovery.subscribers.retry import MAYBE_SENT

if TYPE_CHECKING:
    from events.verdicts import Verdict
    from recovery.joining.register import CallRegister
    from recovery.operations import Definition
    from recovery.waiting.wait import Wait


EXITED = (
    "%s was cancelled, because sys.exit ended it: no run resumes it; in a handler of signals, call service.stop() "
    "before sys.exit, and the next run goes on with it"
)

log = own_log("recovery")


class SharedRun(msgspec.Struct, eq=False):
    """What a runner needs of the shared call that it runs.

    Args:
        register: Keeps the call and its callers.
        shared: The call.
        may_repeat: Whether an attempt may be made after another that may have had its effect.
        definition: Its operation, for what is said.
        rest: Where this caller begins.
    """

    register: CallRegister
    shared: SharedCall
    may_repeat: bool
    definition: Definition
    rest: Rest | None = None
    has_begun: bool = False
    """Whether this caller has begun, or has taken up, the call; before, it waits for other processes."""
    may_recall: bool = False
    """Whether a recorded result may stand for the call: it begins here, or has ended in another process."""
    is_settled: bool = False
    """Whether this caller was cut off: what becomes of the call is decided."""
    is_cancelled: bool = False
    """Whether the call is over by that: no other caller goes on with it."""

    @property
    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """What the body gets."""
        assert self.shared.args is not None
        return self.shared.args, self.shared.kwargs

    @property
    def error(self) -> Exception | None:
        """What the first attempt of this caller raised already."""
        return None if self.rest is None else self.rest.error

    def begin(self, attempt: Attempt) -> tuple[Wait | None, Verdict | None]:
        """The wait that *attempt* begins with, and the verdict that it goes on from."""
        self.shared.attempt = attempt
        return (None, None) if self.rest is None else (self.rest.wait, self.rest.verdict)

    def cut_off(self, rest: Rest, outcome: Outcome) -> None:
        """As the function ``cut_off``, for this call."""
        self.is_settled, attempt = True, rest.attempt
        if attempt.call.is_over and not outcome.is_known and rest.error is not None:
            outcome = Outcome(error=rest.error, traceback=rest.error.__traceback__)  # it was cut off as it gave up
        if outcome.is_known:
            self.register.end(self.shared, outcome)
            return
        if self.register.abandon(self.shared):
            self.is_cancelled = True
            attempt.cancel()
            return
        if rest.wait is None and rest.verdict is None and rest.error is None:
            rest.attempt = attempt = interrupt(attempt)
            rest.refusal = None if self.may_repeat or not attempt.call.has_failed else MAYBE_SENT
        self.register.hand_over(self.shared, rest)

    def fail(self, error: BaseException) -> None:
        """The run has ended with *error*: the callers that wait get it, or go on with the call."""
        if not self.is_settled:
            self._fail(error)
        if self.is_cancelled and isinstance(error, SystemExit):
            call = self.shared.attempt and self.shared.attempt.call
            if call and call.arguments is not None and not self.definition.is_silent:  # as it is after a stop
                log.warning(EXITED, self.shared)

    def _fail(self, error: BaseException) -> None:
        shared, attempt = self.shared, self.shared.attempt
        if not isinstance(error, Exception):
            if self.has_begun and attempt is not None:
                self.cut_off(self.rest or Rest(attempt), Outcome(is_known=False))  # before the runner began
            else:
                self.is_settled = True
                self.register.hand_over(shared, shared.start)
            return
        outcome = Outcome(error=error, traceback=error.__traceback__)
        if is_a(error, StaysPendingError) and isinstance(error.attempt, Attempt):
            self.register.put_back(shared, Rest(error.attempt), outcome)
        elif not self.has_begun and (shared.start is not None or shared.record is not None):
            self.register.put_back(shared, shared.start, outcome)
        else:
            self.register.end(self.shared, outcome)

    def release(self, error: Exception) -> None:
        """The call was over before the resumption came to it, hence *error*: callers that wait begin a new call."""
        self.is_settled, self.shared.is_resumed_here = True, False
        if self.shared.on_end is not None:
            self.shared.on_end(Outcome(error=error))
        self.register.hand_over(self.shared, None)

    def succeed(self, result: object) -> None:
        """The run has ended with *result*, which every caller gets."""
        self.register.end(self.shared, Outcome(result))


class HandedOver(msgspec.Struct):
    """What a runner needs of a call with one caller whose failure is answered with *verdict*: where it goes on.

    Args:
        verdict: The answer.
        wait: The wait that follows, if there is one.
    """

    verdict: Verdict
    wait: Wait | None

    def begin(self, _attempt: Attempt) -> tuple[Wait | None, Verdict]:
        """As for a shared call."""
        return self.wait, self.verdict

    def cut_off(self, rest: Rest, _outcome: Outcome) -> None:
        """The caller is cut off: so is the call."""
        rest.attempt.cancel()


class PartOfCall(Protocol):
    """What a runner needs of a call of which it runs a part: where it begins, and what becomes of it when cut off."""

    def begin(self, attempt: Attempt, /) -> tuple[Wait | None, Verdict | None]:
        """The wait that *attempt* begins with, and the verdict that it goes on from."""
        ...

    def cut_off(self, rest: Rest, outcome: Outcome, /) -> None:
        """As the function ``cut_off``."""
        ...


def cut_off(run: PartOfCall | None, rest: Rest, outcome: Outcome, *, is_told: bool) -> None:
    """The caller is cancelled or interrupted: another caller goes on from *rest*, or the call is cancelled.

    Args:
        run: The run that is cut off; ``None`` for a call that none can join.
        rest: Where the call stands.
        outcome: What the body has returned, if that is known: then the call is done.
        is_told: Whether the error of *rest* is published already.
    """
    if is_told and rest.verdict is None and not rest.attempt.call.is_over:
        rest.error = None  # with a verdict it is told, and is what the caller gets if the wait ends for good
    if outcome.is_known and not rest.attempt.call.is_over:
        rest.attempt.succeed()  # it was cut off before it could say so
    if run is None:
        rest.attempt.cancel()
    else:
        run.cut_off(rest, outcome)
