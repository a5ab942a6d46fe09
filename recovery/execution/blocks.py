"""A block of code that recovers: ``for attempt in service.attempts("name"): with attempt: ...``.

The steps of a call are a generator that neither sleeps nor awaits; ``for`` takes them in a thread, ``async for`` in a
task. The block itself runs in the frame of its user, so nothing can surround it: what needs a wrapper is refused.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import FrameType, TracebackType
from typing import Literal, TypeAlias

import msgspec

from events.attempt import Attempt, next_attempt, request_start
from events.operation import Operation
from events.verdicts import GiveUp, Park, Retry
from recovery.call_stack import Block, calling_frame, innermost, running_block
from recovery.context import current
from recovery.execution.attempts import begin, cancelled, end_unstarted, noted
from recovery.journal.commit_barrier import CommitBarrier
from recovery.only_attempt import OnlyAttempt
from recovery.settings import OperationConfig
from recovery.waiting.asking import ask_instead
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.deferral import charge, defer
from recovery.waiting.live import LiveCall
from recovery.waiting.wait import Wait
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter, yield_once

Step: TypeAlias = "BlockAttempt | Wait | JournalWait | None"
"""What a loop does next: run a block, wait, wait for the journal, or (None) let other tasks run."""

END = object()
"""After the last step."""


class BlockAttempt:
    """One attempt of a block: ``with attempt:`` runs it. A failure that is retried does not leave the block.

    Args:
        attempt: The attempt, which has begun.
        context: What ``recovery.context`` asks in the block; ``None`` if it has no answer there.
        is_enabled: Whether failures are recovered from.
    """

    def __init__(
        self, attempt: Attempt, *, context: Attempt | OnlyAttempt | None = None, is_enabled: bool = True
    ) -> None:
        self._attempt = attempt
        self._context = context
        self._is_enabled = is_enabled
        self.outer: Block | None = None
        """The block around it."""
        self._outer_attempt: Attempt | OnlyAttempt | None = None
        self.state: Literal["new", "running", "succeeded", "failed", "cancelled"] = "new"
        """How far the block has come."""
        self.verdict: Retry | Park | None = None
        """What follows its failure, if there is a next attempt."""
        self.error: Exception | None = None
        """Its failure, if there is a next attempt."""
        self.frame: FrameType | None = None
        """Where it runs."""

    def __repr__(self) -> str:
        return f"<attempt {self.number} of {self._attempt.call.operation.name}: {self.state}>"

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        return self._attempt.number

    @property
    def call(self) -> str:
        """The id of the call, as events and the journal have it."""
        return self._attempt.call.id

    def __enter__(self) -> BlockAttempt:
        if self.state != "new":
            raise RuntimeError(f"{self!r} cannot run again; the loop gives the next attempt")
        self.state = "running"
        self.frame = calling_frame()
        self.outer, self._outer_attempt = running_block.get(), current.get(None)
        running_block.set(self)
        if self._context is not None:
            current.set(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leave()
        attempt, self.state = self._attempt, "succeeded"
        if not self._is_enabled or attempt.is_ended:  # by the loop, which was closed while the block ran
            return False
        if error is None:
            attempt.succeed()
            return False
        if not isinstance(error, Exception) or attempt.call.cancelled is not None:
            self.state = "cancelled"
            attempt.cancel()
            return False
        self.state, verdict = "failed", attempt.fail(error)
        if isinstance(verdict, GiveUp):
            noted(error, attempt.call, attempt.number, verdict)
            return False
        self.verdict, self.error = verdict, error
        return True

    def _leave(self) -> None:
        self.frame = None
        if running_block.get() is self:  # not where generators of the user's take turns
            running_block.set(innermost(self.outer))
        if self._context is not None and current.get(None) is self._context:
            outer = self._outer_attempt
            current.set(None if outer is None or outer.is_ended else outer)
        self._outer_attempt = None


class Attempts:
    """What ``Recovery.attempts`` returns: each ``for`` or ``async for`` over it is one call of its operation.

    Args:
        operation: The operation.
        config: Its config.
        waiting: Where the call waits.
        barrier: The call's waits for the journal.
        is_enabled: Whether a call that begins now recovers from failures; otherwise it has one attempt.
    """

    def __init__(
        self,
        operation: Operation,
        config: OperationConfig,
        waiting: WaitingCalls,
        barrier: CommitBarrier,
        *,
        is_enabled: Callable[[], bool],
    ) -> None:
        self.operation = operation
        self.config = config
        self._has_context = config.has_context
        self.waiting = waiting
        self.barrier = barrier
        self.is_enabled = is_enabled

    def __repr__(self) -> str:
        return f"<attempts of {self.operation.name}>"

    def steps(self) -> Generator[Step, None, None]:
        """The steps of one call. Closing them ends it as cancelled, unless it has ended."""
        attempt = begin(self.operation)
        if not self.is_enabled():
            yield BlockAttempt(attempt, context=OnlyAttempt() if self._has_context else None, is_enabled=False)
            return
        ended, error, call = None, None, attempt.call
        live, has_context = self.waiting.live, self._has_context
        try:
            while True:
                if has_context or call.has_failed:
                    live[call.id] = LiveCall(attempt, self.config)
                if call.cancelled is not None:
                    raise cancelled(attempt, None)
                policy = (call.edited or self.config).policy
                if (self.barrier.are_journalled or attempt.call.has_failed) and self.barrier.must_wait:
                    yield JournalWait("admission", self._time_left(attempt))
                since, deferred = self.waiting.wakes, ended or request_start(attempt)
                if ended and (wait := ask_instead(attempt, ended, policy, self.waiting.conditions)) is not None:
                    ended = None
                    yield wait
                    ended = wait.ended
                    continue
                if deferred is not None:
                    deferred = defer(attempt, deferred, self._time_left(attempt))
                    if isinstance(deferred, GiveUp):
                        raise end_unstarted(attempt, deferred, error, stays_pending=False)
                    yield (wait := Wait(self.waiting.conditions, attempt, attempt.number, deferred, since, policy))
                    ended = charge(wait, policy)
                    continue
                error = None
                yield (block := BlockAttempt(attempt, context=attempt if has_context else None))
                if block.state == "new":
                    raise RuntimeError(f"{block!r} was left out; the body of the loop is `with attempt:`")
                if block.verdict is None:
                    return
                verdict, error, live[call.id] = block.verdict, block.error, LiveCall(attempt, self.config)
                del block
                if verdict.after > 0.0 or isinstance(verdict, Park):
                    yield (wait := Wait(self.waiting.conditions, attempt, attempt.number + 1, verdict, policy=policy))
                    ended = charge(wait, policy)
                if verdict.after <= 0.0:
                    yield None
                if ended is None and self.barrier.are_journalled:
                    yield JournalWait("commit", self._time_left(attempt))
                attempt = next_attempt(attempt)
        finally:
            if call.id in live:
                self._forget(call.id)
            attempt.cancel()
            error = None  # its traceback holds the frame that holds these steps

    def _forget(self, call: str) -> None:
        self.waiting.live.pop(call, None)
        definition = self.operation.owner()
        if definition is not None:
            definition.call_configs.pop(call, None)

    def _time_left(self, attempt: Attempt) -> float:
        most, call = (attempt.call.edited or self.config).policy.max_elapsed, attempt.call
        return math.inf if most is None or call.began is None else most - call.elapsed(self.operation.bus.clock())

    def __iter__(self) -> Iterator[BlockAttempt]:
        return BlockLoop(self)

    def __aiter__(self) -> AsyncIterator[BlockAttempt]:
        return BlockLoop(self)


class JournalWait(msgspec.Struct, frozen=True):
    """A step: wait for the journal.

    Args:
        what: For admission, or for the commit of the next attempt's schedule.
        time_left: Seconds that the call has left.
    """

    what: Literal["admission", "commit"]
    time_left: float


class BlockLoop:
    """One call of a block. A loop that is left before a block has ended well ends the call as cancelled."""

    def __init__(self, attempts: Attempts) -> None:
        self._waiting = attempts.waiting
        self._barrier = attempts.barrier
        self._clock = attempts.operation.bus.clock
        self._steps = attempts.steps()  # it cancels the call when it is closed, or dropped with this loop

    def __iter__(self) -> BlockLoop:
        return self

    def __aiter__(self) -> BlockLoop:
        return self

    def __next__(self) -> BlockAttempt:
        """The next attempt, once it may begin. Blocks until then."""
        try:
            while not isinstance(step := next(self._steps), BlockAttempt):
                if isinstance(step, Wait):
                    self._waiting.enter(step)
                    try:
                        while (seconds := step.next_sleep(waiter := ThreadWaiter(self._clock))) is not None:
                            if not waiter.wait(seconds):
                                step.slept()
                    finally:
                        self._waiting.leave(step)
                elif isinstance(step, JournalWait):
                    wait = self._barrier.before_next if step.what == "commit" else self._barrier.wait_for_admission
                    wait(step.time_left)
            return step
        except BaseException:
            self._steps.close()
            raise

    def close(self) -> None:
        """End the call as cancelled, unless it has ended. Leaving the loop does it."""
        self._steps.close()

    async def aclose(self) -> None:
        """As ``close``."""
        self._steps.close()

    async def __anext__(self) -> BlockAttempt:
        """As ``next``, suspending the task."""
        try:
            while not isinstance(step := next(self._steps, END), BlockAttempt):
                if step is END:
                    raise StopAsyncIteration
                if isinstance(step, Wait):
                    self._waiting.enter(step)
                    try:
                        while (seconds := step.next_sleep(waiter := TaskWaiter())) is not None:
                            if not await waiter.wait(seconds):
                                step.slept()
                    finally:
                        self._waiting.leave(step)
                elif isinstance(step, JournalWait):
                    wait = self._barrier.abefore_next if step.what == "commit" else self._barrier.await_admission
                    await wait(step.time_left)
                else:
                    await yield_once()
            return step
        except BaseException:
            self._steps.close()
            raise
