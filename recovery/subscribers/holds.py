"""``Holds``: calls that must not begin yet, for the conditions of ``before`` or for what they claim.

It subscribes to the starts of the operations with these settings; other operations pay nothing for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from events.bus import Bus
from events.call import Call
from events.conditions import Condition
from events.fork_locks import begins_run_after_fork, fork_safe
from events.operation_events import CallSteered, OperationStarted
from events.own_log import own_log
from events.verdicts import Park, Verdict
from recovery.settings import OperationConfig
from recovery.subscribers.resources import Resources

log = own_log("recovery")


class Observed(msgspec.Struct):
    """A condition of ``before`` whose latest answer is noted.

    Args:
        asked: The condition as it was given last; those of one name are the same.
        polls: How often it was polled.
        is_met: The latest answer.
    """

    asked: Condition
    polls: int = 0
    is_met: bool = False

    @property
    def condition(self) -> Condition:
        """The condition, whose answers are noted here."""
        return msgspec.structs.replace(self.asked, is_met=self.poll)

    def poll(self) -> bool:
        """Poll it. What the condition raises passes."""
        is_met = False  # the latest answer stands meanwhile: another thread may read it
        try:
            is_met = bool(self.asked.is_met())
        finally:
            self.is_met = is_met
            self.polls += 1
        return is_met


class Held(msgspec.Struct):
    """A call under way of an operation with holds.

    Args:
        before: The conditions that hold it, each with the polls before it waited.
        is_ready: Whether the conditions let it begin.
    """

    before: tuple[tuple[Observed, int], ...]
    is_ready: bool = False


class Holds:
    """OperationStarted -> Park until the conditions of ``before`` hold, then until the call's claims fit.

    Safe to use from any thread.

    Args:
        bus: Where it subscribes.
        poll_soon: Has a condition polled now that a call waits for.
    """

    def __init__(self, bus: Bus, poll_soon: Callable[[Condition], object]) -> None:
        self._bus = bus
        self.resources = Resources(poll_soon)
        """What calls claim."""
        self._lock = fork_safe(threading.RLock())
        self._observed: dict[str, Observed] = {}
        self._followed: set[str] = set()
        self._calls: dict[str, Held] = {}
        begins_run_after_fork(self)

    def begin_run(self) -> None:
        """In a forked child: forget the calls, which are the parent's."""
        self._calls = {}
        self.resources.begin_run()

    def follow(self, operation: str) -> None:
        """Subscribe to the starts of the operation's calls; idempotent."""
        if operation not in self._followed:
            self._followed.add(operation)
            self._bus.subscribe(OperationStarted, self.on_start, operation=operation, essential=True)
            self._bus.subscribe(CallSteered, self.on_steered, operation=operation, essential=True)

    def before(self, config: OperationConfig) -> list[Observed]:
        """The conditions of ``before``. They may take long: they are not polled while a start is published."""
        with self._lock:
            found = [self._observed.setdefault(one.name, Observed(one)) for one in config.before]
            for observed, condition in zip(found, config.before, strict=True):
                observed.asked = condition
            return found

    def enter(
        self,
        call: Call,
        config: OperationConfig,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        unmet: Sequence[Observed] = (),
    ) -> None:
        """Note that *call* is under way. It is held by all conditions in *unmet*, of which one did not hold."""
        if config.claims:
            self.resources.enter(call, config.claims, args, kwargs)
        with self._lock:
            self._calls[call.id] = Held(tuple((one, one.polls) for one in unmet), is_ready=not unmet)

    def leave(self, call: str) -> None:
        """Forget *call*, which has ended or goes on elsewhere."""
        with self._lock:
            self._calls.pop(call, None)
        self.resources.leave(call)

    def on_start(self, started: OperationStarted) -> Verdict | None:
        """Whether an attempt may begin: ``None``, or ``Park`` with what it waits for."""
        held = self._calls.get(started.call)
        if held is None:
            return None  # made by hand
        if not held.is_ready:
            held.is_ready = all(_holds(one, before) for one, before in held.before)
            if not held.is_ready:
                return Park(0.0, tuple(one.condition for one, _ in held.before))
        return self.resources.ask(started.call)

    def on_steered(self, steered: CallSteered) -> None:
        """Let a call begin that a person wants to begin."""
        held = self._calls.get(steered.call)
        if held is not None and steered.command == "retry now":
            held.is_ready = True
            self.resources.force(steered.call)


def _holds(observed: Observed, polls: int) -> bool:
    """Whether the condition holds, by its latest answer if that came after *polls*; another cause may end a wait."""
    if not observed.asked.blocks:
        try:
            return observed.poll()
        except Exception:
            return False  # the wait logs it
    return observed.is_met and observed.polls > polls
