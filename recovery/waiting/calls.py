"""The waiting room: every call that waits, for a delay, a cause or a circuit, and everybody who may end its wait.

What one call's wait consists of is in ``recovery.waiting.wait``. Whoever wakes a wait notes why and never blocks, on
any
thread.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

from events.conditions import Condition
from events.fork_locks import fork_safe
from events.operation_events import CallSteered
from recovery.operations import OperationKey
from recovery.waiting.wait import Wait, WaitCommand, WaitingCall
from recovery.waiting.waiters import Clock

SPREAD = 0.02
"""Seconds, for each call that waits for one cause, over which they come back when it is gone..."""

MOST_SPREAD = 5.0
"""...and seconds that this is at the most."""

MAX_REPORTED = 1024
"""Of so many conditions it is remembered that their failure was reported; those of more are not."""

log = logging.getLogger("recovery")


class WaitingCalls:
    """Knows who waits, so that anybody can tell them something. Safe to use from any thread.

    The four commands take the id of a call (events have it), act within milliseconds, and publish ``CallSteered``. They
    act on waits, never on a function that runs, and return whether that changed anything: not if the call does not wait
    (it begins to when everybody has heard its ``RetryScheduled`` or ``Parked``). *rng* draws from [0, 1).
    """

    def __init__(self, clock: Clock, rng: Callable[[], float]) -> None:
        self.clock = clock
        self.rng = rng
        self.wakes = 0
        self.lock = fork_safe(threading.RLock())
        self._waits: dict[str, Wait] = {}
        self._deferred: defaultdict[OperationKey, set[Wait]] = defaultdict(set)
        self._watchers: defaultdict[Condition, list[Wait]] = defaultdict(list)
        self._asked: set[Condition] = set()
        self._reported: set[str] = set()
        self._answers: dict[str, object] = {}

    def calls(self) -> list[WaitingCall]:
        """Every call that waits now."""
        with self.lock:
            return [wait.describe() for wait in self._waits.values()]

    @property
    def number(self) -> int:
        """How many calls wait now."""
        return len(self._waits)

    def retry_now(self, call: str, reason: str = "") -> bool:
        """End its wait: the delay, what it waits for, and a pause. An open circuit is asked again, and may say no."""
        return self._steer(call, "retry now", reason)

    def pause(self, call: str, reason: str = "") -> bool:
        """Stop its clock, until somebody unpauses it or its deadline (``max_elapsed``) has come."""
        return self._steer(call, "pause", reason)

    def unpause(self, call: str, reason: str = "") -> bool:
        """Let it wait for what was left of its delay."""
        return self._steer(call, "unpause", reason)

    def give_up(self, call: str, reason: str = "") -> bool:
        """End it for good: its caller gets its last error, with a note that says so.

        Where there is none CallRejectedError (nothing was tried) or, for a call that another process began,
        RecoveryError. For its circuit it is a call that gave up.
        """
        return self._steer(call, "give up", reason)

    def _steer(self, call: str, command: WaitCommand, reason: str) -> bool:
        with self.lock:
            wait = self._waits.get(call)
            if wait is None or not wait.take(command, reason):
                return False
        operation = wait.attempt.call.operation
        operation.bus.publish(
            CallSteered(
                at=self.clock(),
                operation=operation.name,
                key=operation.key,
                call=call,
                attempt=wait.number,
                command=command,
                reason=reason,
            )
        )
        wait.wake()
        return True

    def question(self, name: str) -> Condition:
        """The condition that a person has answered *name*: for ``Park`` and ``Strategy``. See ``answer``."""
        return Condition(f"an answer: {name}", lambda: name in self._answers)

    def answer(self, name: str, value: object = True) -> None:
        """Answer the question of that name, for those who wait for it and for all who will.

        *value* is kept, whatever it is: False is an answer, too. What was answered stays so; ask anew by another name.
        """
        self._answers[name] = value
        self.look_again(self.question(name))

    def answered(self, name: str) -> object:
        """What was answered to the question of that name, ``None`` if nothing was."""
        return self._answers.get(name)

    def look_again(self, condition: Condition) -> None:
        """Have *condition* asked now, if anybody waits for it: something may have changed."""
        with self.lock:
            for wait in self._watchers.get(condition, ())[:1]:
                wait.ask_again()

    def wake(self, operation: str, key: str, *, spread: bool = False) -> None:
        """Wake whoever is held back on this part: they ask again whether they may begin, all at once or *spread*.

        Without a key, it is whoever is held back on any part of the operation.
        """
        with self.lock:
            self.wakes += 1
            parts = [(operation, key)] if key else [part for part in self._deferred if part[0] == operation]
            deferred = [wait for part in parts for wait in self._deferred.get(part, ())]
            for wait in deferred:
                wait.let_go(self.spread(len(deferred)) if spread else 0.0)

    def poll(self, condition: Condition) -> bool:
        """Look at *condition* for all who wait for it; whether the answer is still to come, from a thread."""
        if not condition.blocks or hasattr(self.clock, "wait"):  # a virtual clock would race past a thread
            self._tell(condition, is_met=self._look(condition))
            return False
        with self.lock:
            if condition in self._asked:
                return True
            self._asked.add(condition)

        def ask() -> None:
            self._answer(condition, is_met=self._look(condition))

        try:
            # A daemon, and no worker of the loop's: those may all be taken by calls that wait for this very answer.
            threading.Thread(target=ask, name=f"recovery-condition {condition}", daemon=True).start()
        except RuntimeError as error:
            log.warning("the condition %r cannot be asked: %s", condition.name, error)
            self._answer(condition, is_met=False)
            return False
        return True

    def _answer(self, condition: Condition, *, is_met: bool) -> None:
        with self.lock:
            self._asked.discard(condition)
            self._tell(condition, is_met=is_met)

    def _look(self, condition: Condition) -> bool:
        try:
            return bool(condition.is_met())
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit, too: it is a question, and ends nothing
            if condition.name not in self._reported and len(self._reported) < MAX_REPORTED:
                self._reported.add(condition.name)
                log.warning("the condition %r failed; it counts as not met", condition.name, exc_info=True)
            return False

    def _tell(self, condition: Condition, *, is_met: bool) -> None:
        """Tell all who wait for *condition*: if it is met they go on, the first at once, each of the others later."""
        with self.lock:
            watchers = list(self._watchers.get(condition, ()))
            if any(wait.has_waited for wait in watchers):
                for wait in watchers:  # also those who came when it had been asked
                    wait.unmet |= {condition}
                    wait.has_waited = True
            for number, wait in enumerate(watchers):
                if is_met:
                    self.unwatch(wait, hand_over=False)
                wait.answered(condition, is_met=is_met, extra=self.spread(len(watchers)) if number else 0.0)

    def spread(self, number: int) -> float:
        """How many seconds to wait for one of *number* who could all go on now: at random, 5 s at the most."""
        return self.rng() * min(SPREAD * (number - 1), MOST_SPREAD)

    def enter(self, wait: Wait) -> None:
        """From now on *wait* can be steered, and woken with those who are held back on its part."""
        with self.lock:
            self._waits[wait.attempt.call.id] = wait
            if wait.is_deferred:
                self._deferred[wait.part].add(wait)
                if self.wakes != wait.since:
                    wait.let_go(0.0)  # woken since it asked: or it would sleep through the end of its cause

    def leave(self, wait: Wait) -> None:
        """It is over."""
        with self.lock:
            self.unwatch(wait)
            if wait.waiter is not None:
                wait.waiter.close()
            if self._waits.get(wait.attempt.call.id) is wait:
                del self._waits[wait.attempt.call.id]
            if wait.is_deferred:
                deferred = self._deferred[wait.part]
                deferred.discard(wait)
                if not deferred:
                    del self._deferred[wait.part]

    def watch(self, condition: Condition, wait: Wait) -> bool:
        """Have *wait* told about *condition*, and about no other; whether it is the one to look for all."""
        with self.lock:
            if wait.watches != condition:
                self.unwatch(wait)
                wait.watches = condition
                self._watchers[condition].append(wait)
            return self._watchers[condition][0] is wait

    def unwatch(self, wait: Wait, *, hand_over: bool = True) -> None:
        """*wait* waits for no condition now; if it looked for all, the next one does."""
        with self.lock:
            condition, wait.watches = wait.watches, None
            if condition is None:
                return
            watchers = self._watchers[condition]
            was_first = watchers[0] is wait
            watchers.remove(wait)
            if not watchers:
                del self._watchers[condition]
            elif was_first and hand_over:
                watchers[0].wake()
