"""The register of waiting calls: list them, steer them, and wake those that a subscriber deferred."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from weakref import WeakSet

from events.circuit_events import CircuitOpened
from events.operation_events import CallSteered, FailureClassified
from events.parts import Parts
from recovery.operations import OperationKey
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.incidents import open_circuit
from recovery.policies.jumps import Jump
from recovery.policies.pacing import RATE_LIMIT
from recovery.settings import OperationConfig
from recovery.waiting.daemon_threads import leave_jobs_to_others
from recovery.waiting.description import WaitingCall
from recovery.waiting.held_calls import HeldCalls
from recovery.waiting.live import LiveCall
from recovery.waiting.overdue import Sleeping, come_back
from recovery.waiting.polling import Conditions, Question
from recovery.waiting.wait import Wait, WaitCommand
from recovery.waiting.waiters import Clock


class WaitingCalls:
    """The calls of a service that wait now. Safe to use from any thread.

    Args:
        clock: Monotonic seconds.
        rng: Draws from [0, 1), for the jitter with which calls resume.
    """

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        self.conditions = Conditions(clock, rng)
        """What the calls wait for, and the lock of their waits."""
        self.conditions.jumps.next_due = self.next_due
        self.jitter = self.conditions.jitter
        self.limited: Callable[[str, str], float] = lambda _operation, _key: 0.0
        """Seconds for which a server still wants no call of an operation and key."""
        self.wakes = 0
        """How often ``wake`` was called: a wait compares it, to miss no wake between its question and its start."""
        self._held: dict[OperationKey, HeldCalls] = {}  # by the circuits that are open
        self.forget_all()
        _all.add(self)

    def forget_all(self) -> None:
        """Forget every call: in a forked child none of them waits."""
        self.conditions.forget_all()
        self.live: dict[str, LiveCall] = {}
        """The calls that a runner runs, by id: they run, or are among those that wait."""
        self._waits: dict[str, Wait | Sleeping] = {}
        self._deferred: defaultdict[OperationKey, set[Wait]] = defaultdict(set)
        self._parts = Parts()  # with deferred calls
        for held in self._held.values():
            held.waits.clear()

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, call: object) -> bool:
        return call in self._waits

    def describe(self, call: str, former: WaitingCall | None = None) -> WaitingCall | None:
        """The waiting call with the id *call*; ``None`` if it does not wait, *former* if it waits as it did then."""
        with self.conditions.lock:
            waiting = self._waits.get(call)
            if waiting is None or isinstance(waiting, Wait):
                return None if waiting is None else waiting.describe(former)
            is_same = former is not None and former.due == waiting.due
            return former if is_same else waiting.as_wait().describe()

    def describe_all(self) -> list[WaitingCall]:
        """Every call that waits now."""
        return list(self.describe_each())

    def describe_each(self, former: Mapping[str, WaitingCall] = {}) -> Iterator[WaitingCall]:
        """Every call that waits now, one after another; one that waits as it did in *former*, as it is there."""
        with self.conditions.lock:
            calls = list(self._waits)
        for call in calls:  # the lock is held for one at a time: with thousands, loops would stand still meanwhile
            if (waiting := self.describe(call, former.get(call))) is not None:
                yield waiting

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

        Returns whether that changed anything: "retry now" does not where a server has asked for the wait. For "edit",
        *edited* is how the call decides now, and *changes* says what that changes.
        """
        if command == "retry now" and self.limit_of(call, alone=True):
            return False
        with self.conditions.lock:
            waiting = self._waits.get(call)
            wait = waiting if waiting is None or isinstance(waiting, Wait) else waiting.as_wait()
            if waiting is None or wait is None or not wait.steer(command, reason, edited):
                return False
            if not isinstance(waiting, Wait):
                self._waits[call] = wait
                waiting.steered(wait)
            if (held := self._holder(wait)) is not None:
                if command == "pause":
                    held.turn()
                elif command in ("give up", "cancel"):
                    held.give_up(wait)
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

    def limit_of(self, call: str, *, alone: bool = False) -> float:
        """Seconds for which the server's wish keeps *call* waiting that waits; *alone*: 0.0 if anything else does."""
        if (wait := self.describe(call)) is None:
            return 0.0
        if alone and (wait.is_paused or not wait.until or not all(one.startswith(RATE_LIMIT) for one in wait.until)):
            return 0.0
        return self.limited(wait.operation, wait.key)

    def wake(self, operation: str, key: str, *, spread: bool = False) -> None:
        """Let the deferred calls of an operation key ask again whether they may begin, at once or *spread* by jitter.

        Without a key: the deferred calls of every key of the operation.
        """
        with self.conditions.lock:
            self.wakes += 1
            deferred = [wait for part in self._parts.within(operation, key) for wait in self._deferred.get(part, ())]
            for wait in deferred:
                wait.release(self.jitter(len(deferred)) if spread else 0.0)

    def _holder(self, wait: Wait) -> HeldCalls | None:
        """What holds the call of *wait*, or would: the open circuit that it names, of its key or its operation."""
        if not self._held or wait.attempt.call.asks_person:
            return None
        operation, key = wait.operation_key
        for part in ((operation, key), (operation, "")):
            held = self._held.get(part)
            if held is not None and held.cause in wait.causes:
                return held
        return None

    def circuit_opened(self, opened: CircuitOpened, policy: BreakerPolicy | None) -> None:
        """Hold the calls that wait for the circuit that *opened*, until its break ends."""
        with self.conditions.lock:
            operation_key = opened.operation, opened.key
            held = self._held.get(operation_key)
            if held is None:
                self._held[operation_key] = held = HeldCalls.by(opened, policy)
                for wait in self._deferred.get(operation_key, ()):
                    if self._holder(wait) is held:  # its thread was faster than this event
                        held.enter(wait)
            else:
                held.opened_again(opened)

    def probe_failed(self, failure: FailureClassified) -> None:
        """Count *failure*, that of a probe, as an attempt of every call that waits for the circuit."""
        with self.conditions.lock:
            if (held := self._held.get((failure.operation, failure.key))) is not None:
                held.probe_failed(failure)

    def circuit_probed(self, operation: str, key: str) -> None:
        """Have the calls that wait for a circuit wait for the answer of a probe."""
        with self.conditions.lock:
            if (held := self._held.get((operation, key))) is not None:
                held.probed(self.conditions.clock())

    def circuit_closed(self, operation: str, key: str) -> None:
        """Let the calls that wait for a circuit go on, staggered."""
        with self.conditions.lock:
            held = self._held.pop((operation, key), None)
            if held is not None:
                staying = held.waits.keys() - held.end()
                for wait in staying:
                    self._deferred[wait.operation_key].discard(wait)
        self.wake(operation, key, spread=True)

    def may_probe(self, operation: str, key: str) -> None:
        """Let the next call that waits for a circuit probe: a permit is free."""
        with self.conditions.lock:
            if (held := self._held.get((operation, key))) is not None:
                held.may_probe(self.conditions.clock())

    def held_by(self, operation: str, key: str) -> list[str]:
        """The ids of the calls that wait for a circuit, the next to probe first."""
        with self.conditions.lock:
            held = self._held.get((operation, key))
            return [] if held is None else [wait.attempt.call.id for wait in held.waits]

    def enter(self, wait: Wait) -> None:
        """Register *wait*: from now on commands and wakes reach it."""
        if wait.attempt.call.asks_person:
            leave_jobs_to_others()
        with self.conditions.lock:
            self._waits[wait.attempt.call.id] = wait
            if wait.attempt.call.cancelled is not None:  # while it ran
                wait.steer("cancel", wait.attempt.call.cancelled)
            held = self._holder(wait)
            if held is not None:
                held.enter(wait)
            if wait.is_deferred or held is not None:
                operation_key = wait.operation_key
                self._deferred[operation_key].add(wait)
                self._parts.add(operation_key)
                if wait.is_deferred and self.wakes != wait.since:
                    wait.release(0.0)  # its cause may have ended since it asked
            elif open_circuit(*wait.operation_key) in wait.causes and not wait.attempt.call.asks_person:
                wait.release(wait.asked)  # the circuit was closed since the attempt failed
        try:
            for condition in wait.pending:
                if isinstance(condition, Question):
                    condition.is_met()  # now, not after the delay: a person may begin
        except BaseException:  # Ctrl-C may interrupt a subscriber
            self.leave(wait)
            raise

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
            self.conditions.leave(wait)
            if wait.waiter is not None:
                wait.waiter.close()
            if self._waits.get(wait.attempt.call.id) is wait:
                self._remove(wait.attempt.call.id)
            operation_key = wait.operation_key
            if (held := self._holder(wait)) is not None:
                held.leave(wait)
            if (deferred := self._deferred.get(operation_key)) is not None:
                deferred.discard(wait)
                if not deferred:
                    del self._deferred[operation_key]
                    self._parts.discard(operation_key)

    def jumped(self, jump: Jump) -> None:
        """Have the calls come back one after another that *jump* of the clock has made overdue."""
        with self.conditions.lock:
            if jump.kind == "sleep":
                self.conditions.slept(jump.slept)
            woken = come_back(self._waits, jump, self.conditions.clock(), self.jitter)
        for waiting in woken:
            waiting.wake()

    def next_due(self) -> float:
        """When the next of them is to wake by itself."""
        with self.conditions.lock:
            waits = self._waits.values()
            return min((one.wakes_at if isinstance(one, Wait) else one.due for one in waits), default=math.inf)

    def _remove(self, call: str) -> None:
        del self._waits[call]
        if not self._waits:
            self._waits.clear()  # it keeps the room of the most entries that it had: 40 to 100 bytes each


_all: WeakSet[WaitingCalls] = WeakSet()


def _after_fork() -> None:
    for waiting in list(_all):
        waiting.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
