"""Carry a call from its first failure to its end: one loop, in a plain and an async spelling.

Everything that decides is in the bus's subscribers and takes microseconds; a driver only runs the function, asks, and
waits. The two spellings differ in ``await`` and in the kind of waiter.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from events.attempt import Attempt, next_attempt, request_start
from events.errors import RecoveryError, UnwantedResult
from events.names import display_name
from events.runner_api import attempts_made, give_up, interrupt, park, reject
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry, Verdict
from recovery.context import Running
from recovery.execution.retry_on_result import raise_unwanted
from recovery.execution.timeouts import in_time
from recovery.journal.commit_barrier import CommitBarrier
from recovery.journal.idempotency import RecordedResults
from recovery.journal.journal import Journal
from recovery.settings import ABSENT, OperationConfig
from recovery.subscribers.exhausted import mark_exhausted
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Clock, TaskWaiter, ThreadWaiter, yield_once

LEAST_HOLD = 0.05
"""Seconds before who is held back for no time at all asks again."""

WRAPPER_NAME = "recoverable_call"
"""What every wrapper's code is called (not the wrapper: that bears its function's name)."""

_NO_CONTEXT = nullcontext()


class Driver:
    """Runs the calls of operations that have this *config*."""

    def __init__(
        self,
        config: OperationConfig,
        clock: Clock,
        waiting: WaitingCalls,
        journal: Callable[[], Journal | None],
        warn_once: Callable[[str, str], object],
    ) -> None:
        self._config = config
        self._clock = clock
        self._waiting = waiting
        self._barrier = CommitBarrier(config, journal)
        self._is_strict = self._barrier.is_strict
        self._is_journalled = self._barrier.are_journalled
        self.results: RecordedResults | None = None
        """What finished idempotency keys have recorded, where that is wanted."""
        if config.remember is not None:
            self.results = RecordedResults(
                config.remember, journal, functools.partial(warn_once, "a result is not recorded, it is not plain data")
            )
        self._reconcile: Callable[..., Any] | None = config.reconcile
        if config.reconcile is not None and config.retry_on_result is not None:
            self._reconcile = raise_unwanted(
                config.reconcile, lambda found: found is not ABSENT and config.retry_on_result(found)
            )
        self._has_context = config.has_context
        # Whether nothing surrounds an attempt: no context, no limit of time, nothing to look up before.
        self._is_bare = not (
            config.has_context
            or config.reconcile
            or config.policy.attempt_timeout is not None
            or config.policy.stall_timeout is not None
        )

    def run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        attempt: Attempt,
        error: Exception | None = None,
        delay: float = 0.0,
    ) -> Any:
        """Make *attempt*, in *delay* seconds, and those after it; or take over where it has failed with *error*.

        Returns what the function returns. Raises its last exception, with a note of what was tried, or
        CallRejectedError if nothing was; a cancellation passes through untouched.
        """
        failed, ended = error is not None, None
        wait = Wait(self._waiting, attempt, attempt.number, self._resumed(attempt, delay)) if delay > 0.0 else None
        try:
            while True:
                if failed:
                    assert error is not None
                    if self._barrier.is_half_full:
                        self._barrier.wait_for_room(self._time_left(attempt))
                    verdict = attempt.fail(error)
                    if not isinstance(verdict, (Retry, Park)):
                        if self._is_strict:
                            self._barrier.end()
                        raise _noted(error, attempt, verdict)
                    if verdict.after > 0.0 or not isinstance(verdict, Retry):
                        wait = Wait(self._waiting, attempt, attempt.number + 1, verdict)
                if wait is not None:
                    self._waiting.enter(wait)
                    try:
                        while (seconds := wait.next_sleep(waiter := ThreadWaiter(self._clock))) is not None:
                            if not waiter.wait(seconds):
                                wait.slept()
                    finally:
                        self._waiting.leave(wait)
                    ended, wait = self._after_wait(wait), None
                if failed:
                    if ended is None and self._is_journalled:
                        self._barrier.before_next(self._time_left(attempt))
                    attempt, failed = next_attempt(attempt), False
                since = self._waiting.wakes
                if self._is_journalled and self._barrier.is_half_full:
                    self._barrier.wait_for_room(self._time_left(attempt))
                deferred = ended or request_start(attempt)
                if deferred is None and (self._is_strict or attempt.call.is_resumed):
                    deferred = self._barrier.start(self._time_left(attempt))
                if deferred is not None:
                    wait = Wait(self._waiting, attempt, attempt.number, self._defer(attempt, deferred, error), since)
                    continue
                try:
                    if self._is_bare:
                        result = function(*args, **kwargs)
                    else:
                        with self._around(attempt):
                            result = ABSENT
                            if self._reconcile is not None and attempt.call.has_failed:
                                result = self._reconcile(*args, **kwargs)
                            if result is ABSENT:
                                result = function(*args, **kwargs)
                except Exception as raised:  # classifying it is the point
                    error, failed = raised, True
                    continue
                if self.results is not None:
                    self.results.record(attempt.call, result)
                try:
                    if (self._is_journalled or attempt.call.has_failed) and self._barrier.is_half_full:
                        self._barrier.wait_for_room(self._time_left(attempt))
                finally:
                    attempt.succeed()  # even if nobody waits for it any more: it is done
                if self._is_strict:
                    self._barrier.end()
                return result
        except UnwantedResult as unwanted:
            return unwanted.result
        except Exception:
            raise
        except BaseException:
            attempt.cancel()
            raise
        finally:
            error = None  # the exception's traceback holds this frame: without this, a cycle

    async def arun(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        attempt: Attempt,
        error: Exception | None = None,
        delay: float = 0.0,
    ) -> Any:
        """As ``run``, for a coroutine function."""
        failed, ended = error is not None, None
        wait = Wait(self._waiting, attempt, attempt.number, self._resumed(attempt, delay)) if delay > 0.0 else None
        try:
            while True:
                if failed:
                    assert error is not None
                    if self._barrier.is_half_full:
                        await self._barrier.await_room(self._time_left(attempt))
                    verdict = attempt.fail(error)
                    if not isinstance(verdict, (Retry, Park)):
                        if self._is_strict:
                            await self._barrier.aend()
                        raise _noted(error, attempt, verdict)
                    if verdict.after > 0.0 or not isinstance(verdict, Retry):
                        wait = Wait(self._waiting, attempt, attempt.number + 1, verdict)
                    if verdict.after <= 0.0:
                        await yield_once()
                if wait is not None:
                    self._waiting.enter(wait)
                    try:
                        while (seconds := wait.next_sleep(waiter := TaskWaiter())) is not None:
                            if not await waiter.wait(seconds):
                                wait.slept()
                    finally:
                        self._waiting.leave(wait)
                    ended, wait = self._after_wait(wait), None
                if failed:
                    if ended is None and self._is_journalled:
                        await self._barrier.abefore_next(self._time_left(attempt))
                    attempt, failed = next_attempt(attempt), False
                since = self._waiting.wakes
                if self._is_journalled and self._barrier.is_half_full:
                    await self._barrier.await_room(self._time_left(attempt))
                deferred = ended or request_start(attempt)
                if deferred is None and (self._is_strict or attempt.call.is_resumed):
                    deferred = await self._barrier.astart(self._time_left(attempt))
                if deferred is not None:
                    wait = Wait(self._waiting, attempt, attempt.number, self._defer(attempt, deferred, error), since)
                    continue
                try:
                    if self._is_bare:
                        result = await function(*args, **kwargs)
                    else:
                        with self._around(attempt), in_time(attempt, self._config.policy):
                            result = ABSENT
                            if self._reconcile is not None and attempt.call.has_failed:
                                result = self._reconcile(*args, **kwargs)
                                result = await result if inspect.isawaitable(result) else result
                            if result is ABSENT:
                                result = await function(*args, **kwargs)
                except Exception as raised:  # classifying it is the point
                    error, failed = raised, True
                    continue
                if self.results is not None:
                    self.results.record(attempt.call, result)
                try:
                    if (self._is_journalled or attempt.call.has_failed) and self._barrier.is_half_full:
                        await self._barrier.await_room(self._time_left(attempt))
                finally:
                    attempt.succeed()  # even if nobody waits for it any more: it is done
                if self._is_strict:
                    await self._barrier.aend()
                return result
        except UnwantedResult as unwanted:
            return unwanted.result
        except Exception:
            raise
        except BaseException:
            attempt.cancel()
            raise
        finally:
            error = None  # the exception's traceback holds this frame: without this, a cycle

    def _around(self, attempt: Attempt) -> AbstractContextManager[None]:
        return Running(attempt) if self._has_context else _NO_CONTEXT

    def _resumed(self, attempt: Attempt, delay: float) -> Retry:
        """The rest of a wait that another process began."""
        return Retry(delay, max(self._time_left(attempt), 0.0))

    def _time_left(self, attempt: Attempt) -> float:
        most = self._config.policy.max_elapsed
        began = attempt.call.began
        return math.inf if most is None or began is None else began + most - self._clock()

    def _defer(self, attempt: Attempt, deferred: Verdict, error: Exception | None) -> Retry | Park:
        """Say that the attempt is held back, and how long; raise, if it must not begin at all."""
        call, left = attempt.call, self._time_left(attempt)
        if not isinstance(deferred, GiveUp):
            if left > 0.0:
                # Whatever holds it back may end early: it waits as long as it has, not less because that may not do.
                least = LEAST_HOLD if deferred.after <= 0.0 else deferred.after
                until = deferred.until if isinstance(deferred, Park) else ()
                deferred = Park(min(least, left), until, min(deferred.within, left))
                park(attempt, deferred)
                return deferred
            reasons = tuple(map(str, deferred.until)) if isinstance(deferred, Park) else ()
            deferred = GiveUp((OUT_OF_TIME, *reasons), deferred.after)
        if call.is_resumed and self._barrier.is_refusal(deferred):
            # Not its end: it is left in the journal, for a process that can write there.
            interrupt(attempt)
            raise RecoveryError(f"{call.operation.name}: call {call.id} stays pending: {deferred.reason}")
        if error is None and not call.has_failed:
            raise reject(attempt, deferred)
        give_up(attempt, deferred)
        try:
            if error is None:  # another process has it
                raise RecoveryError(f"{call.operation.name}: call {call.id} is not resumed: {deferred.reason}")
            raise _noted(error, attempt, deferred)
        finally:
            del error  # its traceback holds this frame

    def _after_wait(self, wait: Wait) -> GiveUp | None:
        """Charge a retry for a wait whose conditions held all the time: or a failure that is not theirs has no end."""
        if wait.ended is None and wait.was_unhelpful and not wait.is_deferred and not wait.counts_as_retry:
            call = wait.attempt.call
            call.retries += 1
            most = self._config.policy.retries_for(call.category)
            if most is not None and call.retries > max(most, 1):  # a park is worth one more attempt
                return GiveUp(f"out of retries ({most})")
        return wait.ended


DRIVERS = frozenset({Driver.run.__code__, Driver.arun.__code__})


def _is_nested() -> bool:
    """Whether another recoverable call is around this one: asked of the stack, when a call has given up.

    Whoever kept count on the way in would burden every call that succeeds.
    """
    wrappers = drivers = 0
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        drivers += code in DRIVERS
        wrappers += code.co_name == WRAPPER_NAME
        if drivers > 1 or wrappers > 1:
            return True
        frame = frame.f_back
    return False


def _noted(error: Exception, attempt: Attempt, verdict: GiveUp) -> Exception:
    """*error* with the mark that it is spent, and a note (PEP 678) of what was tried."""
    operation = attempt.call.operation
    name = display_name(operation.name, operation.key)
    mark_exhausted(error, operation.name, is_nested=_is_nested())
    prefix = f"recovery: {name} gave up"
    try:
        # The same object may be raised again and again: its notes must not pile up.
        notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(prefix)]
        error.__notes__ = [*notes, f"{prefix} after attempt {attempts_made(attempt)}: {verdict.reason}"]
    except Exception:
        pass
    return error
