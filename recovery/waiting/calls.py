"""The register of waiting calls: list them, steer them, and wake those that a subscriber deferred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from events.operation_events import CallSteered
from events.parts import Parts
from recovery.operations import OperationKey
from recovery.settings import OperationConfig
from recovery.waiting.live import LiveCall
from recovery.waiting.polling import Conditions
from recovery.waiting.wait import Wait, WaitCommand, WaitingCall
from recovery.waiting.waiters import Clock


class Sleeping(Protocol):
    """What the register needs of a call that sleeps without a ``Wait`` (``recovery.waiting.sleep``)."""

    def as_wait(self) -> Wait:
        """A new wait, as it stands now."""
        ...

    def steered(self, wait: Wait) -> None:
        """End the sleep: the call goes on in *wait*. The caller holds the lock of the waits."""

    def wake(self) -> None:
        """Resume the call, after ``steered``; never blocks."""


class WaitingCalls:
    """The calls of a service that wait now. Safe to use from any thread.

    Args:
        clock: Monotonic seconds.
        rng: Draws from [0, 1), for the jitter with which calls resume.
    """

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        self.conditions = Conditions(clock, rng)
        """What the calls wait for, and the lock of their waits."""
        self.jitter = self.conditions.jitter
        self.wakes = 0
        """How often ``wake`` was called: a wait compares it, to miss no wake between its question and its start."""
        self.live: dict[str, LiveCall] = {}
        """The calls that a runner runs, by id: they run, or are among those that wait."""
        self._waits: dict[str, Wait | Sleeping] = {}
        self._deferred: defaultdict[OperationKey, set[Wait]] = defaultdict(set)
        self._parts = Parts()  # with deferred calls

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, call: object) -> bool:
        return call in self._waits

    def describe(self, call: str) -> WaitingCall | None:
        """The waiting call with the id *call*; ``None`` if it does not wait."""
        with self.conditions.lock:
            waiting = self._waits.get(call)
            wait = waiting if waiting is None or isinstance(waiting, Wait) else waiting.as_wait()
            return None if wait is None else wait.describe()

    def describe_all(self) -> list[WaitingCall]:
        """Every call that waits now."""
        with self.conditions.lock:
            calls = list(self._waits)
        # The lock is held for one call at a time: with thousands, loops would stand still meanwhile.
        return [waiting for call in calls if (waiting := self.describe(call)) is not None]

    def steer(
        self,
        call: str,
        command: WaitCommand,
        reason: str = "",
        *,
        edited: OperationConfig | None = None,
        changes: str = "",
    ) -> bool:
        """Carry out *command* on the wait of *call* and publish ``CallSteered``.

        Returns whether that changed anything. For "edit", *edited* is how the call decides now, and *changes* says what
        that changes.
        """
        with self.conditions.lock:
            waiting = self._waits.get(call)
            wait = waiting if waiting is None or isinstance(waiting, Wait) else waiting.as_wait()
            if waiting is None or wait is None or not wait.steer(command, reason, edited):
                return False
            if not isinstance(waiting, Wait):
                self._waits[call] = wait
                waiting.steered(wait)
        operation = wait.attempt.call.operation
        try:
            operation.bus.publish(
                CallSteered(
                    at=self.conditions.clock(),
                    operation=operation.name,
                    key=operation.key,
                    call=call,
                    attempt=wait.number,
                    command=command,
                    reason=reason,
                    changes=changes,
                )
            )
        finally:  # Ctrl-C may interrupt a subscriber
            waiting.wake()
        return True

    def wake(self, operation: str, key: str, *, spread: bool = False) -> None:
        """Let the deferred calls of an operation key ask again whether they may begin, at once or *spread* by jitter.

        Without a key: the deferred calls of every key of the operation.
        """
        with self.conditions.lock:
            self.wakes += 1
            deferred = [wait for part in self._parts.within(operation, key) for wait in self._deferred.get(part, ())]
            for wait in deferred:
                wait.release(self.jitter(len(deferred)) if spread else 0.0)

    def enter(self, wait: Wait) -> None:
        """Register *wait*: from now on commands and wakes reach it."""
        with self.conditions.lock:
            call = wait.attempt.call
            self._waits[call.id] = wait
            if call.cancelled is not None:  # while it ran
                wait.steer("cancel", call.cancelled)
            if wait.is_deferred:
                self._deferred[wait.operation_key].add(wait)
                self._parts.add(wait.operation_key)
                if self.wakes != wait.since:
                    wait.release(0.0)  # its cause may have ended since it asked

    def enter_sleep(self, call: str, sleep: Sleeping) -> None:
        """Register *sleep*, that of *call*: from now on commands reach it."""
        with self.conditions.lock:
            self._waits[call] = sleep

    def leave_sleep(self, call: str, sleep: Sleeping) -> None:
        """Remove *sleep*, which is over. From now on it is not steered; it may have been."""
        with self.conditions.lock:
            if self._waits.get(call) is sleep:
                self._remove(call)

    def leave(self, wait: Wait) -> None:
        """Remove *wait*, which is over."""
        with self.conditions.lock:
            self.conditions.unwatch(wait)
            if wait.waiter is not None:
                wait.waiter.close()
            if self._waits.get(wait.attempt.call.id) is wait:
                self._remove(wait.attempt.call.id)
            if wait.is_deferred:
                deferred = self._deferred[wait.operation_key]
                deferred.discard(wait)
                if not deferred:
                    del self._deferred[wait.operation_key]
                    self._parts.discard(wait.operation_key)

    def _remove(self, call: str) -> None:
        del self._waits[call]
        if not self._waits:
            self._waits.clear()  # it keeps the room of the most entries that it had: 40 to 100 bytes each
