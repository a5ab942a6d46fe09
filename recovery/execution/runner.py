"""Run a call from its first attempt, or its first failure, to its end: one loop, for threads and for tasks.

Everything that decides is a subscriber and takes microseconds; a runner runs the function, asks, and waits. ``run`` and
``arun`` differ in ``await`` and in the kind of waiter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from events.attempt import Attempt, next_attempt, request_start
from events.callables import is_async
from events.errors import UnwantedResult
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.call_stack import ROLES
from recovery.execution.attempts import cancelled, end_unstarted, noted, unless_left
from recovery.execution.hooks import ErrorJudge, judged
from recovery.execution.invocation import Args, Kwargs, invoker
from recovery.joining.run import PartOfCall, cut_off
from recovery.joining.shared_call import Outcome, Rest
from recovery.journal.commit_barrier import CommitBarrier
from recovery.waiting.asking import ask_instead, asking
from recovery.waiting.deferral import charge, defer
from recovery.waiting.live import LiveCall, task_of_call
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter, yield_once

if TYPE_CHECKING:
    from events.call import Call
    from recovery.journal.core import JournalCore
    from recovery.journal.idempotency import RecordedResults
    from recovery.operations import Definition
    from recovery.serialization.arguments import ArgumentCodec
    from recovery.settings import OperationConfig
    from recovery.waiting.calls import WaitingCalls

Failure: TypeAlias = Exception | None
Failed: TypeAlias = Callable[[Exception, Args, Kwargs], Any]
Run: TypeAlias = PartOfCall | None

NOT_RECORDED = "a result is not recorded"


class Runner:
    """Runs the calls of one function, as the config of its operation wants it.

    ``run`` and ``arun`` return what the function returns. They raise its last exception, with a note of what was tried,
    or CallRejectedError if nothing was tried. A cancellation passes untouched.

    Args:
        function: What is made recoverable, plain or async.
        definition: Its operation.
        waiting: Where its calls wait.
        journal: The journal, once there is one.
        config: How its calls decide, where that differs from the config of the operation.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        definition: Definition,
        waiting: WaitingCalls,
        journal: Callable[[], JournalCore | None],
        config: OperationConfig | None = None,
    ) -> None:
        self.config = config = config or definition.config
        """How its calls decide."""
        self.original = function
        self.definition = definition
        self.function = judged(function, config.retry_if)
        """What a first attempt runs."""
        self.results: RecordedResults | None = None
        """The results that calls have recorded under their idempotency keys, where the config wants that."""
        if config.remember is not None:
            from recovery.journal.idempotency import RecordedResults  # here, for such functions alone
            from recovery.serialization.results import ResultCodec

            warn = functools.partial(definition.warn_once, NOT_RECORDED, per_reason=True)
            self.results = RecordedResults(config.remember, ResultCodec(function), journal, warn)
        self._codec: ArgumentCodec | None = None
        self.failed: Failed
        """Goes on with a call whose first attempt has raised, with no event before: the compiled failure path."""
        self.start: object = None
        """The compiled start of its calls, where it was made (a ``StartPath``)."""
        judge = None if config.retry_if_error is None else ErrorJudge(config.retry_if_error, definition.operation.name)
        self._judge = judge
        self._invoke = invoker(function, config, self.results, definition)
        self._call_configs = definition.call_configs
        self._bus = definition.operation.bus
        self._policy = config.policy
        self.waiting, self._conditions = waiting, waiting.conditions
        """Where its calls wait, and by what."""
        self._journal = journal
        self.barrier = CommitBarrier(config, journal)
        """What its calls wait for on account of the journal."""
        self._is_strict = self.barrier.is_strict
        self._is_journalled = self.barrier.are_journalled
        self._is_listed, self._awaits = config.has_context, is_async(function)

    def run(self, attempt: Attempt, args: Args, kwargs: Kwargs, error: Failure = None, run: Run = None) -> Any:
        """Make *attempt* and those after it, for the callers of *run*; or take over where it failed with *error*."""
        wait, verdict = (None, None) if run is None else run.begin(attempt)
        call, failed, done, ended, result = attempt.call, error is not None and verdict is None, False, None, None
        try:
            while True:  # each turn publishes one thing: a failure, a success or a start
                if wait is not None:
                    self.waiting.enter(wait)
                    try:
                        while (seconds := wait.next_sleep(waiter := ThreadWaiter(self._bus.clock))) is not None:
                            if not waiter.wait(seconds):
                                wait.slept()
                    finally:
                        self.waiting.leave(wait)
                    ended, wait = charge(wait, (call.edited or self.config).policy), None
                if verdict is not None:
                    attempt, verdict = next_attempt(attempt), None
                try:
                    if (failed or self._is_journalled or (done and call.has_failed)) and self.barrier.must_wait:
                        self.barrier.wait_for_admission(self._time_left(call))
                finally:
                    if done:
                        attempt.succeed()  # also where that wait is cancelled: it is done
                if done:
                    break
                mine = self._as_edited(attempt, error if failed else None)
                if failed and error is not None:
                    failed, verdict = False, attempt.fail(error, mine._judge and mine._judge.judge(error))
                    if isinstance(verdict, GiveUp):
                        break
                    wait = mine._wait_after(attempt, verdict) if verdict.after > 0.0 or type(verdict) is Park else None
                    continue
                since, deferred = self.waiting.wakes, ended or request_start(attempt)
                if deferred is None and (self._is_strict or call.is_resumed):
                    deferred = self.barrier.start(self._time_left(call))
                elif deferred is None and self._is_journalled and call.has_failed:
                    self.barrier.before_next(self._time_left(call))
                if deferred is not None:
                    wait = self._wait_deferred(attempt, deferred, error, since)
                    continue
                try:
                    result, done = mine._invoke(attempt, args, kwargs), True
                except Exception as raised:  # classifying it is the point
                    error, failed = unless_left(attempt, raised), True
            if self._is_strict:
                self.barrier.end()
            if done or error is None:
                return result
            raise noted(error, call, attempt.number, verdict, self.original, args, kwargs, self.config)
        except UnwantedResult as unwanted:
            return unwanted.result
        except BaseException as stopped:
            if not isinstance(stopped, Exception):  # that is published already
                cut_off(run, Rest(attempt, error, wait, verdict), Outcome(result, is_known=done), is_told=not failed)
            raise
        finally:
            error, _ = None, self._call_configs.pop(call.id, None)  # its traceback holds this frame: else a cycle
            self.waiting.live.pop(call.id, None)

    async def arun(self, attempt: Attempt, args: Args, kwargs: Kwargs, error: Failure = None, run: Run = None) -> Any:
        """As ``run``, for an async function."""
        wait, verdict = (None, None) if run is None else run.begin(attempt)
        call, failed, done, ended, result = attempt.call, error is not None and verdict is None, False, None, None
        try:
            while True:  # each turn publishes one thing: a failure, a success or a start
                if wait is not None:
                    self.waiting.enter(wait)
                    try:
                        while (seconds := wait.next_sleep(waiter := TaskWaiter())) is not None:
                            if not await waiter.wait(seconds):
                                wait.slept()
                    finally:
                        self.waiting.leave(wait)
                    ended, wait = charge(wait, (call.edited or self.config).policy), None
                if verdict is not None:
                    attempt, verdict = next_attempt(attempt), None
                try:
                    if (failed or self._is_journalled or (done and call.has_failed)) and self.barrier.must_wait:
                        await self.barrier.await_admission(self._time_left(call))
                finally:
                    if done:
                        attempt.succeed()  # also where that wait is cancelled: it is done
                if done:
                    break
                mine = self._as_edited(attempt, error if failed else None)
                if failed and error is not None:
                    failed, verdict = False, attempt.fail(error, mine._judge and await mine._judge.ajudge(error))
                    if isinstance(verdict, GiveUp):
                        break
                    wait = mine._wait_after(attempt, verdict) if verdict.after > 0.0 or type(verdict) is Park else None
                    if verdict.after <= 0.0:
                        await yield_once()
                    continue
                since, deferred = self.waiting.wakes, ended or request_start(attempt)
                if deferred is None and (self._is_strict or call.is_resumed):
                    deferred = await self.barrier.astart(self._time_left(call))
                elif deferred is None and self._is_journalled and call.has_failed:
                    await self.barrier.abefore_next(self._time_left(call))
                if deferred is not None:
                    wait = self._wait_deferred(attempt, deferred, error, since)
                    continue
                try:
                    result, done = await mine._invoke_task(attempt, args, kwargs), True
                except Exception as raised:  # classifying it is the point
                    error, failed = unless_left(attempt, raised), True
            if self._is_strict:
                await self.barrier.aend()
            if done or error is None:
                return result
            raise noted(error, call, attempt.number, verdict, self.original, args, kwargs, self.config)
        except UnwantedResult as unwanted:
            return unwanted.result
        except BaseException as stopped:
            if not isinstance(stopped, Exception):  # that is published already
                cut_off(run, Rest(attempt, error, wait, verdict), Outcome(result, is_known=done), is_told=not failed)
            raise
        finally:
            error, _ = None, self._call_configs.pop(call.id, None)  # its traceback holds this frame: else a cycle
            self.waiting.live.pop(call.id, None)

    @property
    def codec(self) -> ArgumentCodec:
        """Reads and writes the arguments of joinable calls."""
        if self._codec is None:
            from recovery.serialization.arguments import ArgumentCodec  # here, for such calls alone

            self._codec = ArgumentCodec(self.original)
        return self._codec

    def varied(self, config: OperationConfig) -> Runner:
        """Runs the calls of the same function, of the same operation, as *config* wants it."""
        return Runner(self.original, self.definition, self.waiting, self._journal, config)

    def first_wait(self, attempt: Attempt, delay: float, *, is_paused: bool = False) -> Wait:
        """The rest of a wait that another process began, *delay* seconds."""
        if attempt.call.asks_person:
            return asking(attempt, self._conditions)
        rest = Retry(delay, max(self._time_left(attempt.call), 0.0))
        left = delay if is_paused else None
        return Wait(self._conditions, attempt, attempt.number, rest, left=left)

    def _as_edited(self, attempt: Attempt, failure: Failure) -> Runner:
        """What decides for the call of *attempt*, and from now on for its *failure*, if there is one.

        Raises what the caller gets, if the call is cancelled: its failure, if it has one.
        """
        call = attempt.call
        if call.cancelled is not None:
            raise cancelled(attempt, failure)
        mine = self if call.edited is None else self.varied(call.edited)
        live = self.waiting.live
        if call.id in live:
            live[call.id].attempt = attempt
        elif self._is_listed or failure is not None or call.has_failed:
            live[call.id] = LiveCall(attempt, self.config, self.original, task_of_call() if self._awaits else None)
        if failure is not None:
            self._call_configs[call.id] = mine.config
        return mine

    def _invoke_task(self, attempt: Attempt, args: Args, kwargs: Kwargs) -> Awaitable[Any]:
        """What the async function returns, to be awaited; a call that is listed can be cancelled meanwhile."""
        live = self.waiting.live.get(attempt.call.id)
        if live is None or live.task is None:
            awaitable: Awaitable[Any] = self._invoke(attempt, args, kwargs)
            return awaitable
        return live.task.run(self._invoke, attempt, args, kwargs)

    def _wait_after(self, attempt: Attempt, verdict: Retry | Park) -> Wait:
        return Wait(self._conditions, attempt, attempt.number + 1, verdict, policy=self._policy)

    def _time_left(self, call: Call) -> float:
        most = (call.edited or self.config).policy.max_elapsed
        return math.inf if most is None or call.began is None else most - call.elapsed(self._bus.clock())

    def _wait_deferred(self, attempt: Attempt, verdict: Verdict, error: Failure, since: int) -> Wait:
        """The wait of an attempt that may not begin yet. Raises what the caller gets if it must not begin at all."""
        policy = (attempt.call.edited or self.config).policy
        if (wait := ask_instead(attempt, verdict, policy, self._conditions)) is not None:
            return wait
        deferred = defer(attempt, verdict, self._time_left(attempt.call))
        if isinstance(deferred, Park):
            return Wait(self._conditions, attempt, attempt.number, deferred, since, policy)
        try:
            raise end_unstarted(attempt, deferred, error, stays_pending=self.barrier.is_refusal(deferred))
        finally:
            del error  # its traceback holds this frame


ROLES.update({loop.__code__: "runner" for loop in (Runner.run, Runner.arun)})
