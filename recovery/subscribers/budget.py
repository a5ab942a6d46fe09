"""``RetryBudgets``: a retry reserves a token of its operation's budget, which is refunded if the retry is not made."""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

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
from events.parts import Parts
from events.verdicts import GiveUp, Retry, Verdict
from recovery.operations import MAX_KEYS, OperationKey, OperationOf
from recovery.policies.budget import Bucket, RetryBudget, refill, refund, reserve, share
from recovery.settings import ConfigOf

MAX_RESERVED = 100_000
"""How many reserved tokens are remembered by call; the oldest beyond are taken to be used."""


class Kept(msgspec.Struct):
    """A bucket, the operation whose successes it counts, and how many of its tokens this process has taken."""

    bucket: Bucket
    operation: Operation | None
    taken: int = 0


class Usage(msgspec.Struct, frozen=True):
    """What this process has used of a budget since its bucket was made.

    Args:
        taken: The tokens of the retries that were made, or are waited for.
        successes: The success counter of the operation.
        tokens: How many tokens there are now.
    """

    taken: int
    successes: int
    tokens: float


class RetryBudgets:
    """The buckets of all operations; ``Schedule`` asks for a token before each retry. Safe to use from any thread.

    A token is taken as soon as the policy wants a retry, so that two calls cannot share it. It is refunded if the
    retry is not made: another subscriber overruled it, or the call was cancelled, given up or rejected while it waited.

    Beyond *max_keys* the least recently used bucket is forgotten. If tokens were missing in it, every new bucket of its
    operation begins empty: to be forgotten must not refill a budget.

    Args:
        bus: Where it subscribes to the outcomes of operations with a budget.
        config_of: Finds the config of an operation.
        operation_of: Finds an operation and its success counter.
        max_keys: How many buckets are remembered.
    """

    def __init__(self, bus: Bus, config_of: ConfigOf, operation_of: OperationOf, *, max_keys: int = MAX_KEYS) -> None:
        self._bus = bus
        self._config_of = config_of
        self._operation_of = operation_of
        self._max_keys = max_keys
        self._lock = fork_safe(threading.RLock())
        self._kept: OrderedDict[OperationKey, Kept] = OrderedDict()
        self._parts = Parts()  # that have a bucket
        self._reserved: OrderedDict[str, tuple[OperationKey, int]] = OrderedDict()
        self._has_forgotten: set[str] = set()
        self._followed: set[str] = set()

    def follow(self, operation: str) -> None:
        """Subscribe to the outcomes of the operation's calls; idempotent."""
        if operation not in self._followed:
            self._followed.add(operation)
            outcomes = (Parked, GaveUp, CallRejected, OperationCancelled, OperationRecovered)
            self._bus.subscribe(outcomes, self.on_outcome, operation=operation, essential=True)

    def charge(self, budget: RetryBudget, failure: FailureClassified, verdict: Verdict) -> Verdict:
        """*verdict*, or ``GiveUp`` for a retry that *budget* has no token for."""
        operation_key = (failure.operation, failure.key)
        with self._lock:
            held = self._reserved.get(failure.call)
            if held is not None and held[1] == failure.attempt:
                return verdict  # the same failure was published once more
            self._reserved.pop(failure.call, None)  # the retry that it was for has been made
            if not isinstance(verdict, Retry) or failure.uncharged:
                return verdict
            kept = self._refilled(budget, operation_key, failure.at)
            taken = reserve(kept.bucket)
            if taken is None:
                return GiveUp(f"retry budget exhausted: {display_name(*operation_key)}")
            kept.bucket = taken
            kept.taken += 1
            self._reserved[failure.call] = (operation_key, failure.attempt)
            if len(self._reserved) > MAX_RESERVED:
                self._reserved.popitem(last=False)
        return verdict

    def on_outcome(self, event: CallEvent) -> None:
        """Refund the token of a retry that is not made."""
        with self._lock:
            held = self._reserved.get(event.call)
            if held is None or (isinstance(event, Parked) and (event.category is None or event.counts_as_retry)):
                return  # the attempt that it is for is still to come
            del self._reserved[event.call]
            if isinstance(event, OperationRecovered) or (isinstance(event, OperationCancelled) and not event.waiting):
                return  # the retry was made
            config = self._config_of(event.operation)
            if config is not None and config.budget is not None:
                kept = self._refilled(config.budget, held[0], event.at)
                kept.bucket = refund(config.budget, kept.bucket)
                kept.taken -= 1

    def tokens(self, operation: str, key: str = "") -> float | None:
        """How many tokens there were at the latest request, ``None`` before the first one."""
        with self._lock:
            kept = self._kept.get((operation, key))
            return None if kept is None else kept.bucket.tokens

    def usage(self) -> dict[OperationKey, Usage]:
        """What this process has used of each budget that is not full."""
        found, now = dict[OperationKey, Usage](), self._bus.clock()
        with self._lock:
            for operation_key, kept in self._kept.items():
                config = self._config_of(operation_key[0])
                if config is None or config.budget is None:
                    continue
                successes = kept.bucket.successes if kept.operation is None else kept.operation.successes
                tokens = refill(config.budget, kept.bucket, now, successes).tokens
                if tokens < config.budget.reserve:
                    found[operation_key] = Usage(kept.taken, successes, tokens)
        return found

    def learn(
        self, operation: str, key: str, *, taken: float, successes: int, tokens: float | None = None, age: float = 0.0
    ) -> None:
        """Count what another process has used of a budget; nothing where *operation* has none here.

        Args:
            operation: The name of the operation.
            key: Its key.
            taken: The tokens that its retries have taken since it was last counted.
            successes: Its successes since then.
            tokens: How many tokens it had left then: there are at most as many here. None where it was counted before.
            age: Seconds since it had them.
        """
        config = self._config_of(operation)
        if config is None or config.budget is None:
            return
        budget = config.budget
        with self._lock:
            kept = self._refilled(budget, (operation, key), self._bus.clock())
            kept.bucket = share(budget, kept.bucket, taken=taken, successes=successes)
            if tokens is not None and (most := tokens + age * budget.per_second) < kept.bucket.tokens:
                kept.bucket = msgspec.structs.replace(kept.bucket, tokens=most)

    def forget(self, operation: str) -> None:
        """Forget every bucket of *operation*: a new operation gets its name."""
        with self._lock:
            for operation_key in self._parts.within(operation):
                del self._kept[operation_key]
                self._parts.discard(operation_key)

    def _refilled(self, budget: RetryBudget, operation_key: OperationKey, now: float) -> Kept:
        """The bucket with its tokens of now, which becomes the most recently used."""
        kept = self._kept.get(operation_key)
        operation = self._operation_of(*operation_key) if kept is None else kept.operation
        successes = 0 if operation is None else operation.successes
        if kept is None:
            tokens = 0.0 if operation_key[0] in self._has_forgotten else budget.reserve
            kept = self._kept[operation_key] = Kept(Bucket(tokens, now, successes), operation)
            self._parts.add(operation_key)
        kept.bucket = refill(budget, kept.bucket, now, successes)
        self._kept.move_to_end(operation_key)
        if len(self._kept) > self._max_keys:
            self._forget_one(now)
        return kept

    def _forget_one(self, now: float) -> None:
        (name, key), lost = self._kept.popitem(last=False)
        self._parts.discard((name, key))
        config = self._config_of(name)
        if config is not None and config.budget is not None:
            successes = 0 if lost.operation is None else lost.operation.successes
            if refill(config.budget, lost.bucket, now, successes).tokens < config.budget.reserve:
                self._has_forgotten.add(name)
