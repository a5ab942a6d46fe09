"""Polling of conditions: one waiting call polls a condition for all calls that wait for it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from events.conditions import Condition
from events.fork_locks import fork_safe
from events.own_log import own_log
from recovery.waiting.daemon_threads import start_daemon
from recovery.waiting.jumps import Jumps
from recovery.waiting.waiters import Clock

SPREAD_PER_CALL = 0.02
"""Seconds, for each call that waits for the same cause, over which the calls resume when it ends."""

MAX_SPREAD = 5.0
"""Seconds: the limit of that spread."""

MAX_REPORTED = 1024
"""Conditions with a failure in the log; the failures of further ones are not logged."""

AT_ONCE = -math.inf

LOOK_EVERY = 10.0
"""Seconds between two looks at the clocks while a call waits that counts the time for which the machine sleeps."""

log = own_log("recovery")


class Question(Condition, frozen=True, eq=False):
    """A condition that a person is asked for: as soon as a call waits for it, also before its delay is over."""


class Watcher(Protocol):
    """What ``Conditions`` needs of a wait."""

    watched: WatchedCondition | None
    was_unmet: bool

    def met(self, condition: Condition, *, was_unmet: bool, extra: float) -> None:
        """Proceed in *extra* seconds: *condition* holds, after a poll that found it unmet if *was_unmet*."""

    def wake(self) -> None:
        """End the sleep early; never blocks."""


class WatchedCondition:
    """A condition with the waits for it. The first wait polls for all, at *poll_at* on the clock."""

    __slots__ = ("condition", "poll_at", "waits", "was_unmet")

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.waits: OrderedDict[int, Watcher] = OrderedDict()  # by identity, the one that polls first
        self.poll_at = AT_ONCE
        self.was_unmet = False

    @property
    def first(self) -> Watcher:
        """The wait that polls."""
        return next(iter(self.waits.values()))


class Conditions:
    """The conditions that calls wait for now. Safe to use from any thread.

    Args:
        clock: Monotonic seconds.
        rng: Draws from [0, 1), for the jitter with which calls resume.
    """

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        self.clock = clock
        self.jumps = Jumps(clock)
        self.lock = fork_safe(threading.RLock())
        """Guards the conditions and every wait."""
        self._rng = rng
        self._reported: set[str] = set()
        self.forget_all()

    def forget_all(self) -> None:
        """Forget every wait: in a forked child there is none, and the first one would neither poll nor look."""
        self.jumps.begin()
        self._watched: dict[Condition, WatchedCondition] = {}
        self._asked: set[Condition] = set()  # by a thread that has not answered yet
        self._lookouts: OrderedDict[int, Watcher] = OrderedDict()  # the first one looks

    def watch(self, wait: Watcher, condition: Condition) -> float:
        """Tell *wait* when *condition* holds, and about no other condition; the caller holds the lock.

        Returns the time at which *wait* must poll; infinite while another wait polls for it.
        """
        watched = wait.watched
        if watched is None or watched.condition != condition:
            self.unwatch(wait)
            watched = self._watched.get(condition)
            if watched is None:
                watched = self._watched[condition] = WatchedCondition(condition)
            watched.waits[id(wait)] = wait
            wait.watched = watched
        return watched.poll_at if watched.first is wait else math.inf

    def unwatch(self, wait: Watcher) -> None:
        """Tell *wait* about no condition; if it polled for others, the next of them does. The caller holds the lock."""
        watched, wait.watched = wait.watched, None
        if watched is None:
            return
        wait.was_unmet |= watched.was_unmet
        is_first = watched.first is wait
        del watched.waits[id(wait)]
        if not watched.waits:
            del self._watched[watched.condition]
        elif is_first:
            watched.first.wake()

    def until_look(self, wait: Watcher) -> float:
        """Seconds after which *wait* must look whether the clock has jumped; infinite while another wait looks.

        The caller holds the lock.
        """
        self._lookouts.setdefault(id(wait), wait)
        is_first = self.jumps.is_watching and next(iter(self._lookouts.values())) is wait
        return LOOK_EVERY if is_first else math.inf

    def leave(self, wait: Watcher) -> None:
        """Forget *wait*, which is over. The caller holds the lock."""
        self.unwatch(wait)
        looks = next(iter(self._lookouts.values()), None) is wait
        self._lookouts.pop(id(wait), None)
        if looks and self._lookouts:
            next(iter(self._lookouts.values())).wake()

    def slept(self, seconds: float) -> None:
        """Poll every condition as if *seconds* had passed: the machine has slept. The caller holds the lock."""
        for watched in self._watched.values():
            watched.poll_at -= seconds
            watched.first.wake()

    def poll_soon(self, condition: Condition) -> None:
        """Poll *condition* now if a call waits for it: its answer may have changed."""
        with self.lock:
            watched = self._watched.get(condition)
            if watched is not None:
                watched.poll_at = AT_ONCE
                watched.first.wake()

    def poll(self, condition: Condition) -> bool:
        """Ask *condition* for all waits for it.

        Returns whether a thread asks: it wakes the first wait when the answer is there.
        """
        if not condition.blocks or hasattr(self.clock, "wait"):  # a virtual clock would race past a thread
            self._ask(condition)
            return False
        with self.lock:
            if condition in self._asked:
                return True
            self._asked.add(condition)
        name = f"recovery-condition {condition}"
        try:
            # A daemon, and no worker of the loop: calls that wait for this very answer may occupy all of those.
            start_daemon(name, self._ask, condition)
        except RuntimeError as error:
            log.warning(
                "cannot poll the condition %r: %s; it counts as not met until the next poll", condition.name, error
            )
            self._record(condition, is_met=False)
            return False
        return True

    def _ask(self, condition: Condition) -> None:
        is_met = False
        try:
            is_met = bool(condition.is_met())
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit too: a question ends nothing
            if condition.name not in self._reported and len(self._reported) < MAX_REPORTED:
                self._reported.add(condition.name)
                log.warning("the condition %r failed; it counts as not met", condition.name, exc_info=True)
        self._record(condition, is_met=is_met)

    def _record(self, condition: Condition, *, is_met: bool) -> None:
        """If *condition* is met, its waits proceed: the first at once, the others with jitter."""
        with self.lock:
            self._asked.discard(condition)
            watched = self._watched.get(condition)
            if watched is None:
                return
            if not is_met:
                watched.was_unmet = True
                watched.poll_at = self.clock() + condition.every
                watched.first.wake()
                return
            del self._watched[condition]
            for number, wait in enumerate(watched.waits.values()):
                wait.watched = None
                extra = self.jitter(len(watched.waits)) if number else 0.0
                wait.met(condition, was_unmet=watched.was_unmet, extra=extra)

    def jitter(self, calls: int) -> float:
        """Seconds to wait for one of *calls* that could all resume now: random, below 5 s."""
        return self._rng() * min(SPREAD_PER_CALL * (calls - 1), MAX_SPREAD)
