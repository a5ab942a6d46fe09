"""What the compiled failure path does when something is unusual, or observed: its hand-overs to the general path.

Subscribers that are not built in get the same events as from the general path, in the same order. One that answers with
more than ``None``, or raises, is heard by the general path: it publishes the event once more, to all subscribers, where
those that were called do again what they did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from events.attempt import Attempt
from events.call import Call
from events.event import Event
from events.operation_events import LONG_WAIT, FailureClassified, OperationFailed, OperationRecovered
from events.ready import Ready
from events.runner_api import answer, begun, failed
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.execution.attempts import noted
from recovery.execution.invocation import Args, Kwargs
from recovery.execution.plan import NO_PLAN, Plan, Planner, Recovered, Route, call_id, wants_details
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

    def hand_over(self, attempt: Attempt, verdict: Verdict, wait: Wait | None = None) -> HandedOver:
        """Where the general path goes on after *verdict* on *attempt*, in *wait* if that has begun."""
        if wait is None and not isinstance(verdict, GiveUp) and (isinstance(verdict, Park) or verdict.after > 0.0):
            wait = Wait(self.runner.waiting.conditions, attempt, attempt.number + 1, verdict)
        return HandedOver(verdict, wait)

    def gave_up(self, attempt: Attempt, verdict: GiveUp, error: Exception, args: Args, kwargs: Kwargs) -> Exception:
        """What the caller gets where *verdict* ends the call."""
        runner = self.runner
        return noted(error, attempt.call, attempt.number, verdict, runner.original, args, kwargs, runner.config)

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
        plan.lane.append(record)  # its subscribers may have taken any time
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
