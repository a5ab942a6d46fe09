"""Run one leg of a call that a cluster owns: from where the call stands to how the leg ends."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from typing import Any

import msgspec

from events.attempt import Attempt
from events.call import Call, Progress
from events.callables import is_async
from events.errors import RecoveryError
from events.evidence import Category
from events.operation import Operation
from events.runner_api import give_up
from events.verdicts import GiveUp, Park
from recovery.execution.leased_runner import STOPPED, HandedBackError, LeasedRunner, Leg
from recovery.leased_calls import Cancelled, Ending, Failed, LeasedCall, Postponed, Succeeded
from recovery.outcome import outcome_of
from recovery.redact import brief
from recovery.settings import OperationConfig
from recovery.subscribers.retry import MAYBE_SENT, judge
from recovery.waiting.daemon_threads import start_daemon
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import Latch

SWITCHED_OFF = "recovery is switched off"


class LeasedRun:
    """One leg of one call, on its way to its ending.

    Args:
        config: How the call decides.
        operation: Its operation.
        runner: Makes the runner of the leg.
        is_on: Whether the service recovers from failures.
        encode: Makes bytes of its result. Raises ValueError.
        legs: The legs that run, by the ids of their calls.
        given: Where the call stands.
        keep: Seconds of a wait that are waited for here.
        is_held: Whether its lease still lasts.
    """

    def __init__(
        self,
        config: OperationConfig,
        of: Operation,
        runner: Callable[[Leg], LeasedRunner],
        encode: Callable[[object], bytes],
        legs: dict[str, Leg],
        call: LeasedCall,
        keep: float,
        is_held: Callable[[], bool],
        *,
        is_on: bool,
    ) -> None:
        self._given, self._config, self._encode, self._legs, self._is_on = call, config, encode, legs, is_on
        now, failure = of.bus.clock(), call.failure
        if failure is not None:  # on the clock of this process
            failure = msgspec.structs.replace(failure, at=now - max(call.elapsed - failure.elapsed, 0.0))
        self._failure = failure
        self._call = Call(
            of,
            call.local_id,
            began=now - call.elapsed,
            retries=call.retries,
            progress=Progress(call.done, call.progress_resets) if call.done or call.progress_resets else None,
            saved=call.saved,
            version=self._config.version,
            idempotency_key=call.idempotency_key or call.id,
            failure=failure,
            has_failed=call.has_failed,
            fence=call.fence,
        )
        self._attempt = Attempt(self._call, call.attempt, call.delay, began=self._call.began)
        self._leg = Leg(keep, call.looks, is_held=is_held)
        self._runner = runner(self._leg)

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ending:
        """Run the leg."""
        call, leg = self._call, self._leg
        if self._given.is_cut_off and not self._config.may_repeat:
            give_up(self._attempt, GiveUp(MAYBE_SENT))
            return self._ended(RuntimeError(MAYBE_SENT), MAYBE_SENT)
        leg.wait = self._parked()
        self._legs[call.id] = leg
        try:
            result = await self._made(args, kwargs)
        except HandedBackError as back:
            return self._postponed(back)
        except Exception as error:  # what becomes of it is published
            return self._ended(error)
        finally:
            self._legs.pop(call.id, None)
        try:
            return Succeeded(result=self._encode(result), attempt=self._number)
        except ValueError as error:
            return failed(error, "its result cannot be kept", self._number)

    def _parked(self) -> Wait | None:
        """The wait for the conditions of the latest failure, for which the leg before has waited; None for none."""
        given, failure = self._given, self._failure
        if not given.is_parked or failure is None:
            return None
        verdict = judge(self._config, failure, 0.0)
        if not isinstance(verdict, Park) or verdict.asks_person:
            return None
        within = math.inf if given.within is None else given.within
        return self._runner.parked(self._attempt, Park(0.0, verdict.until, within))

    async def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        runner, attempt, leg = self._runner, self._attempt, self._leg
        is_on = self._is_on
        if is_async(runner.original):
            if is_on:
                return await runner.arun(attempt, args, kwargs, None, leg)
            return await runner.aonce(attempt, args, kwargs)
        if is_on:
            return await self._in_thread(lambda: runner.run(attempt, args, kwargs, None, leg))
        return await self._in_thread(lambda: runner.once(attempt, args, kwargs))

    async def _in_thread(self, body: Callable[[], Any]) -> Any:
        done, found, context = Latch(), _Found(), contextvars.copy_context()

        def work() -> None:
            try:
                found.result = context.run(body)
            except BaseException as error:  # the task raises it
                found.error = error
            finally:
                done.open()

        start_daemon(f"recovery-leased {self._call.id}", work)
        try:
            await done.opened()
        except BaseException:  # this task is cancelled
            self._leg.handed_back = self._leg.handed_back or STOPPED
            self._call.cancelled = self._leg.handed_back
            self._leg.tell(self._attempt, self._leg.handed_back)
            raise
        if found.error is not None:
            raise found.error
        return found.result

    # how it ends

    @property
    def _number(self) -> int:
        """The number of the attempt that was made last."""
        return self._leg.number or self._attempt.number

    def _postponed(self, back: HandedBackError) -> Postponed:
        call, given = self._call, self._given
        is_new = call.failure is not self._failure
        progress = call.progress or Progress()
        came_further = call.saved != given.saved or progress.done > given.done
        state = msgspec.structs.replace(
            given,
            attempt=back.attempt.number,
            retries=call.retries,
            elapsed=call.elapsed(call.operation.bus.clock()),
            delay=back.attempt.waited,
            within=back.within,
            looks=self._leg.looks + 1 if back.has_looked else 0,
            is_parked=back.is_parked,
            saved=call.saved,
            failure=call.failure,
            has_failed=call.has_failed or back.is_cut_off,
            is_cut_off=back.is_cut_off or (given.is_cut_off and not is_new),
            done=progress.done,
            progress_resets=progress.resets,
            asks_person=call.asks_person,
            deaths=0 if is_new or came_further else given.deaths,
        )
        self._leg.tell(back.attempt, back.why, back.after)
        return Postponed(
            after=back.after,
            why=back.why,
            state=state,
            asks_person=call.asks_person,
            is_handed_back=self._leg.handed_back is not None,
        )

    def _ended(self, error: Exception, reason: str = "") -> Failed | Cancelled:
        call = self._call
        category = None if call.failure is None else call.failure.category
        if call.cancelled is not None:
            return Cancelled(reason=call.cancelled, attempt=self._number)
        if category is Category.CANCELLED:
            return Cancelled(reason=brief(str(error)), attempt=self._number)
        outcome = outcome_of(error)
        if outcome is not None:
            return failed(error, outcome.reason, outcome.attempts, call, is_rejected=outcome.attempts == 0)
        return failed(error, reason or ("" if self._is_on else SWITCHED_OFF), self._number, call)


class _Found:
    """What a thread has found."""

    result: Any = None
    error: BaseException | None = None


def failed(
    error: Exception, reason: str, attempt: int, call: Call | None = None, *, is_rejected: bool = False
) -> Failed:
    """The ending of a leg with *error*, after *attempt* attempts."""
    failure = None if call is None else call.failure
    name, text = type(error).__qualname__, str(error)
    if failure is not None and type(error) is RecoveryError:  # the call gave up before its attempt
        name, text = failure.evidence.type.rpartition(".")[2], failure.evidence.message
    return Failed(
        error=name,
        text=brief(text),
        reason=brief(reason),
        attempt=max(attempt, 0),
        category=None if failure is None else failure.category,
        failure=failure,
        is_rejected=is_rejected,
    )
