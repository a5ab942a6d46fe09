"""The register of a service's joinable calls: those that run, those that are pending, and the results that are owed."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal
from weakref import WeakSet

from events.errors import CallRejectedError, RecoveryError, StaysPendingError
from events.fork_locks import fork_safe
from events.operation_events import OperationInterrupted
from recovery.joining.owed import OwedResults
from recovery.joining.shared_call import Identity, Join, Outcome, Rest, SharedCall, refuse_circle, why_rejected

_registers: WeakSet[CallRegister] = WeakSet()


class CallRegister:
    """Joinable calls by identity: one runs at a time. Safe to use from any thread.

    A call is *entered* by the caller that asks for it. It runs in the thread or task of that caller; equal calls get a
    ``Join`` and wait. If the caller is cancelled, the longest waiting one goes on with the same call.
    """

    def __init__(self) -> None:
        self._lock = fork_safe(threading.RLock())
        self.begin()
        _registers.add(self)

    def begin(self) -> None:
        """Know no call: at first, and in a forked child, for what runs is its parent's.

        A child that was forked in a body is in that body: an equal call is a nested one, as the body may wait for it.
        """
        self.running: dict[Identity, SharedCall] = {}
        self._alone: set[SharedCall] = set()  # calls that none can join
        self._pending: dict[Identity, deque[SharedCall]] = {}
        self._quarantined: dict[Identity, deque[SharedCall]] = {}
        self._owed = OwedResults()

    # asked by callers

    def enter(
        self,
        identity: Identity,
        new: Callable[[], SharedCall],
        chain: tuple[SharedCall, ...],
        is_wanted: Callable[[SharedCall], bool] = lambda _: True,
    ) -> SharedCall | Join | Outcome:
        """What a call of that *identity* does: run the shared call, join it, or take the result that is owed to it.

        Args:
            identity: What equal calls have in common.
            new: Makes the shared call if there is none.
            chain: The calls in whose bodies the caller runs.
            is_wanted: Whether the result of a call that was resumed is what the caller asks for.

        Raises:
            CallRejectedError: The call is quarantined, or to join would close a circle of calls that wait for each
                other.
        """
        with self._lock:
            shared = self.running.get(identity)
            if shared is not None:
                return self._join(shared, chain)
            if (owed := self._owed.take(identity)) is not None and owed.outcome is not None and is_wanted(owed):
                return owed.outcome
            waiting = self._pending.get(identity)
            if waiting is None and identity in self._quarantined:
                raise CallRejectedError(identity[0], why_rejected(self._quarantined[identity][0]))
            if waiting:
                shared = waiting[0]
                self._take(shared)
            else:
                shared = new()
            self._run(shared)
            return shared

    def left(self, identity: Identity) -> SharedCall | None:
        """The call of that *identity* that a dead process left, and that does not run here; None if there is none."""
        with self._lock:
            calls = self._pending.get(identity) or self._quarantined.get(identity)
            return calls[0] if calls else None

    def alone(self, shared: SharedCall) -> SharedCall:
        """*shared*, which none can join: noted, so that ``close`` knows of it."""
        with self._lock:
            self._run(shared)
        return shared

    def _run(self, shared: SharedCall) -> None:
        shared.state = "running"
        if shared.identity is None:
            self._alone.add(shared)
        else:
            self.running[shared.identity] = shared

    def _join(self, shared: SharedCall, chain: tuple[SharedCall, ...]) -> Join:
        if chain:
            refuse_circle(shared, chain)
        join = Join(self, shared, chain)
        shared.joins.append(join)
        for one in chain:
            one.waits_for.append(shared)
        return join

    # asked by joins

    def step(self, join: Join) -> bool:
        """Whether *join* has something to take."""
        shared = join.shared
        with self._lock:
            is_over = join.outcome is not None or shared.outcome is not None
            return is_over or (shared.is_free and shared.joins[0] is join)

    def take(self, join: Join) -> Outcome | SharedCall:
        """What *join* waited for: the outcome, or the call, which its caller runs from now on."""
        shared = join.shared
        with self._lock:
            if (outcome := join.outcome or shared.outcome) is not None:
                self._owed.forget(shared)
                return outcome
            shared.is_free = shared.is_resumed_here = False  # the program gets the result from this caller
            shared.joins.remove(join)
            return shared

    def leave(self, join: Join) -> None:
        """*join* waits no longer; a call that it was to go on with passes to the next caller, or is cancelled."""
        shared, is_over = join.shared, False
        with self._lock:
            for one in join.chain:
                if shared in one.waits_for:
                    one.waits_for.remove(shared)
            if join in shared.joins:
                shared.joins.remove(join)
                if shared.is_free and shared.outcome is None:
                    is_over = not self._pass_on(shared)
        if join.waiter is not None:
            join.waiter.close()
        if is_over:
            self._cancel(shared)

    # asked by the caller that runs the call

    def end(self, shared: SharedCall, outcome: Outcome) -> None:
        """*shared* has ended: wake its callers, and keep what the resumption owes to the program until one takes it."""
        with self._lock:
            if shared.state == "over":
                return
            shared.outcome = outcome
            self._remove(shared)
            joins = list(shared.joins)
            if shared.is_resumed_here:
                self._owed.keep(shared)
        for join in joins:
            join.wake()
        if shared.on_end is not None:
            shared.on_end(outcome)

    def _remove(self, shared: SharedCall) -> None:
        shared.state = "over"
        self._alone.discard(shared)
        if shared.identity is not None and self.running.get(shared.identity) is shared:
            del self.running[shared.identity]

    def abandon(self, shared: SharedCall) -> bool:
        """The caller that runs *shared* is cut off: if none waits for the call it is over, and this returns True."""
        with self._lock:
            if is_abandoned := not shared.joins:
                self._remove(shared)
        if is_abandoned:
            self._tell_cancelled(shared)
        return is_abandoned

    def _tell_cancelled(self, shared: SharedCall) -> None:
        outcome = Outcome(error=RecoveryError(f"{shared} was cancelled by its caller"))
        with self._lock:
            if shared.state == "over":
                shared.outcome = outcome  # for a resumption that watches it only afterwards
        if shared.on_end is not None:
            shared.on_end(outcome)

    def hand_over(self, shared: SharedCall, start: Rest | None) -> None:
        """Let the longest waiting caller go on with *shared* from *start*; if none waits, it is cancelled.

        Only a call that a dead process left, and that has not begun here, then stays pending.
        """
        with self._lock:
            shared.start, shared.is_free = start, True
            if self._pass_on(shared):
                return
        self._cancel(shared)

    def _pass_on(self, shared: SharedCall) -> bool:
        if shared.joins:
            shared.joins[0].wake()
            return True
        self._remove(shared)
        if shared.start is None and shared.record is not None:
            shared.state, shared.is_free, shared.is_resumed_here = "pending", False, False
            self._wait_for_caller(shared)
        return False

    def _cancel(self, shared: SharedCall) -> None:
        if shared.start is not None:
            shared.start.attempt.cancel()
        self._tell_cancelled(shared)

    def put_back(self, shared: SharedCall, rest: Rest | None, outcome: Outcome) -> None:
        """*shared* must not go on now and stays pending: its callers get *outcome*, a later one goes on from *rest*."""
        with self._lock:
            if shared.state != "over":
                again = SharedCall(shared.identity, shared.name, shared.args, shared.kwargs, shared.record, start=rest)
                self._wait_for_caller(again)
            shared.is_resumed_here = False  # what it gets is no result, and not owed
        self.end(shared, outcome)

    # asked by the resumption

    def add_pending(self, shared: SharedCall) -> None:
        """A dead process left *shared*, or it is freed: the first equal call, or the resumption, goes on with it."""
        with self._lock:
            self._take(shared)
            if shared.identity is not None:
                self._pending.setdefault(shared.identity, deque()).append(shared)

    def give(self, left: SharedCall) -> bool:
        """Whether a caller goes on with *left* that waits for the end of an equal call of another process."""
        with self._lock:
            shared = None if left.identity is None else self.running.get(left.identity)
            if shared is None or shared.claimed_elsewhere is None or shared.record is not None:
                return False
            shared.record = left.record
            return True

    def forget(self, shared: SharedCall) -> None:
        """A caller goes on with *shared*: nothing else that is pending is the same call."""
        with self._lock:
            for one in list(self._pending.get(shared.identity, ())) if shared.identity is not None else ():
                if one.record is not None and shared.record is not None and one.record.call == shared.record.call:
                    self.drop(one)
                    shared.on_end = shared.on_end or one.on_end

    def quarantine(self, shared: SharedCall) -> None:
        """*shared* is not resumed by itself: an equal call is rejected, until ``resume`` runs it by hand."""
        if shared.identity is not None:
            with self._lock:
                self._quarantined.setdefault(shared.identity, deque()).append(shared)

    def drop(self, shared: SharedCall) -> bool:
        """No caller and no resumption gets *shared* any more; False if one has it already."""
        with self._lock:
            if is_ours := shared.state == "pending":
                self._take(shared)
                self._remove(shared)
            return is_ours

    def watch(self, shared: SharedCall, on_end: Callable[[Outcome], object]) -> None:
        """Have *on_end* told how *shared* ends, or ended."""
        with self._lock:
            shared.on_end = on_end
            outcome = shared.outcome
        if outcome is not None:
            on_end(outcome)

    def resume(self, shared: SharedCall) -> Literal["run", "taken", "equal"]:
        """Whether the resumption is to "run" *shared* now; not if a caller has "taken" it, or an "equal" call runs.

        A quarantined call is resumed by hand, and quarantined no longer.
        """
        with self._lock:
            if shared.state != "pending":
                return "taken"
            self._take(shared)
            if shared.identity is not None and shared.identity in self.running:
                self._wait_for_caller(shared)
                return "equal"
            shared.is_resumed_here = True
            self._run(shared)
            return "run"

    def _wait_for_caller(self, shared: SharedCall) -> None:
        if shared.identity is not None:
            self._pending.setdefault(shared.identity, deque()).appendleft(shared)

    def _take(self, shared: SharedCall) -> None:
        for calls in (self._pending, self._quarantined):
            if shared.identity is not None and shared in (equal := calls.get(shared.identity, deque())):
                equal.remove(shared)
                if not equal:
                    del calls[shared.identity]

    # asked by the service

    def joining(self, key: str | None = None) -> int:
        """How many callers wait for a call that another runs; with *key*, for those of that idempotency key."""
        with self._lock:
            return sum(len(one.joins) for (_, _, own), one in self.running.items() if key is None or own == key)

    def close(self) -> None:
        """The service closes: calls that run stay pending, their callers stop waiting, and no result is owed."""
        with self._lock:
            running = [*self.running.values(), *self._alone]
            self._owed.clear()
        for shared in running:
            if shared.attempt is not None:
                shared.attempt.call.publish(OperationInterrupted, shared.attempt.number)
            with self._lock:
                joins, shared.joins = shared.joins, []
            error = StaysPendingError(f"{shared} stays pending: the service has been closed")
            for join in joins:
                join.outcome = Outcome(error=error)
                join.wake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: list(map(CallRegister.begin, list(_registers))))
