"""One wait of one call: how many seconds to sleep next, and what ends the wait.

The steps neither sleep nor await: the runner (``recovery.execution.runner``) takes them in threads and in tasks.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from events.attempt import Attempt
from events.conditions import Condition
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry
from recovery.operations import OperationKey
from recovery.policies.incidents import open_circuit
from recovery.policies.retry import RetryPolicy
from recovery.settings import OperationConfig
from recovery.waiting.description import WaitingCall
from recovery.waiting.polling import Conditions, WatchedCondition
from recovery.waiting.waiters import Waiter

WaitCommand: TypeAlias = Literal["retry now", "pause", "unpause", "give up", "cancel", "reset", "edit"]


class Wait(msgspec.Struct, eq=False):
    """One wait of one call: for a delay, then until all conditions of its verdict hold at one time.

    Args:
        conditions: Polls the conditions; its lock guards this wait.
        attempt: The attempt that failed, or that may not begin yet.
        number: The number of the attempt that the call waits for.
        verdict: How long to wait and what for.
        since: For an attempt that is deferred: ``WaitingCalls.wakes`` as it was before the attempt asked to begin.
        policy: The policy of the call, for what it waits for with others; ``None`` if it waits alone.
    """

    conditions: Conditions
    attempt: Attempt
    number: int
    verdict: Retry | Park
    since: int | None = None
    policy: RetryPolicy | None = None
    deadline: float = math.inf
    waiter: Waiter | None = None
    watched: WatchedCondition | None = None
    was_unmet: bool = False
    """Whether a poll found one of the conditions unmet."""
    ended: GiveUp | None = None
    """Why the attempt will never begin, once the wait is over; ``None``: it may begin."""
    due: float = 0.0
    left: float | None = None
    """What is left of the delay while it is paused."""
    pending: tuple[Condition, ...] = ()
    """The conditions that have not been met."""
    wakes_at: float = math.inf
    """When the sleep ends that was chosen, unless it is woken."""
    phase: Literal["delay", "poll", "deadline", "over"] = "delay"
    """What ends the sleep that was chosen; "over": the wait itself has ended."""

    def __post_init__(self) -> None:
        now = self.conditions.clock()
        if self.verdict.within < math.inf:
            self.deadline = now + self.verdict.within
        self.due = now + self.verdict.after
        if isinstance(self.verdict, Park):
            self.pending = self.until

    @property
    def operation_key(self) -> OperationKey:
        """The name of the operation, and its key."""
        operation = self.attempt.call.operation
        return operation.name, operation.key

    @property
    def until(self) -> tuple[Condition, ...]:
        """The conditions of its verdict."""
        until = self.verdict.until if isinstance(self.verdict, Park) else ()
        return tuple(cause for cause in until if isinstance(cause, Condition))

    @property
    def causes(self) -> tuple[str, ...]:
        """What it waits for besides its delay, as texts."""
        return tuple(map(str, self.verdict.until)) if isinstance(self.verdict, Park) else ()

    @property
    def is_over(self) -> bool:
        """Whether it takes no command any more."""
        return self.phase == "over"

    @property
    def is_paused(self) -> bool:
        """Whether its delay stands still."""
        return self.left is not None

    @property
    def is_deferred(self) -> bool:
        """Whether the attempt asks again afterwards, because a subscriber did not let it begin."""
        return self.since is not None

    @property
    def counts_as_retry(self) -> bool:
        """Whether the attempt after this wait uses up a retry by its verdict."""
        is_retry = isinstance(self.verdict, Retry) or self.verdict.counts_as_retry
        return is_retry and (self.is_deferred or self.attempt.call.charge > 0)

    @property
    def counts_sleep(self) -> bool:
        """Whether the time counts that the machine sleeps: in a park, and in a wait that a server asked for.

        The break of a circuit is a delay of our own.
        """
        if open_circuit(*self.operation_key) in self.causes or self.attempt.call.asks_person:
            return False
        failure = self.attempt.call.failure if self.number > self.attempt.number else None
        return isinstance(self.verdict, Park) or (failure is not None and bool(failure.retry_after))

    @property
    def asked(self) -> float:
        """Seconds that are left of the time for which a server asked, in the failure that it follows."""
        failure = self.attempt.call.failure
        return 0.0 if failure is None else max(failure.at + (failure.retry_after or 0.0) - self.conditions.clock(), 0.0)

    @property
    def was_unhelpful(self) -> bool:
        """Whether every condition held whenever it was polled: then none of them was the cause of the failure."""
        return not (self.pending or self.was_unmet) and bool(self.until)

    def next_sleep(self, waiter: Waiter) -> float | None:
        """Seconds to sleep now; ``None`` if the wait is over: from then on it takes no command.

        *waiter* must be a new one: any change after the sleep was chosen wakes it. If nothing does, call ``slept``
        afterwards, then this again.
        """
        self.waiter = waiter
        conditions = self.conditions
        while True:
            with conditions.lock:
                if self.phase == "over":
                    return None
                now = conditions.clock()
                left = self.deadline - now
                is_paused = self.left is not None
                delay = 0.0 if is_paused else self.due - now
                if not (is_paused or delay > 0.0 or self.pending):
                    self.phase = "over"
                    return None
                if left <= 0.0 or delay > left:
                    self.ended = GiveUp(OUT_OF_TIME)
                    self.phase = "over"
                    return None
                if is_paused or delay > 0.0:
                    conditions.unwatch(self)  # another wait must poll meanwhile
                    self.phase = "deadline" if is_paused else "delay"
                    return self._sleep(now, self.deadline if is_paused else self.due)
                condition = self.pending[0]
                poll_at = conditions.watch(self, condition)
                self.phase = "poll" if now < poll_at < self.deadline else "deadline"
                if poll_at > now:
                    return self._sleep(now, min(poll_at, self.deadline))
                self.wakes_at = self.deadline  # unless the answer wakes it
            if conditions.poll(condition):
                return left

    def _sleep(self, now: float, until: float) -> float:
        """Seconds to sleep *until* then, or until it is time to look at the clocks."""
        look_at = now + self.conditions.until_look(self) if self.counts_sleep else math.inf
        self.wakes_at = min(until, look_at)
        return self.wakes_at - now

    def slept(self) -> None:
        """Note that the whole sleep has passed, although the clock may say otherwise."""
        self.conditions.jumps.look(self.wakes_at)
        with self.conditions.lock:
            now, woke_at = self.conditions.clock(), self.wakes_at
            match self.phase:  # a jump of the clock may have moved what it slept for
                case "delay" if self.due <= woke_at:
                    self.due = min(self.due, now)
                case "poll" if self.watched is not None and self.watched.poll_at <= woke_at:
                    self.watched.poll_at = min(self.watched.poll_at, now)
                case "deadline" if self.deadline <= woke_at:
                    self.deadline = min(self.deadline, now)

    def wake(self) -> None:
        """End the sleep, so that the wait looks at what has changed."""
        if self.waiter is not None:
            self.waiter.wake()

    # The caller of what follows holds the lock.

    def steer(self, command: WaitCommand, reason: str, edited: OperationConfig | None = None) -> bool:
        """Carry out *command*; returns whether that changed anything. *edited* is how the call decides after "edit"."""
        now, call = self.conditions.clock(), self.attempt.call
        match command:
            case _ if self.phase == "over":
                return False
            case "pause" if self.left is None:
                self.left = max(self.due - now, 0.0)
                self.pending = self.until  # a condition that holds now may not hold later
            case "unpause" if self.left is not None:
                self.due = now + self.left
                self.left = None
                self._move_due(self.due)
            case "retry now":
                self._move_due(now)
                self._answer(now)
                self.phase, self.pending = "over", self.until  # its conditions had no say: none was unhelpful
            case "give up":
                self.ended = GiveUp(f"given up by hand: {reason}" if reason else "given up by hand")
                self.phase = "over"
            case "cancel":
                call.cancelled, self.phase = reason, "over"
                self.ended = GiveUp(f"cancelled by hand: {reason}" if reason else "cancelled by hand")
            case "reset":
                before = self._limit(now)
                call.begin_again(now)
                self._move_deadline(before, now)
            case "edit" if edited is not None:
                before = self._limit(now)
                call.edited, self.policy = edited, edited.policy
                self._move_deadline(before, now)
            case _:
                return False
        return True

    def _limit(self, now: float) -> float:
        """When the policy ends the call."""
        most, call = None if self.policy is None else self.policy.max_elapsed, self.attempt.call
        return math.inf if most is None or call.began is None else now + most - call.elapsed(now)

    def _move_deadline(self, before: float, now: float) -> None:
        """Let the wait last as long as the policy allows now; its end was *before*, or what else limits the wait.

        A call that asks has all the time.
        """
        limit = self._limit(now)
        if not self.attempt.call.asks_person:
            self.deadline = limit if self.deadline > before - 1e-6 else min(self.deadline, limit)

    def _move_due(self, due: float) -> None:
        """Have the retry expected at *due*: a person's pause is no lag."""
        call = self.attempt.call
        if call.due is not None:
            call.due = due

    def _answer(self, now: float) -> None:
        """A person lets a call go on that has asked for it: the time it may take begins again."""
        call = self.attempt.call
        if call.asks_person:
            call.asks_person, call.began = False, now

    def postpone(self, until: float) -> None:
        """Go on at *until* at the earliest."""
        self.due = max(self.due, until)
        self._move_due(self.due)

    def hold_until(self, due: float) -> None:
        """Have it end at *due*, or at its deadline. One that is paused or over stays as it is."""
        if not (self.is_paused or self.is_over):
            before, self.due = self.due, min(due, self.deadline)
            if self.due < before or self.pending:  # a delay that became longer is looked at when it ends
                self.wake()

    def give_up(self, ended: GiveUp) -> None:
        """End it, and its call, for the reason *ended*."""
        self.ended, self.phase = ended, "over"
        self.wake()

    def release(self, extra: float) -> None:
        """End the wait in *extra* seconds: what deferred the attempt has changed."""
        self.pending = ()
        self._resume_at(min(self.due, self.conditions.clock() + extra))

    def met(self, condition: Condition, *, was_unmet: bool, extra: float) -> None:
        """Go on to the next condition in *extra* seconds: *condition* holds."""
        if was_unmet:
            self.was_unmet = True
            self.pending = self.until  # all must hold at one time: poll the others again
        self.pending = tuple(other for other in self.pending if other != condition)
        now = self.conditions.clock()
        self._resume_at(min(now + extra, max(now, self.deadline)))

    def _resume_at(self, due: float) -> None:
        if self.left is None:
            self.due = due
        else:
            self.left = min(self.left, due - self.conditions.clock())
        self.wake()

    def describe(self, former: WaitingCall | None = None) -> WaitingCall:
        """What to show of this wait; *former* if that was it, and nothing but the time has passed."""
        call = self.attempt.call
        if former is not None and self.left is None and former.failure is call.failure:
            stands = self.due, self.deadline, self.number, call.asks_person
            if stands == (former.due, former.deadline, former.attempt, former.asks_person):
                return former
        (operation, key), now = self.operation_key, self.conditions.clock()
        is_next = self.number > self.attempt.number
        return WaitingCall(
            call=call.id,
            operation=operation,
            key=key,
            attempt=self.number,
            retries=call.retries + (is_next and self.counts_as_retry),
            left=max(self.due - now, 0.0) if self.left is None else self.left,
            within=max(self.deadline - now, 0.0),
            due=self.due if self.left is None else math.inf,
            deadline=self.deadline,
            until=self.causes,
            is_paused=self.is_paused,
            asks_person=call.asks_person,
            failure=call.failure,
            idempotency_key=call.idempotency_key,
            arguments=call.arguments,
        )
