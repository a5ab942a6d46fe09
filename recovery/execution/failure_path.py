"""What the compiled failure path does when something is unusual, or observed: its hand-overs to the general path.

Subscribers that are not built in get the same events as from the general path, in the same order. When one answers or
raises, the general path decides: it publishes the event once more, to all subscribers. Those that were called already
are not called again: in their place stand functions that do what they did. The general path also decides when one of
them changes which subscribers get the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.call import Call
from events.callables import name_of
from events.event import Event
from events.operation import Operation
from events.operation_events import LONG_WAIT, FailureClassified, OperationFailed, OperationRecovered, RetryScheduled
from events.ready import Ready
from events.runner_api import begun, failed
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.execution.attempts import noted
from recovery.execution.invocation import Args, Kwargs
from recovery.execution.plan import INFO, NO_PLAN, Observers, Plan, Planner, call_id, log_level
from recovery.execution.runner import Runner
from recovery.joining.run import HandedOver
from recovery.waiting.wait import Wait

Record: TypeAlias = Any
"""The record of the latest failure (``Route``), or ``None`` before the first."""


class Recovered:
    """Makes the event of a record ``(recovered, call, attempt, at, began, lag)``: a call succeeds after a failure."""

    __slots__ = ("operation",)

    weight = 1
    """How many events a record stands for."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def events(self, record: Any) -> tuple[Event, ...]:
        """The event that *record* stands for."""
        _, call, attempt, at, began, lag = record
        operation = self.operation
        recovered = OperationRecovered(
            at=at,
            operation=operation.name,
            call=call_id(operation.bus, call),
            attempt=attempt,
            elapsed=at - began,
            lag=lag,
        )
        return (recovered,)


class FailurePath:
    """The plan of one function, and what its calls do when something is unusual.

    Args:
        runner: The general path.
        planner: Makes the plan.
    """

    __slots__ = ("key", "operation", "plan", "planner", "recovered", "runner")

    def __init__(self, runner: Runner, planner: Planner) -> None:
        self.runner, self.planner = runner, planner
        self.operation = operation = runner.definition.operation
        self.key = operation.name, operation.key
        self.recovered = Recovered(self.operation)
        self.plan = NO_PLAN

    def prepare(self, error: Exception) -> bool:
        """Renew the plan, or learn what *error* means. Returns whether to look at the failure again."""
        plan, config = self.plan, self.runner.config
        if plan.generation != self.operation.generation + self.operation.bus.generation or plan.level != log_level():
            self.plan = self.planner.plan(self.operation, config)
            return True
        return self.planner.learn(plan, error, self.operation, config)

    # the attempts that the general path goes on with

    def next(self, record: Record) -> Attempt:
        """The attempt after that of *record*, which has begun; the first one if there is none."""
        operation, bus = self.operation, self.operation.bus
        if record is None:
            return begun(Call(operation, bus.new_call_id()), 1, 0.0)
        route, number, attempt, at, began, _, _, after = record
        call = Call(operation, call_id(bus, number), began, attempt, failure=route.classified(record), has_failed=True)
        following = begun(call, attempt + 1, after)
        following.began = at + after
        return following

    def ended(self, record: Record, *, is_decided: bool = True) -> Attempt:
        """The attempt of *record*, which has failed, and is to be made again if that *is_decided*."""
        route, number, attempt, at, began, waited, _, after = record
        operation = self.operation
        call = Call(operation, call_id(operation.bus, number), began, attempt - 1, failure=route.classified(record))
        call.due = at + after if is_decided else None
        return failed(call, attempt, waited, Retry(after))

    def hand_over(self, attempt: Attempt, verdict: Verdict | None, wait: Wait | None = None) -> HandedOver | None:
        """Where the general path goes on after *verdict* on *attempt*, in *wait* if that has begun.

        Without a verdict it decides itself.
        """
        if verdict is None:
            return None
        if wait is None and not isinstance(verdict, GiveUp) and (isinstance(verdict, Park) or verdict.after > 0.0):
            wait = Wait(self.runner.waiting.conditions, attempt, attempt.number + 1, verdict)
        return HandedOver(verdict, wait)

    def gave_up(self, attempt: Attempt, verdict: GiveUp, error: Exception, args: Args, kwargs: Kwargs) -> Exception:
        """What the caller gets where *verdict* ends the call."""
        runner = self.runner
        return noted(error, attempt.call, attempt.number, verdict, runner.original, args, kwargs, runner.config)

    def interrupted(self, attempt: Attempt | None, record: Record, number: int, *, is_done: bool) -> None:
        """End a call, unless that has ended: it *is_done*, or cancelled in *attempt*, or in attempt *number*."""
        has_failed = record is not None and record[2] == number
        attempt = attempt or (self.ended(record) if has_failed else self.next(record))
        if is_done and not attempt.is_ended:
            attempt.succeed()
        attempt.cancel()

    # subscribers that are not built in

    def observed(self, plan: Plan, observers: Observers, error: Exception, record: Record) -> Any:
        """Tell them of the failure of *record*, and decide when it is retried: the record with that.

        If one of them answers, or changes what the failure depends on, the general path decides. Then what it goes on
        with: the attempt, the event that is to be published once more, and its subscribers.
        """
        of_failed, of_classified, of_scheduled, _ = observers
        operation = self.operation
        route, call, number, at, began, waited, text, _ = record
        if of_failed:
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
            if (told := _tell(failed, of_failed)) is not None:
                return self._unanswered(plan, record, failed, told)
            if plan[0] != operation.generation + operation.bus.generation or self.key in self.planner.circuits:
                is_muted = operation.bus.signal(FailureClassified).is_muted
                ready = operation.bus.subscribers(FailureClassified, operation.name, details=plan.level <= INFO)
                return self.ended(record, is_decided=False), route.classified(record), () if is_muted else ready
        is_new = False
        if of_classified:
            classified = route.classified(record)
            if (told := _tell(classified, of_classified)) is not None:
                return self._unanswered(plan, record, classified, told)
            is_new = plan.generation != operation.generation + operation.bus.generation
        least, spread = route.listed[number]
        after = least + spread * self.planner.rng()
        record = (route, call, number, at, began, waited, text, after)
        plan.lane.append(record)  # its subscribers may have taken any time
        if is_new:
            self._tell_new(plan, record)
        elif after >= LONG_WAIT:
            self.tell_long(plan, record)
        elif of_scheduled:
            scheduled = route.scheduled(record)
            if (told := _tell(scheduled, of_scheduled)) is not None:
                operation.bus.cascade(scheduled, to=told)
        return record

    def _unanswered(
        self, plan: Plan, record: Record, event: OperationFailed | FailureClassified, told: Ready
    ) -> tuple[Attempt, OperationFailed | FailureClassified, Ready]:
        own = self.planner.own()
        every = self.operation.bus.subscribers(type(event), event.operation, details=plan.level <= INFO)
        ready = [*told, *(one for one in every if one[1] in own)]
        ready.sort(key=lambda one: one[1].number if one[1] else 0)  # as they subscribed
        return self.ended(record, is_decided=False), event, tuple(ready)

    def _tell_new(self, plan: Plan, record: Record) -> None:
        """Tell those of the retry of *record* that subscribe to it now."""
        bus, name, is_detail = self.operation.bus, self.operation.name, record[7] < LONG_WAIT
        every = bus.subscribers(RetryScheduled, name, details=plan.level <= INFO or not is_detail)
        own = self.planner.own()
        others = tuple(one for one in every if one[1] not in own)
        if others and not bus.signal(RetryScheduled).is_muted:
            bus.cascade(record[0].scheduled(record), is_detail=is_detail, to=others)

    def tell_long(self, plan: Plan, record: Record) -> None:
        """Tell them, and the log, of the retry of *record* after a long wait."""
        scheduled = record[0].scheduled(record) if plan.long else None
        if scheduled is not None and (told := _tell(scheduled, plan.long)) is not None:
            self.operation.bus.cascade(scheduled, is_detail=False, to=told)

    def recover(self, to: Ready, call: str, number: int, at: float, elapsed: float, lag: float) -> None:
        """Tell them that attempt *number* has recovered the call."""
        recovered = OperationRecovered(
            at=at, operation=self.operation.name, call=call, attempt=number, elapsed=elapsed, lag=lag
        )
        if (told := _tell(recovered, to)) is not None:
            self.operation.bus.cascade(recovered, to=told)


def _tell(event: Event, to: Ready) -> Ready | None:
    """Call subscribers until one answers or raises. Returns ``None`` if none does, else *to* for the general path.

    In it, functions that repeat what was answered or raised stand for the subscribers that were called.
    """
    subscription: Any  # never None: with a receiver of blinker's own no plan is usual
    for function, subscription in to:
        try:
            given = function(event)
            if given is None:
                if subscription.trouble is not None:
                    subscription.trouble.failures = 0
                continue
            said, raised = [given], []
        except BaseException as error:  # as the bus, where it is called again
            said, raised = [], [error]
        number = [one for _, one in to].index(subscription)
        return (*_silent(to[:number]), (_again(function, said, raised), subscription), *to[number + 1 :])
    return None


def _silent(to: Ready) -> Ready:
    """*to*, where each says nothing more."""
    return tuple((_say_nothing, one) for _, one in to)


def _say_nothing(_: Event) -> None:
    """What a subscriber does again that has not answered."""


def _again(function: Callable[[Event], object], said: list[object], raised: list[BaseException]) -> Callable[..., Any]:
    """A subscriber of the name of *function* that does, once, what that has done: say or raise the one item."""

    def again(_: Event) -> object:
        if raised:
            raise raised.pop()  # its traceback holds this frame, which holds it no more
        return said.pop()

    again.__qualname__ = name_of(function)  # the log tells it
    return again
