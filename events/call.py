"""One run of an operation: what all its attempts share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from events.bus import BusOperation
from events.event import NOTHING, CallEvent
from events.operation_events import FailureClassified
from events.recorded import Recorded
from events.verdicts import Verdict

PROGRESS_EVERY = 1.0
"""Seconds between two events that tell how far a call has come: an attempt that dies sooner has come no further."""


class Progress(msgspec.Struct, eq=False):
    """How far a call has come, in units of its own (bytes, say).

    Args:
        done: The farthest that any attempt came, those of earlier processes included.
        resets: How often progress has given the call its retries back.
        reached: The farthest that the current attempt came.
        progressed: Whether the current attempt came farther than all before it.
        on_progress: Called when the current attempt comes farther.
        said_at: When that was published last in this attempt, or the attempt came farther for the first time.
    """

    done: float = 0.0
    resets: int = 0
    reached: float = 0.0
    progressed: bool = False
    on_progress: Callable[[], object] | None = None
    said_at: float | None = None

    def reach(self, done: float) -> None:
        """Note that the current attempt has come as far as *done*."""
        if not done > self.reached:
            return
        self.reached = done
        if done > self.done:
            self.done = done
            self.progressed = True
        if self.on_progress is not None:
            self.on_progress()

    def is_due(self, now: float) -> bool:
        """Whether it is to be published; then that is noted."""
        if self.said_at is None:
            self.said_at = now
        is_due = now >= self.said_at + PROGRESS_EVERY
        if is_due:
            self.said_at = now
        return is_due

    def restart(self) -> None:
        """Note that another attempt begins."""
        self.said_at = None
        self.reached = 0.0
        self.progressed = False
        self.on_progress = None


class Call(msgspec.Struct, eq=False):
    """One run of an operation, from its first attempt to its end.

    Args:
        operation: What is run.
        id: Unique among all processes that share a journal; events bear it as ``call``.
        began: When the first attempt began, on the bus's clock. Where nothing read the clock then, it is None until
            that attempt fails, and then the time of that failure.
        retries: How many retries the call has used. A park uses none.
        progress: How far it has come; None until it has said so.
        saved: The JSON of the latest checkpoint.
        arguments: The JSON of ``[args, kwargs]``, if the call can be resumed after a restart.
        version: The version that its operation was declared with.
        idempotency_key: What identifies its effect across calls and restarts; "" for none.
        recorded: The result to publish with the success.
        failure: What the latest failure means, and its evidence; None if there is none, or it was not classified.
        has_failed: Whether an attempt of it failed, or was cut off by the end of its process.
        is_resumed: Whether another process began it.
        due: When the next attempt was to begin, on the bus's clock.
        lag: How many seconds after that a retry began; the longest of them.
        is_over: Whether its end has been published.
        asks_person: Whether it has no retries left and waits for a person.
        cancelled: Why it is to be cancelled; None if it is not.
        edited: How it decides, where that was changed for this call alone; the bus does not look at it.
        fence: The number of the claim under which a node of a cluster runs it; 0 for a call that no cluster owns.
    """

    operation: BusOperation
    id: str
    began: float | None = None
    retries: int = 0
    progress: Progress | None = None
    saved: bytes | None = None
    arguments: bytes | None = None
    version: str = ""
    idempotency_key: str = ""
    recorded: Recorded | None = None
    failure: FailureClassified | None = None
    has_failed: bool = False
    is_resumed: bool = False
    due: float | None = None
    lag: float = 0.0
    is_over: bool = False
    asks_person: bool = False
    cancelled: str | None = None
    edited: Any = None
    fence: int = 0

    @property
    def raw_arguments(self) -> msgspec.Raw:
        """The arguments as events hold them."""
        return NOTHING if self.arguments is None else msgspec.Raw(self.arguments)

    @property
    def charge(self) -> int:
        """How many retries the attempt after the latest failure uses: 1, or 0 if a jump of the clock excuses that."""
        return 0 if self.failure is not None and self.failure.uncharged else 1

    def elapsed(self, now: float) -> float:
        """Seconds from its begin to *now*, without those in which the process was stopped."""
        began, stops = self.began, self.operation.bus.stops
        if began is None:
            return 0.0
        return now - began - sum(slept for at, slept in stops if at > began) if stops else now - began

    def own_progress(self) -> Progress:
        """Its progress, made when it is first needed: most calls have none."""
        if self.progress is None:
            self.progress = Progress()
        return self.progress

    def begin_again(self, now: float) -> None:
        """Give it all its retries back, and its time, as if it began *now*."""
        self.retries, self.began = 0, now
        if self.progress is not None:
            self.progress.resets = 0

    def publish(self, kind: type[CallEvent], attempt: int, **fields: object) -> Verdict | None:
        """Publish an event about attempt number *attempt* of this call, if it has subscribers.

        The events of most calls are published without this: passing the fields on takes longer than making the event.
        """
        operation, bus = self.operation, self.operation.bus
        name, key = operation.name, operation.key
        if not bus.has_subscribers(kind, name, key):
            self.is_over = self.is_over or kind.ends
            return None
        event = kind(at=bus.clock(), operation=name, key=key, call=self.id, attempt=attempt, **fields)
        self.is_over = self.is_over or kind.ends  # now: what interrupts the call earlier, cancels it
        return bus.publish(event)
