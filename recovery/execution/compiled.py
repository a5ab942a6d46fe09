"""The compiled failure path: a plain call that fails and is tried again, in the fewest instructions.

What a failure costs is the number of distinct instructions that it touches. The general path (``Attempt.fail`` and the
runner) is the specification. This path decides one thing alone: "try again after so many seconds", where class and text
of the error tell what it means, retries are left, and the circuit has no state. Events are built for subscribers that
are not built in; the journal gets one record of a failure and one of a recovery. Whatever is unusual goes over to the
general path in mid-call, and stays there.

Both paths make the same attempts, waits, counters and journal rows: ``tests/properties/test_compiled_law.py``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from sys import modules
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.call import Call
from events.event import Event
from events.operation_events import LONG_WAIT, FailureClassified, OperationFailed, OperationRecovered
from events.ready import Ready
from events.runner_api import answer, begun, failed
from events.verdicts import Retry, Verdict
from recovery.call_stack import ROLES
from recovery.execution.hooks import refuse_awaitable
from recovery.execution.invocation import Args, Kwargs, may_be_used_up
from recovery.execution.plan import INFO, LOGGER, NO_PLAN, ROOT, Plan, Planner, Recovered, Route, call_id, wants_details
from recovery.execution.runner import Failed, Runner
from recovery.journal.intake import LONGEST_TEXT
from recovery.waiting.sleep import Sleep, may_sleep
from recovery.waiting.waiters import yield_once, yield_to_asyncio

Record: TypeAlias = Any
"""The record of the latest failure (``Route``), or ``None`` before the first."""


def compiled(runner: Runner, planner: Planner, *, awaits: bool) -> Failed:
    """The failure path of the function of *runner*, which is async if it *awaits*."""
    path = FailurePath(runner, planner)
    return _in_task(path) if awaits else _in_thread(path)


class FailurePath:
    """The plan of one function, and what its calls do when something is unusual.

    Args:
        runner: The general path.
        planner: Makes the plan.
    """

    __slots__ = ("operation", "plan", "planner", "recovered", "runner")

    def __init__(self, runner: Runner, planner: Planner) -> None:
        self.runner, self.planner = runner, planner
        self.operation = runner.definition.operation
        self.recovered = Recovered(self.operation)
        self.plan = NO_PLAN

    def prepare(self, error: Exception) -> bool:
        """Renew the plan, or learn what *error* means; whether the failure is to be looked at again after that."""
        plan, config = self.plan, self.runner.config
        if (
            plan.generation != self.operation.generation + self.operation.bus.generation
            or plan.details is not wants_details()
        ):
            self.plan = self.planner.plan(self.operation, config)
            return True
        return self.planner.learn(plan, error, self.operation, config)

    # the attempts that the general path goes on with

    def next(self, record: Record) -> Attempt:
        """The attempt after that of *record*, which has begun; the first one if there is none."""
        operation, bus = self.operation, self.operation.bus
        if record is None:
            return begun(Call(operation, bus.new_call_id()), 1, 0.0)
        route, number, attempt, _, began, _, _, after = record
        call = Call(operation, call_id(bus, number), began, attempt, failure=route.classified(record), has_failed=True)
        return begun(call, attempt + 1, after)

    def ended(self, record: Record, *, is_decided: bool = True) -> Attempt:
        """The attempt of *record*, which has failed, and is to be made again if that *is_decided*."""
        route, number, attempt, at, began, waited, _, after = record
        operation = self.operation
        call = Call(operation, call_id(operation.bus, number), began, attempt - 1, failure=route.classified(record))
        call.due = at + after if is_decided else None
        return failed(call, attempt, waited, Retry(after))

    def retried(self, record: Record, lag: float) -> Attempt:
        """As ``next``, in a call that has begun a retry *lag* seconds late."""
        attempt = self.next(record)
        attempt.call.lag = lag
        return attempt

    # subscribers that are not built in

    def observed(
        self,
        plan: Plan,
        error: Exception,
        route: Route,
        call: str,
        number: int,
        at: float,
        began: float,
        waited: float,
        text: str,
    ) -> Record:
        """Tell them of a failure, and decide: its record. If one of them answers, the general path decides: then the
        attempt that it goes on with, and its verdict.
        """
        observers, operation = plan.observers, self.operation
        assert observers is not None
        if observers.failed:
            failed = OperationFailed(
                at=at,
                operation=operation.name,
                call=call,
                attempt=number,
                error=error,
                retries=number - 1,
                elapsed=at - began,
                waited=waited,
            )
            if (told := _tell(failed, observers.failed)) is not None:
                return self._answered(plan, (route, call, number, at, began, waited, text, 0.0), failed, told)
        if observers.classified:
            record: Record = (route, call, number, at, began, waited, text, 0.0)
            classified = route.classified(record)
            if (told := _tell(classified, observers.classified)) is not None:
                return self._answered(plan, record, classified, told)
        least, spread = route.delays[number - 1]
        after = least + spread * self.planner.rng()
        record = (route, call, number, at, began, waited, text, after)
        plan.intake.lane.append(record)
        if after >= LONG_WAIT:
            self.tell_long(plan, record)
        elif observers.scheduled:
            scheduled = route.scheduled(record)
            if (told := _tell(scheduled, observers.scheduled)) is not None:
                operation.bus.cascade(scheduled, to=told)
        return record

    def _answered(
        self, plan: Plan, record: Record, event: OperationFailed | FailureClassified, told: Ready
    ) -> tuple[Attempt, Verdict]:
        answers = {subscription: function for function, subscription in told}
        every = self.operation.bus.subscribers(type(event), event.operation, details=plan.details)
        attempt = self.ended(record, is_decided=False)
        return attempt, answer(attempt, event, tuple((answers.get(one, function), one) for function, one in every))

    def tell_long(self, plan: Plan, record: Record) -> None:
        """Tell them, and the log, of the retry of *record* after a long wait."""
        scheduled = record[0].scheduled(record)
        if (told := _tell(scheduled, plan.long)) is not None:
            self.operation.bus.cascade(scheduled, is_detail=False, to=told)

    def recover(self, to: Ready, call: str, number: int, at: float, elapsed: float, lag: float) -> None:
        """Tell them that attempt *number* has recovered the call."""
        recovered = OperationRecovered(
            at=at, operation=self.operation.name, call=call, attempt=number, elapsed=elapsed, lag=lag
        )
        if (told := _tell(recovered, to)) is not None:
            self.operation.bus.cascade(recovered, to=told)


def _tell(event: Event, to: Ready) -> Ready | None:
    """Call subscribers until one answers or raises; then *to*, where those that were called do the same again."""
    subscription: Any  # of blinker's own receivers there is none, and no plan
    given = None
    for function, subscription in to:
        try:
            given = function(event)
        except BaseException as error:  # as the bus, where it is called again
            given = error
            does: Callable[[Event], object] = functools.wraps(function)(functools.partial(_raise, error))
            break
        if given is not None:
            does = functools.partial(_say, given)
            break
        if subscription.trouble is not None:
            subscription.trouble.failures = 0
    if given is None:
        return None
    number = [one for _, one in to].index(subscription)
    quiet = tuple((functools.partial(_say, None), one) for _, one in to[:number])
    return (*quiet, (does, subscription), *to[number + 1 :])


def _raise(error: BaseException, _: Event) -> object:
    raise error


def _say(given: object, _: Event) -> object:
    return given


# The two loops are the same but for ``await``, and the yield before a retry without delay. Each is one function: what
# is usual calls no other one of ours.


def _in_thread(path: FailurePath) -> Failed:
    operation, recovered, run, barrier = path.operation, path.recovered, path.runner.run, path.runner.barrier
    function, circuits, draw = path.runner.original, path.planner.circuits, path.planner.rng
    operation_key, bus = (operation.name, operation.key), operation.bus
    new_number = bus.call_numbers.__next__

    known: type = type(None)  # of results that are not awaitable, the latest

    def recover(error: Exception, args: Args, kwargs: Kwargs) -> Any:
        nonlocal known
        route: Any  # a Route, once the failure is usual
        call: Any  # its number; its id where it is observed
        number, record, attempt, answered = 1, None, None, None
        try:
            try:
                while True:  # each turn is a failure
                    generation, details, routes, intake, clock, observers, long, _ = plan = path.plan
                    lane = intake.lane
                    try:
                        is_usual = (
                            (route := routes.get(type(error))) is not None
                            and number <= route.most
                            and generation == operation.generation + bus.generation
                            and len(lane) < intake.limit
                            and operation_key not in circuits
                            and len(given := error.args) < 2
                            and type(text := given[0] if given else "") is str
                            and len(text) <= LONGEST_TEXT
                            and (route.texts is None or text in route.texts)
                            and not error.__dict__
                            and error.__cause__ is None
                            and not (route.has_errno and error.errno is not None)  # type: ignore[attr-defined]
                            and ((LOGGER.level or ROOT.level) <= INFO) is details
                        )
                    except Exception:  # a class that raises when it is looked up
                        is_usual = False
                    if not is_usual:
                        if path.prepare(error):
                            continue
                        attempt = path.next(record)
                        break
                    at = clock()
                    if record is None:
                        call, began, waited = new_number() if observers is None else bus.new_call_id(), at, 0.0
                    else:
                        waited = record[7]
                    if observers is not None:
                        found = path.observed(plan, error, route, call, number, at, began, waited, text)
                        if len(found) == 2:
                            attempt, answered = found
                            break
                        record, after = found, found[7]
                    else:
                        least, spread = route.delays[number - 1]
                        after = least + spread * draw()
                        record = (route, call, number, at, began, waited, text, after)
                        lane.append(record)
                        if long and after >= LONG_WAIT:
                            path.tell_long(plan, record)
                    is_odd = number == 1 and (args or kwargs) and may_be_used_up(args, kwargs)
                    if after > 0.0 or operation.observed.is_on or is_odd:
                        attempt, answered = path.ended(record), Retry(after)
                        break
                    number += 1
                    try:
                        result = function(*args, **kwargs)
                        if type(result) is not known:
                            if hasattr(type(result), "__await__"):  # to ask takes longer than all else here
                                refuse_awaitable(function, result)
                            known = type(result)
                        break
                    except Exception as raised:  # the next turn decides
                        error = raised
            except BaseException:
                path.next(record).cancel()
                raise
            if attempt is not None:
                return run(attempt, args, kwargs, error, None, answered)
            if (
                operation.observed.is_on
                or generation != operation.generation + bus.generation
                or len(lane) >= intake.limit
            ):
                attempt = path.next(record)
                try:
                    if barrier.must_wait:
                        barrier.wait_for_admission(math.inf)
                finally:
                    attempt.succeed()
                return result
            at = clock()
            lane.append((recovered, call, number, at, began, 0.0))
            operation.successes += 1
            if observers is not None and observers.recovered:
                path.recover(observers.recovered, call, number, at, at - began, 0.0)
            return result
        finally:
            del error  # its traceback holds this frame

    ROLES[recover.__code__] = "compiled"
    return recover


def _in_task(path: FailurePath) -> Failed:
    operation, recovered, run, barrier = path.operation, path.recovered, path.runner.arun, path.runner.barrier
    function, circuits, draw = path.runner.original, path.planner.circuits, path.planner.rng
    operation_key, bus = (operation.name, operation.key), operation.bus
    new_number = bus.call_numbers.__next__
    waiting = path.runner.waiting

    async def recover(error: Exception, args: Args, kwargs: Kwargs) -> Any:
        route: Any  # a Route, once the failure is usual
        call: Any  # its number; its id where it is observed
        number, record, attempt, answered, wait = 1, None, None, None, None
        lag, is_waiting = 0.0, False
        try:
            try:
                while True:  # each turn is a failure
                    generation, details, routes, intake, clock, observers, long, _ = plan = path.plan
                    lane = intake.lane
                    try:
                        is_usual = (
                            (route := routes.get(type(error))) is not None
                            and number <= route.most
                            and generation == operation.generation + bus.generation
                            and len(lane) < intake.limit
                            and operation_key not in circuits
                            and len(given := error.args) < 2
                            and type(text := given[0] if given else "") is str
                            and len(text) <= LONGEST_TEXT
                            and (route.texts is None or text in route.texts)
                            and not error.__dict__
                            and error.__cause__ is None
                            and not (route.has_errno and error.errno is not None)  # type: ignore[attr-defined]
                            and ((LOGGER.level or ROOT.level) <= INFO) is details
                        )
                    except Exception:  # a class that raises when it is looked up
                        is_usual = False
                    if not is_usual:
                        if path.prepare(error):
                            continue
                        attempt = path.retried(record, lag)
                        break
                    at = clock()
                    if record is None:
                        call, began, waited = new_number() if observers is None else bus.new_call_id(), at, 0.0
                    else:
                        waited = record[7]
                    if observers is not None:
                        found = path.observed(plan, error, route, call, number, at, began, waited, text)
                        if len(found) == 2:
                            attempt, answered = found
                            break
                        record, after = found, found[7]
                    else:
                        least, spread = route.delays[number - 1]
                        after = least + spread * draw()
                        record = (route, call, number, at, began, waited, text, after)
                        lane.append(record)
                        if long and after >= LONG_WAIT:
                            path.tell_long(plan, record)
                    is_waiting = True
                    is_odd = number == 1 and (args or kwargs) and may_be_used_up(args, kwargs)
                    if is_odd or (after > 0.0 and not may_sleep()):
                        attempt, answered = path.ended(record), Retry(after)
                        break
                    if after > 0.0:
                        wait = await Sleep(waiting, call_id(bus, call), after, path.ended, record)
                    else:
                        await (yield_to_asyncio() if "trio" not in modules else yield_once())
                    if wait is not None or operation.observed.is_on:
                        attempt = path.ended(record) if wait is None else wait.attempt
                        answered = Retry(after)
                        break
                    late, is_waiting = clock() - (at + after), False
                    if late > lag:
                        lag = late
                    number += 1
                    try:
                        result = await function(*args, **kwargs)
                        break
                    except Exception as raised:  # the next turn decides
                        error = raised
            except BaseException:
                (path.ended(record) if is_waiting else path.next(record)).cancel()
                raise
            if attempt is not None:
                return await run(attempt, args, kwargs, error, None, answered, wait)
            if (
                operation.observed.is_on
                or generation != operation.generation + bus.generation
                or len(lane) >= intake.limit
            ):
                attempt = path.retried(record, lag)
                try:
                    if barrier.must_wait:
                        await barrier.await_admission(math.inf)
                finally:
                    attempt.succeed()
                return result
            at = clock()
            lane.append((recovered, call, number, at, began, lag))
            operation.successes += 1
            if observers is not None and observers.recovered:
                path.recover(observers.recovered, call, number, at, at - began, lag)
            return result
        finally:
            del error  # its traceback holds this frame

    ROLES[recover.__code__] = "compiled"
    return recover
