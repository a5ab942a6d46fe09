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
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.call import Call
from events.event import Event
from events.operation_events import LONG_WAIT, FailureClassified, OperationFailed
from events.ready import Ready
from events.runner_api import answer, begun, failed
from events.subscription import Subscription
from events.verdicts import Retry, Verdict
from recovery.call_stack import ROLES
from recovery.execution.hooks import refuse_awaitable
from recovery.execution.invocation import Args, Kwargs, may_be_used_up
from recovery.execution.plan import INFO, LOGGER, NO_PLAN, ROOT, Planner, Recovered, wants_details
from recovery.execution.runner import Failed, Runner
from recovery.journal.intake import LONGEST_TEXT
from recovery.waiting.sleep import Sleep, may_sleep
from recovery.waiting.waiters import yield_once

Record: TypeAlias = Any
"""The record of the latest failure (``Route``), or ``None`` before the first."""

Subscriber: TypeAlias = Callable[[Any], object]


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
        call = Call(operation, f"{bus.run}-{number}", began, attempt, failure=route.classified(record), has_failed=True)
        return begun(call, attempt + 1, after)

    def ended(self, record: Record, *, is_decided: bool = True) -> Attempt:
        """The attempt of *record*, which has failed, and is to be made again if that *is_decided*."""
        route, number, attempt, at, began, waited, _, after = record
        operation = self.operation
        call = Call(operation, f"{operation.bus.run}-{number}", began, attempt - 1, failure=route.classified(record))
        call.due = at + after if is_decided else None
        return failed(call, attempt, waited, Retry(after))

    def retried(self, record: Record, lag: float) -> Attempt:
        """As ``next``, in a call that has begun a retry *lag* seconds late."""
        attempt = self.next(record)
        attempt.call.lag = lag
        return attempt

    # subscribers that are not built in

    def observe(self, record: Record, error: Exception) -> tuple[Attempt, Verdict] | None:
        """Tell them what failed and what it means, before that is decided; the answer of the general path, if one
        of them answers.
        """
        route, observers = record[0], self.plan.observers
        assert observers is not None
        for to, kind in ((observers.failed, OperationFailed), (observers.classified, FailureClassified)):
            if to:
                event: Any = route.failed(record, error) if kind is OperationFailed else route.classified(record)
                if (told := _tell(event, to)) is not None:
                    attempt = self.ended(record, is_decided=False)
                    return attempt, answer(attempt, event, self._with(event, to, told))
        return None

    def announce(self, record: Record) -> None:
        """Tell them of the retry of *record*."""
        plan, route = self.plan, record[0]
        is_long = record[7] >= LONG_WAIT
        to = plan.long if is_long or plan.observers is None else plan.observers.scheduled
        if to:
            self.operation.bus.cascade(route.scheduled(record), is_detail=not is_long, to=to)

    def conclude(self, record: Any) -> None:
        """Tell them of the recovery of *record*, which is one of ``Recovered``."""
        observers = self.plan.observers
        if observers is not None and observers.recovered:
            (event,) = self.recovered.events(record)
            self.operation.bus.cascade(event, to=observers.recovered)

    def _with(self, event: Event, to: Ready, told: tuple[Subscription | None, Subscriber]) -> Ready:
        """All subscribers of *event*, with those of *to* as they have answered until *told*."""
        last, given = told
        quiet = {one for _, one in to[: [one for _, one in to].index(last)]}
        every = self.operation.bus.subscribers(type(event), event.operation, details=self.plan.details)
        return tuple(
            (_say_nothing if one in quiet else given if one is last else function, one) for function, one in every
        )


def _tell(event: Event, to: Ready) -> tuple[Subscription | None, Subscriber] | None:
    """Call subscribers until one answers or raises: that one, and a function that does the same again."""
    for function, subscription in to:
        try:
            given = function(event)
        except Exception as error:  # an observer never breaks an operation
            return subscription, functools.wraps(function)(functools.partial(_raise, error))
        if given is not None:
            return subscription, functools.partial(_say, given)
    return None


def _raise(error: Exception, _: Event) -> object:
    raise error


def _say(given: object, _: Event) -> object:
    return given


_say_nothing = functools.partial(_say, None)


# The two loops are the same but for ``await``, and the yield before a retry without delay. Each is one function: what
# is usual calls no other one of ours.


def _in_thread(path: FailurePath) -> Failed:
    operation, recovered, run, barrier = path.operation, path.recovered, path.runner.run, path.runner.barrier
    function, circuits, draw = path.runner.original, path.planner.circuits, path.planner.rng
    operation_key, bus = (operation.name, operation.key), operation.bus
    new_number = bus.call_numbers.__next__

    def recover(error: Exception, args: Args, kwargs: Kwargs) -> Any:
        route: Any  # a Route, once the failure is usual
        number, record, attempt, answered = 1, None, None, None
        try:
            try:
                while True:  # each turn is a failure
                    generation, details, routes, intake, clock, observers, long, _ = path.plan
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
                        call, began, waited = new_number(), at, 0.0
                    else:
                        waited = record[7]
                    if observers is not None:
                        record_so_far = (route, call, number, at, began, waited, text, 0.0)
                        if (told := path.observe(record_so_far, error)) is not None:
                            attempt, answered = told
                            break
                    least, spread = route.delays[number - 1]
                    after = least + spread * draw()
                    record = (route, call, number, at, began, waited, text, after)
                    lane.append(record)
                    if observers is not None or (long and after >= LONG_WAIT):
                        path.announce(record)
                    is_odd = number == 1 and (args or kwargs) and may_be_used_up(args, kwargs)
                    if after > 0.0 or operation.observed.is_on or is_odd:
                        attempt, answered = path.ended(record), Retry(after)
                        break
                    number += 1
                    try:
                        result = function(*args, **kwargs)
                        if hasattr(type(result), "__await__"):
                            refuse_awaitable(function, result)
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
            if observers is not None:
                path.conclude((recovered, call, number, at, began, 0.0))
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
        number, record, attempt, answered, wait = 1, None, None, None, None
        lag, is_waiting = 0.0, False
        try:
            try:
                while True:  # each turn is a failure
                    generation, details, routes, intake, clock, observers, long, _ = path.plan
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
                        call, began, waited = new_number(), at, 0.0
                    else:
                        waited = record[7]
                    if observers is not None:
                        record_so_far = (route, call, number, at, began, waited, text, 0.0)
                        if (told := path.observe(record_so_far, error)) is not None:
                            attempt, answered = told
                            break
                    least, spread = route.delays[number - 1]
                    after = least + spread * draw()
                    record = (route, call, number, at, began, waited, text, after)
                    lane.append(record)
                    is_waiting = True
                    if observers is not None or (long and after >= LONG_WAIT):
                        path.announce(record)
                    is_odd = number == 1 and (args or kwargs) and may_be_used_up(args, kwargs)
                    if is_odd or (after > 0.0 and not may_sleep()):
                        attempt, answered = path.ended(record), Retry(after)
                        break
                    if after > 0.0:
                        wait = await Sleep(waiting, f"{operation.bus.run}-{call}", after, path.ended, record)
                    else:
                        await yield_once()
                    if wait is not None or operation.observed.is_on:
                        attempt = path.ended(record) if wait is None else wait.attempt
                        answered = Retry(after)
                        break
                    lag, is_waiting = max(clock() - (at + after), lag), False
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
            if observers is not None:
                path.conclude((recovered, call, number, at, began, lag))
            return result
        finally:
            del error  # its traceback holds this frame

    ROLES[recover.__code__] = "compiled"
    return recover
