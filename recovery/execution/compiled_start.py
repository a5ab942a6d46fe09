"""The compiled start: a plain call in journal mode that succeeds, in the fewest instructions.

After a wait of a millisecond the code is cold, and each further function costs a microsecond. Where the journal alone
hears of starts and successes, they are one record each in its lane. Whatever is unusual before the start takes the
general path from there; a failure, or a crowded journal at the end, goes over to it.

Both paths give the same results, counters and journal rows: ``tests/properties/test_compiled_start_law.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from events.attempt import Attempt
from events.call import Call
from events.event import Event
from events.operation_events import OperationStarted, OperationSucceeded
from recovery.context import current
from recovery.execution.attempts import begin_with
from recovery.execution.hooks import refuse_awaitable
from recovery.execution.invocation import Args, Kwargs
from recovery.execution.once import call_once
from recovery.execution.plan import NO_LANE, Planner

if TYPE_CHECKING:
    from events.operation import Operation
    from recovery.execution.runner import Runner
    from recovery.settings import OperationConfig


class Started:
    """Makes the events of records ``(started, call, at)``: calls, by id, whose first attempt has begun."""

    __slots__ = ("operation", "version")

    weight = 1
    """How many events a record stands for."""

    def __init__(self, operation: Operation, version: str) -> None:
        self.operation, self.version = operation, version

    def events(self, record: Any) -> tuple[Event, ...]:
        """The event that *record* stands for."""
        _, call, at = record
        return (OperationStarted(at=at, operation=self.operation.name, call=call, version=self.version),)


class Succeeded:
    """Makes the events of records ``(succeeded, call, at)``: calls, by id, whose first attempt has returned."""

    __slots__ = ("operation",)

    weight = 1
    """How many events a record stands for."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def events(self, record: Any) -> tuple[Event, ...]:
        """The event that *record* stands for."""
        _, call, at = record
        return (OperationSucceeded(at=at, operation=self.operation.name, call=call),)


def is_compiled(config: OperationConfig) -> bool:
    """Whether calls with that *config* may have a compiled start: they are journalled, and nothing else."""
    policy = config.policy
    unkept = (config.key, config.idempotency_key, config.remember, config.retry_if)
    limits = (policy.attempt_timeout, policy.stall_timeout, policy.max_elapsed)
    return config.durability == "journal" and not config.resumable and all(one is None for one in (*unkept, *limits))


class StartPath:
    """What the starts of one function depend on, and what its calls do when something is unusual.

    Args:
        runner: The general path.
        planner: Tells which lane takes the records.
    """

    __slots__ = ("_planner", "_started", "_succeeded", "plan", "runner")

    def __init__(self, runner: Runner, planner: Planner) -> None:
        self.runner, self._planner = runner, planner
        operation = runner.definition.operation
        self._started, self._succeeded = Started(operation, runner.config.version), Succeeded(operation)
        self.plan: tuple[Any, ...] = self._planned(-1, NO_LANE)
        """All that a call needs, unpacked at once: one look-up instead of a dozen, and nothing that a pickle refuses
        in a closure. The first item is the generation that it holds for."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its runner."""
        return attrgetter("start"), (self.runner,)

    def _planned(self, generation: int, lane: Any) -> tuple[Any, ...]:
        runner, operation = self.runner, self.runner.definition.operation
        bus, config = operation.bus, runner.config
        return (
            generation,
            operation,
            bus,
            lane,
            lane.records,
            bus.clock,
            bus.call_numbers.__next__,
            config.version,
            runner.original,
            current.set,
            current.reset,
            self._started,
            self._succeeded,
        )

    def begin(self, args: Args, kwargs: Kwargs) -> Attempt | None:
        """The first attempt of a call on the general path; ``None`` where the service is switched off.

        The plan is renewed for the next call if something has changed.
        """
        definition = self.runner.definition
        operation = definition.operation
        if self.plan[0] != operation.generation + operation.bus.generation:
            self.plan = self._planned(*self._planner.starts(operation))
        return begin_with(definition, self.runner.config, args, kwargs) if definition.switch.is_on else None

    def off(self, args: Args, kwargs: Kwargs) -> Any:
        """What the function returns while the service is switched off."""
        return call_once(self.runner.original, self.runner.config, args, kwargs)

    def end(self, attempt: Attempt) -> None:
        """End a call that has succeeded as the general path does: something is unusual now."""
        barrier = self.runner.barrier
        try:
            if barrier.must_wait:
                barrier.wait_for_admission(math.inf)
        finally:
            attempt.succeed()

    async def aend(self, attempt: Attempt) -> None:
        """As ``end``, in a task."""
        barrier = self.runner.barrier
        try:
            if barrier.must_wait:
                await barrier.await_admission(math.inf)
        finally:
            attempt.succeed()


def _cut_off(attempt: Attempt, stopped: BaseException, *, is_done: bool) -> None:
    """*stopped* ends a call: it is cancelled, unless its body has returned; an Exception is published already."""
    if not isinstance(stopped, Exception):
        if is_done and not attempt.call.is_over:
            attempt.succeed()  # it could not say so
        attempt.cancel()


# The two wrappers are the same but for ``await``, and the look at the result. A call that succeeds takes one function
# of ours. Between the marks of its end and the record of it no signal handler can run.


def in_thread(start: StartPath) -> Callable[..., Any]:
    """The wrapper around a plain function with a compiled start."""
    run = start.runner.run
    known: type = type(None)  # of results that are not awaitable, the latest

    def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        nonlocal known
        generation, operation, bus, lane, records, clock, number, version, function, enter, leave, begun, ended = (
            start.plan
        )
        if generation != operation.generation + bus.generation or len(records) >= lane.limit:
            general = start.begin(args, kwargs)
            return start.off(args, kwargs) if general is None else run(general, args, kwargs)
        at, error, is_done = clock(), None, False
        call = Call(operation, f"{bus.run}-{number()}", at, version=version)
        attempt = Attempt(call, 1, 0.0, True)
        try:
            records.append((begun, call.id, at))
            try:
                token = enter(attempt)
                try:
                    result = function(*args, **kwargs)
                    if type(result) is not known:
                        if hasattr(type(result), "__await__"):
                            refuse_awaitable(function, result)
                        known = type(result)
                finally:
                    leave(token)
            except Exception as raised:
                error = raised
            else:
                is_done = True
                if generation == operation.generation + bus.generation and len(records) < lane.limit:
                    at = clock()
                    attempt.is_ended = call.is_over = True
                    operation.successes += 1
                    records.append((ended, call.id, at))
                else:
                    start.end(attempt)
                return result
            return run(attempt, args, kwargs, error)
        except BaseException as stopped:
            _cut_off(attempt, stopped, is_done=is_done)
            raise
        finally:
            del error  # its traceback holds this frame

    return recoverable_call


def in_task(start: StartPath) -> Callable[..., Any]:
    """The wrapper around an async function with a compiled start."""
    run = start.runner.arun

    async def recoverable_call(*args: Any, **kwargs: Any) -> Any:
        generation, operation, bus, lane, records, clock, number, version, function, enter, leave, begun, ended = (
            start.plan
        )
        if generation != operation.generation + bus.generation or len(records) >= lane.limit:
            general = start.begin(args, kwargs)
            return await (start.off(args, kwargs) if general is None else run(general, args, kwargs))
        at, error, is_done = clock(), None, False
        call = Call(operation, f"{bus.run}-{number()}", at, version=version)
        attempt = Attempt(call, 1, 0.0, True)
        try:
            records.append((begun, call.id, at))
            try:
                token = enter(attempt)
                try:
                    result = await function(*args, **kwargs)
                finally:
                    leave(token)
            except Exception as raised:
                error = raised
            else:
                is_done = True
                if generation == operation.generation + bus.generation and len(records) < lane.limit:
                    at = clock()
                    attempt.is_ended = call.is_over = True
                    operation.successes += 1
                    records.append((ended, call.id, at))
                else:
                    await start.aend(attempt)
                return result
            return await run(attempt, args, kwargs, error)
        except BaseException as stopped:
            _cut_off(attempt, stopped, is_done=is_done)
            raise
        finally:
            del error  # its traceback holds this frame

    return recoverable_call
