"""The compiled failure path: a plain call that fails and is tried again, in the fewest instructions.

What a failure costs is the number of distinct instructions that it touches. The general path (``Attempt.fail`` and the
runner) is the specification. This path decides one thing alone: "try again after so many seconds", where class and text
of the error tell what it means, retries are left, and the circuit has no state. Events are built for subscribers that
are not built in; the journal gets one record of a failure and one of a recovery. Whatever is unusual goes over to the
general path in mid-call, and stays there.

Both paths make the same attempts, waits, counters and journal rows: ``tests/properties/test_compiled_law.py``.
"""

# What a failure needs is bound once ``is_usual`` holds, and the result where no attempt is handed over:
# pyright: reportPossiblyUnboundVariable=false, reportOptionalMemberAccess=false

from __future__ import annotations

import math
from sys import modules
from typing import Any

from events.operation_events import LONG_WAIT
from events.runner_api import answer
from events.verdicts import GiveUp, Retry
from recovery.call_stack import ROLES
from recovery.execution.failure_path import FailurePath
from recovery.execution.hooks import refuse_awaitable
from recovery.execution.invocation import Args, Kwargs, may_be_used_up
from recovery.execution.plan import LOGGER, ROOT, Planner, call_id
from recovery.execution.runner import Failed, Runner
from recovery.waiting.sleep import Sleep, may_sleep
from recovery.waiting.waiters import yield_once, yield_to_asyncio

UNDER_WAY, DONE, OVER = range(3)
"""Stages of a call: its function has returned; its end is told."""


def compiled(runner: Runner, planner: Planner, *, awaits: bool) -> Failed:
    """The failure path of the function of *runner*, which is async if it *awaits*."""
    path = FailurePath(runner, planner)
    return _in_task(path) if awaits else _in_thread(path)


# The two loops are the same but for ``await``, and the yield before a retry without delay. Each is one function: what
# is usual calls no other one of ours.


def _in_thread(path: FailurePath) -> Failed:
    operation, recovered, run, barrier = path.operation, path.recovered, path.runner.run, path.runner.barrier
    function, circuits, draw = path.runner.original, path.planner.circuits, path.planner.rng
    operation_key, bus = path.key, operation.bus
    new_number = bus.call_numbers.__next__

    known: type = type(None)  # of results that are not awaitable, the latest

    def recover(error: Exception, args: Args, kwargs: Kwargs) -> Any:
        nonlocal known
        route: Any  # a Route, once the failure is usual
        call: Any  # its number; its id where it is observed
        number, record, attempt, answered = 1, None, None, None
        stage = UNDER_WAY
        try:
            while True:  # each turn is a failure
                generation, level, routes, lane, clock, observers, _, _ = plan = path.plan
                records = lane.records
                try:
                    is_usual = (
                        (route := routes.get(type(error))) is not None
                        and generation == operation.generation + bus.generation
                        and len(records) < lane.limit
                        and operation_key not in circuits
                        and (
                            ((text := error.args) and text in route.known and type(text[0]) is str)
                            or route.admits(text)
                        )
                        and len(error.__reduce__()) == 2  # no attributes; to ask for __dict__ would make it
                        and error.__cause__ is None
                        and not (route.has_errno and error.errno is not None)  # type: ignore[attr-defined]
                        and (LOGGER.level or ROOT.level) == level
                    )
                    least, spread = route.delays[number]  # IndexError: no retry is left
                except Exception:  # or a class that raises when it is looked up; or there is no route
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
                    record = (route, call, number, at, began, waited, text, 0.0)
                    found = path.observed(plan, observers, error, record)
                    if len(found) == 3:
                        attempt, answered = found[0], answer(*found)
                        break
                    record, after = found, found[7]
                else:
                    after = least + spread * draw()
                    record = (route, call, number, at, began, waited, text, after)
                    records.append(record)
                if after > 0.0 or args or kwargs or operation.observed.is_on:
                    if after >= LONG_WAIT and observers is None:
                        path.tell_long(plan, record)
                    if after > 0.0 or operation.observed.is_on or (number == 1 and may_be_used_up(args, kwargs)):
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
            if attempt is not None:
                if isinstance(answered, GiveUp):
                    raise path.gave_up(attempt, answered, error, args, kwargs)
                return run(attempt, args, kwargs, error, path.hand_over(attempt, answered))
            stage = DONE
            if (
                operation.observed.is_on
                or generation != operation.generation + bus.generation
                or len(records) >= lane.limit
            ):
                attempt = path.next(record)
                try:
                    if barrier.must_wait:
                        barrier.wait_for_admission(math.inf)
                finally:
                    attempt.succeed()
                return result
            at, stage = clock(), OVER
            records.append((recovered, call, number, at, began, 0.0))
            operation.successes += 1
            if observers is not None and observers.recovered:
                path.recover(observers.recovered, call, number, at, at - began, 0.0)
            return result
        except BaseException:
            if stage != OVER:
                path.interrupted(attempt, record, number, is_done=stage == DONE)
            raise
        finally:
            del error  # its traceback holds this frame

    ROLES[recover.__code__] = "compiled"
    return recover


def _in_task(path: FailurePath) -> Failed:
    operation, recovered, run, barrier = path.operation, path.recovered, path.runner.arun, path.runner.barrier
    function, circuits, draw = path.runner.original, path.planner.circuits, path.planner.rng
    operation_key, bus = path.key, operation.bus
    new_number = bus.call_numbers.__next__
    waiting = path.runner.waiting

    async def recover(error: Exception, args: Args, kwargs: Kwargs) -> Any:
        route: Any  # a Route, once the failure is usual
        call: Any  # its number; its id where it is observed
        number, record, attempt, answered, wait = 1, None, None, None, None
        lag, has_room, stage = 0.0, False, UNDER_WAY
        try:
            while True:  # each turn is a failure
                generation, level, routes, lane, clock, observers, _, _ = plan = path.plan
                records = lane.records
                try:
                    is_usual = (
                        (route := routes.get(type(error))) is not None
                        and generation == operation.generation + bus.generation
                        and operation_key not in circuits
                        and (
                            ((text := error.args) and text in route.known and type(text[0]) is str)
                            or route.admits(text)
                        )
                        and len(error.__reduce__()) == 2  # no attributes; to ask for __dict__ would make it
                        and error.__cause__ is None
                        and not (route.has_errno and error.errno is not None)  # type: ignore[attr-defined]
                        and (LOGGER.level or ROOT.level) == level
                    )
                    least, spread = route.delays[number]  # IndexError: no retry is left
                except Exception:  # or a class that raises when it is looked up; or there is no route
                    is_usual = False
                if not is_usual:
                    if path.prepare(error):
                        continue
                    attempt = path.next(record)
                    break
                if len(records) >= lane.limit and not has_room:
                    has_room = barrier.must_wait and await barrier.await_admission(math.inf)
                    if has_room:  # what is usual may have changed
                        continue
                    attempt = path.next(record)
                    break
                at = clock()
                if record is None:
                    call, began, waited = new_number() if observers is None else bus.new_call_id(), at, 0.0
                else:
                    waited = record[7]
                if observers is not None:
                    record = (route, call, number, at, began, waited, text, 0.0)
                    found = path.observed(plan, observers, error, record)
                    if len(found) == 3:
                        attempt, answered = found[0], answer(*found)
                        break
                    record, after = found, found[7]
                else:
                    after = least + spread * draw()
                    record = (route, call, number, at, began, waited, text, after)
                    records.append(record)
                if after > 0.0 or args or kwargs:
                    if after >= LONG_WAIT and observers is None:
                        path.tell_long(plan, record)
                    if (number == 1 and may_be_used_up(args, kwargs)) or (after > 0.0 and not may_sleep()):
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
                late, has_room = clock() - (at + after), False
                if late > lag:
                    lag = late
                number += 1
                try:
                    result = await function(*args, **kwargs)
                    break
                except Exception as raised:  # the next turn decides
                    error = raised
            if attempt is not None:
                attempt.call.lag = lag
                if isinstance(answered, GiveUp):
                    raise path.gave_up(attempt, answered, error, args, kwargs)
                if answered is not None and answered.after <= 0.0:
                    await yield_once()
                return await run(attempt, args, kwargs, error, path.hand_over(attempt, answered, wait))
            stage = DONE
            if (
                operation.observed.is_on
                or generation != operation.generation + bus.generation
                or len(records) >= lane.limit
            ):
                attempt = path.next(record)
                attempt.call.lag = lag
                try:
                    has_room = barrier.must_wait and await barrier.await_admission(math.inf)
                    if (
                        has_room
                        and not operation.observed.is_on
                        and generation == operation.generation + bus.generation
                    ):
                        attempt = None
                finally:
                    if attempt is not None:
                        attempt.succeed()
                if attempt is not None:
                    return result
            at, stage = clock(), OVER
            records.append((recovered, call, number, at, began, lag))
            operation.successes += 1
            if observers is not None and observers.recovered:
                path.recover(observers.recovered, call, number, at, at - began, lag)
            return result
        except BaseException:
            if stage != OVER:
                path.interrupted(attempt, record, number, is_done=stage == DONE)
            raise
        finally:
            del error  # its traceback holds this frame

    ROLES[recover.__code__] = "compiled"
    return recover
