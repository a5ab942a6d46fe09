"""What the compiled failure path does when something is unusual, or observed: its hand-overs to the general path.

Subscribers that are not built in get the same events as from the general path, in the same order. One that answers with
more than ``None``, or raises, is heard by the general path: it publishes the event once more, to all subscribers, where
those that were called do again what they did. So does one that changes who hears the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.call import Call
from events.callables import name_of
from events.event import Event
from events.operation_events import LONG_WAIT, FailureClassified, OperationFailed, OperationRecovered, RetryScheduled
from events.ready import Ready
from events.runner_api import begun, failed
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.execution.attempts import noted
from recovery.execution.invocation import Args, Kwargs
from recovery.execution.plan import INFO, NO_PLAN, Plan, Planner, Recovered, call_id, log_level
from recovery.execution.runner import Runner
from recovery.joining.run import HandedOver
from recovery.waiting.wait import Wait

Record: TypeAlias = Any
"""The record of the latest failure (``Route``), or ``None`` before the first."""


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

    def hand_over(self, attempt: Attempt, verdict: Verdict, wait: Wait | None = None) -> HandedOver:
        """Where the general path goes on after *verdict* on *attempt*, in *wait* if that has begun."""
        if wait is None and not isinstance(verdict, GiveUp) and (isinstance(verdict, Park) or verdict.after > 0.0):
            wait = Wait(self.runner.waiting.conditions, attempt, attempt.number + 1, verdict)
        return HandedOver(verdict, wait)

    def gave_up(self, attempt: Attempt, verdict: GiveUp, error: Exception, args: Args, kwargs: Kwargs) -> Exception:
        """What the caller gets where *verdict* ends the call."""
        runner = self.runner
        return noted(error, attempt.call, attempt.number, verdict, runner.original, args, kwargs, runner.config)

    def interrupted(self, attempt: Attempt | None, record: Record, *, has_failed: bool, is_done: bool) -> None:
        """End a call, unless that has ended: it *is_done*, or cancelled in *attempt*, or where *record* tells."""
        attempt = attempt or (self.ended(record) if has_failed else self.next(record))
        if is_done and not attempt.is_ended:
            attempt.succeed()
        attempt.cancel()

    # subscribers that are not built in

    def observed(self, plan: Plan, error: Exception, record: Record) -> Any:
        """Tell them of the failure of *record*, and decide when it is retried: the record with that.

        If one of them answers, or changes what the failure depends on, the general path decides. Then what it goes on
        with: the attempt, the event that is to be published once more, and its subscribers.
        """
        observers, operation = plan.observers, self.operation
        route, call, number, at, began, waited, text, _ = record
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
                return self._unanswered(plan, record, failed, told)
            if self._has_changed(plan) or (operation.name, operation.key) in self.planner.circuits:
                is_muted = operation.bus.signal(FailureClassified).is_muted
                ready = operation.bus.subscribers(FailureClassified, operation.name, details=plan.level <= INFO)
                return self.ended(record, is_decided=False), route.classified(record), () if is_muted else ready
        is_new = False
        if observers.classified:
            classified = route.classified(record)
            if (told := _tell(classified, observers.classified)) is not None:
                return self._unanswered(plan, record, classified, told)
            is_new = self._has_changed(plan)
        least, spread = route.delays[number]
        after = least + spread * self.planner.rng()
        record = (route, call, number, at, began, waited, text, after)
        plan.lane.records.append(record)
        if is_new:
            self._tell_new(plan, record)
        elif after >= LONG_WAIT:
            self.tell_long(plan, record)
        elif observers.scheduled:
            scheduled = route.scheduled(record)
            if (told := _tell(scheduled, observers.scheduled)) is not None:
                operation.bus.cascade(scheduled, to=told)
        return record

    def _has_changed(self, plan: Plan) -> bool:
        """Whether a subscriber that was told has changed which others are told, or a setting."""
        return plan.generation != self.operation.generation + self.operation.bus.generation

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
    """Call subscribers until one answers or raises; then *to*, where those that were called do the same again."""
    subscription: Any  # of blinker's own receivers there is none, and no plan
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
