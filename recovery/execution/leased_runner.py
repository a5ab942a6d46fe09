"""The runner of calls that a cluster owns: one leg of a call, which keeps no wait longer than a few seconds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from events.attempt import Attempt, next_attempt
from events.conditions import Condition
from events.errors import UnwantedResult
from events.event import FOREVER
from events.lease_events import CallHandedBack
from events.verdicts import Park, Retry, Verdict
from recovery.execution.held_runner import HeldRunner
from recovery.execution.runner import Failure, Runner
from recovery.waiting.live import LiveCall, task_of_call
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Waiter, asyncio_loop

if TYPE_CHECKING:
    from recovery.execution.invocation import Args, Invoke, Kwargs
    from recovery.joining.shared_call import Outcome, Rest
    from recovery.settings import OperationConfig
    from recovery.waiting.polling import Conditions

FIRST_LOOK = 5.0
"""Seconds after which another leg looks whether conditions hold; each further look waits half as long again."""

MAX_LOOK = 30.0
"""Seconds: the most between two looks, and the most that the first answer of a condition may take."""

EXITED = "its body called sys.exit({!r}), and a worker does not end for one call"

NO_EXCEPTION = "its body raised {}, which is no Exception: {}"

STOPPED = "the worker stopped waiting for it"

LEASE_OVER = "its lease is over, and another worker may have it"


def always() -> bool:
    """True."""
    return True


class HandedBackError(Exception):
    """The leg is over, and the call is not.

    Args:
        attempt: The attempt with which the next leg begins.
        after: Seconds until then.
        why: What the call waits for, or why the leg is over.
    """

    within: float | None = None
    is_parked = False
    has_looked = False
    is_cut_off = False

    def __init__(self, attempt: Attempt, after: float, why: str) -> None:
        super().__init__(why)
        self.attempt, self.after, self.why = attempt, after, why


class Leg(msgspec.Struct, eq=False):
    """One leg, as its runner sees it: where it begins, and how long a wait it keeps.

    Args:
        keep: Seconds of a wait that are waited for here.
        looks: How often in a row legs have looked at conditions that did not hold.
        wait: The wait that it begins with; None for none.
        handed_back: Why it is to end without an outcome; None if it is not.
        number: The number of the latest attempt.
        deferred: The number of the attempt that was deferred last.
        deferred_until: How long that attempt may be deferred here, on the clock of the bus.
        is_held: Whether its lease still lasts: no attempt begins without. Called from any thread.
    """

    keep: float
    looks: int = 0
    wait: Wait | None = None
    handed_back: str | None = None
    number: int = 0
    deferred: int = 0
    deferred_until: float = 0.0
    is_held: Callable[[], bool] = always

    @property
    def next_look(self) -> float:
        """Seconds until another leg looks at conditions."""
        return min(FIRST_LOOK * 1.5 ** min(self.looks, 10), MAX_LOOK)

    def begin(self, _attempt: Attempt) -> tuple[Wait | None, None]:
        """What a runner begins with, as for a shared call."""
        return self.wait, None

    def cut_off(self, rest: Rest, _outcome: Outcome) -> None:
        """The task of the leg is cancelled: another leg goes on with the call."""
        self.tell(rest.attempt, self.handed_back or STOPPED)

    def tell(self, attempt: Attempt, reason: str, after: float = 0.0) -> None:
        """Publish that the leg is over without an outcome."""
        if not attempt.call.is_over:
            attempt.call.publish(CallHandedBack, attempt.number, reason=reason, after=min(after, FOREVER))


class LeasedWait(Wait):
    """As ``Wait``, until *leave_at* on the clock: then it raises HandedBackError.

    Args:
        leave_at: When the leg does not wait any longer.
        leg: The leg.
        is_parked: Whether its conditions come from a failure.
    """

    leave_at: float = math.inf
    leg: Leg | None = None
    is_parked: bool = False

    def next_sleep(self, waiter: Waiter) -> float | None:
        """As ``Wait.next_sleep``."""
        seconds = super().next_sleep(waiter)
        if seconds is None:
            return None
        conditions = self.conditions
        with conditions.lock:
            now, leave_at = conditions.clock(), self.leave_at
            if self.pending and not (self.was_unmet or (self.watched is not None and self.watched.was_unmet)):
                leave_at += MAX_LOOK  # a condition that blocks has not answered yet
            if now < leave_at:
                self.wakes_at = min(self.wakes_at, leave_at)
                return min(seconds, leave_at - now)
            self.phase = "over"
        raise self._handed_back(now)

    def _handed_back(self, now: float) -> HandedBackError:
        assert self.leg is not None
        left = max(self.due - now, 0.0) if self.left is None else self.left
        is_next = self.number > self.attempt.number
        after = max(left, self.leg.next_look) if self.pending else left
        back = HandedBackError(next_attempt(self.attempt) if is_next else self.attempt, after, said(self.verdict))
        back.has_looked = bool(self.pending)
        back.is_parked = back.has_looked and self.is_parked
        if back.is_parked and self.deadline < math.inf:
            back.within = max(self.deadline - now, 0.0)
        return back


def said(verdict: Retry | Park) -> str:
    """What a call waits for, in words."""
    return verdict.why if isinstance(verdict, Park) and verdict.why else "its retry"


class LeasedRunner(Runner):
    """As ``Runner``, for one leg. It raises HandedBackError where the call goes on in another leg.

    Args:
        leg: The leg.
        args: As of ``Runner``.
    """

    def __init__(self, leg: Leg, *args: Any) -> None:
        super().__init__(*args)
        self.leg = leg
        self._invoke = staying(self._invoke, awaits=self._awaits)

    def varied(self, config: OperationConfig) -> Runner:
        """As ``Runner.varied``: of the same leg."""
        return LeasedRunner(self.leg, self.original, self.definition, self.waiting, self._journal, config)

    def parked(self, attempt: Attempt, verdict: Park) -> Wait:
        """The wait with which a leg begins that looks for what an earlier leg has waited for."""
        wait = self._leased(attempt, attempt.number, verdict, None, self._bus.clock() + self.leg.keep)
        wait.was_unmet = wait.is_parked = True
        return wait

    def once(self, attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        """Make *attempt* while recovery is switched off: no events of it, and no other attempt."""
        self._list(attempt)
        try:
            return self._invoke(attempt, args, kwargs)
        except UnwantedResult as unwanted:
            return unwanted.result
        finally:
            attempt.is_ended = True
            self.waiting.live.pop(attempt.call.id, None)

    async def aonce(self, attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        """As ``once``, for an async function."""
        self._list(attempt)
        try:
            return await self._invoke_task(attempt, args, kwargs)
        except UnwantedResult as unwanted:
            return unwanted.result
        finally:
            attempt.is_ended = True
            self.waiting.live.pop(attempt.call.id, None)

    def _list(self, attempt: Attempt) -> None:
        self.leg.number = attempt.number
        task = task_of_call() if self._awaits else None
        self.waiting.live[attempt.call.id] = LiveCall(attempt, self.config, self.original, task)

    def _as_edited(self, attempt: Attempt, failure: Failure) -> Runner:
        self.leg.number = attempt.number
        if self.leg.handed_back is not None and attempt.call.cancelled is not None:
            back = HandedBackError(attempt, 0.0, self.leg.handed_back)
            back.is_cut_off = failure is not None
            raise back
        if failure is None and attempt.call.cancelled is None and not self.leg.is_held():
            self.leg.handed_back = self.leg.handed_back or LEASE_OVER
            raise HandedBackError(attempt, 0.0, self.leg.handed_back)
        return super()._as_edited(attempt, failure)

    def _wait_after(self, attempt: Attempt, verdict: Retry | Park) -> Wait:
        asks = isinstance(verdict, Park) and verdict.asks_person
        if asks or verdict.after > self.leg.keep:
            back = HandedBackError(next_attempt(attempt), verdict.after, said(verdict))
            if isinstance(verdict, Park) and not asks and _conditions(verdict):
                back.is_parked, back.within = True, verdict.within if verdict.within < math.inf else None
            raise back
        wait = self._leased(attempt, attempt.number + 1, verdict, None, self._bus.clock() + self.leg.keep)
        wait.is_parked = True
        return wait

    def _wait_deferred(self, attempt: Attempt, verdict: Verdict, error: Failure, since: int) -> Wait:
        wait, leg, now = super()._wait_deferred(attempt, verdict, error, since), self.leg, self._bus.clock()
        if attempt.call.asks_person:
            raise HandedBackError(attempt, math.inf, said(wait.verdict))
        if leg.deferred != attempt.number:
            leg.deferred, leg.deferred_until = attempt.number, now + leg.keep
        if wait.verdict.after > max(leg.deferred_until - now, 0.0):
            after = wait.verdict.after if wait.verdict.after < FOREVER else MAX_LOOK
            raise HandedBackError(attempt, after, said(wait.verdict))
        return self._leased(attempt, wait.number, wait.verdict, wait.since, leg.deferred_until)

    def _leased(
        self, attempt: Attempt, number: int, verdict: Retry | Park, since: int | None, leave_at: float
    ) -> LeasedWait:
        of: Conditions = self.waiting.conditions
        return LeasedWait(of, attempt, number, verdict, since, self._policy, leave_at=leave_at, leg=self.leg)


class LeasedHeldRunner(LeasedRunner, HeldRunner):
    """As ``LeasedRunner``, for functions with ``before`` or ``claims``."""

    def __init__(self, leg: Leg, *args: Any) -> None:
        HeldRunner.__init__(self, *args)
        self.leg = leg
        self._invoke = staying(self._invoke, awaits=self._awaits)

    def varied(self, config: OperationConfig) -> Runner:
        """As ``Runner.varied``: of the same leg."""
        given = self._holds, self.original, self.definition, self.waiting, self._journal, config
        return LeasedHeldRunner(self.leg, *given)


def staying(invoke: Invoke, *, awaits: bool) -> Invoke:
    """*invoke*, where an attempt fails whose body raises no Exception: it must not end worker after worker.

    So raise ``sys.exit``, an extension in Rust that panics, and a body that awaits a task which it has cancelled.
    """

    async def invoke_async(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        try:
            return await invoke(attempt, args, kwargs)
        except (Exception, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if not isinstance(error, SystemExit) and _is_cancelled():
                raise
            raise _as_failure(error) from error

    def invoke_plain(attempt: Attempt, args: Args, kwargs: Kwargs) -> Any:
        try:
            return invoke(attempt, args, kwargs)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _as_failure(error) from error

    return invoke_async if awaits else invoke_plain


def _is_cancelled() -> bool:
    """Whether the task that runs is being cancelled."""
    task = None if asyncio_loop() is None else sys.modules["asyncio"].current_task()
    return task is None or task.cancelling() > 0


def _as_failure(error: BaseException) -> RuntimeError:
    if isinstance(error, SystemExit):
        return RuntimeError(EXITED.format(error.code))
    return RuntimeError(NO_EXCEPTION.format(type(error).__qualname__, error))


def _conditions(verdict: Park) -> list[Condition]:
    return [one for one in verdict.until if isinstance(one, Condition)]
