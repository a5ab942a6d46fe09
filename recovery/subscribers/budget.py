"""``RetryBudgets`` holds everybody to the retry budget: a token is reserved with a retry, and given back if it is
not made.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from events.bus import Bus
from events.event import CallEvent
from events.fork_locks import fork_safe
from events.names import display_name
from events.operation import Operation
from events.operation_events import (
    CallRejected,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    Parked,
)
from events.verdicts import GiveUp, Retry, Verdict
from recovery.operations import MAX_KEYS, OperationKey
from recovery.policies.budget import Bucket, RetryBudget, full, refill, refund, reserve
from recovery.settings import ConfigOf

MAX_RESERVED = 100_000
"""Of how many calls it is remembered that they hold a token; of more, the oldest are taken to have used it."""


class RetryBudgets:
    """Asked by ``Schedule`` for the token of a retry. Safe to use from any thread.

    A token is taken as soon as the policy wants a retry, so that two callers cannot share it, and given back if the
    outcome is another, or the retry is not made: the call was cancelled, given up or rejected while it waited.
    *operation_of* finds a part, with its success counter.

    Of very many keys the buckets are forgotten that have not been asked for longest. Had one tokens missing, every new
    bucket of its operation begins without any: nobody gets a fresh budget by being forgotten.
    """

    def __init__(self, bus: Bus, config_of: ConfigOf, operation_of: Callable[[str, str], Operation | None]) -> None:
        self._bus = bus
        self._config_of = config_of
        self._operation_of = operation_of
        self._lock = fork_safe(threading.RLock())
        self._buckets: OrderedDict[OperationKey, Bucket] = OrderedDict()
        self._reserved: OrderedDict[str, tuple[OperationKey, int]] = OrderedDict()
        self._kept: dict[OperationKey, Operation | None] = {}  # for their counters
        self._has_forgotten: set[str] = set()
        self._followed: set[str] = set()

    def follow(self, operation: str) -> None:
        """Listen to what becomes of this operation's calls; asking twice is asking once."""
        if operation not in self._followed:
            self._followed.add(operation)
            outcomes = (Parked, GaveUp, CallRejected, OperationCancelled, OperationRecovered)
            self._bus.subscribe(outcomes, self.on_outcome, operation=operation, essential=True)

    def charge(self, budget: RetryBudget, failure: FailureClassified, verdict: Verdict) -> Verdict:
        """*verdict*, which the policy wants; a retry that *budget* has no token left for is given up."""
        part = (failure.operation, failure.key)
        with self._lock:
            held = self._reserved.get(failure.call)
            if held is not None and held[1] == failure.attempt:
                return verdict  # somebody judged the same failure once more
            self._reserved.pop(failure.call, None)  # the retry that it was for has been made
            if not isinstance(verdict, Retry):
                return verdict
            bucket = self._bucket(budget, part, failure.at)
            taken = reserve(bucket)
            self._buckets[part] = bucket if taken is None else taken
            if taken is None:
                return GiveUp(f"retry budget exhausted: {display_name(*part)}")
            self._reserved[failure.call] = (part, failure.attempt)
            if len(self._reserved) > MAX_RESERVED:
                self._reserved.popitem(last=False)
        return verdict

    def on_outcome(self, event: CallEvent) -> None:
        """Give back the token of a retry that is not made."""
        with self._lock:
            held = self._reserved.get(event.call)
            if held is None or (isinstance(event, Parked) and (event.error is None or event.counts_as_retry)):
                return  # the attempt that it is for is still to come
            del self._reserved[event.call]
            was_made = isinstance(event, OperationRecovered) or (
                isinstance(event, OperationCancelled) and not event.waiting
            )
            budget = self._budget(event)
            if budget is not None and not was_made:
                self._buckets[held[0]] = refund(budget, self._bucket(budget, held[0], event.at))

    def tokens(self, operation: str, key: str = "") -> float | None:
        """How many tokens there were at the latest, ``None`` if none was ever asked for."""
        with self._lock:
            bucket = self._buckets.get((operation, key))
            return None if bucket is None else bucket.tokens

    def _budget(self, event: CallEvent) -> RetryBudget | None:
        config = self._config_of(event.operation)
        return None if config is None else config.budget

    def forget(self, operation: str) -> None:
        """Forget every bucket of *operation*: its name is another's now."""
        with self._lock:
            for part in [part for part in self._buckets if part[0] == operation]:
                del self._buckets[part]
                del self._kept[part]

    def _bucket(self, budget: RetryBudget, part: OperationKey, now: float) -> Bucket:
        """The bucket of *part* as it is now, and the latest to be forgotten."""
        operation = self._kept.get(part) or self._operation_of(*part)
        successes = 0 if operation is None else operation.successes
        bucket = self._buckets.get(part)
        if bucket is None:
            bucket = full(budget, now, successes)
            if part[0] in self._has_forgotten:
                bucket = Bucket(0.0, now, successes)
        bucket = self._buckets[part] = refill(budget, bucket, now, successes)
        self._kept[part] = operation
        self._buckets.move_to_end(part)
        if len(self._buckets) > MAX_KEYS:
            forgotten, lost = self._buckets.popitem(last=False)
            kept, config = self._kept.pop(forgotten, None), self._config_of(forgotten[0])
            if config is not None and config.budget is not None:
                lost = refill(config.budget, lost, now, lost.successes if kept is None else kept.successes)
                if lost.tokens < config.budget.reserve:
                    self._has_forgotten.add(forgotten[0])
        return bucket
