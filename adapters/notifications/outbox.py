"""What one target is told, and when: at most one notification in a while, which sums up what happened since."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from adapters.notifications.summary import Digest
from adapters.notifications.target import Target
from events.event import Event
from events.operation_events import GaveUp
from events.own_log import own_log
from recovery.explain import counted, explain
from recovery.service import Recovery

log = own_log("recovery.notifications")


class Tally(msgspec.Struct, kw_only=True):
    """What became of the events of a notifier, or of one target of it.

    Args:
        sent: Notifications that a target took.
        failed: Notifications that a target did not take.
        unsent: The events of those, and those that were still to be told at the end.
        dropped: Events that were not summarised, as too many came at once.
    """

    sent: int = 0
    failed: int = 0
    unsent: int = 0
    dropped: int = 0


class Outbox:
    """Sends the events of a digest to one target. All of it runs in one loop, but for reading ``tally``.

    Args:
        target: The target.
        digest: What is to be told.
        name: What the notification is about.
        every: Seconds between two notifications.
        gather: Seconds that a notification waits for more of the same.
    """

    def __init__(self, target: Target, digest: Digest, *, name: str, every: float, gather: float) -> None:
        self.target, self.tally = target, Tally()
        self._digest, self._name, self._every, self._gather = digest, name, every, gather
        self._begin = 0.0  # when the next notification may be sent
        self._lost = 0  # events that the next notification says were lost
        self._under_way = 0  # events of a notification that is being sent
        self._said = ""

    def begin(self) -> None:
        """Begin in the running loop."""
        # A service of its own: its failures are no events of the one that is notified of.
        service = Recovery(breaker=None, enable_logging=False)
        service.bus.subscribe(GaveUp, self._note)
        self._send: Callable[[bytes], Awaitable[None]] = service.recoverable("notify", policy=self.target.policy)(
            self.target.send
        )
        self._filled = anyio.Event()

    def add(self, event: Event) -> None:
        """Take *event*."""
        if self._digest.add(event):
            self._filled.set()

    def wake(self) -> None:
        """Let ``deliver`` see that it is over."""
        self._filled.set()

    async def deliver(self, over: anyio.Event) -> None:
        """Send notifications until *over* is set, and then what is left."""
        is_last = False
        while not is_last:
            await self._filled.wait()
            with anyio.move_on_after(max(self._gather, self._begin - anyio.current_time())):
                await over.wait()
            is_last = over.is_set()
            self._filled = anyio.Event()
            await self._send_digest()

    async def _send_digest(self) -> None:
        events = len(self._digest)
        notification = self._digest.take(time.time(), name=self._name, unsent=self._lost)
        if notification is None:
            return
        self._under_way = events
        try:
            await self._send(msgspec.json.encode(notification))
        except Exception as error:
            self.tally.failed += 1
            self.tally.unsent += events
            self._lost += events
            missing = counted(events, "event")
            reason = self._said or type(error).__name__
            log.warning("%s got no notification of %s: %s; the next one says so", self.target, missing, reason)
        else:
            self.tally.sent += 1
            self._lost = 0
        self._under_way = 0
        self._begin = anyio.current_time() + self._every

    def _note(self, event: GaveUp) -> None:
        self._said = explain(event).short

    def end(self) -> None:
        """Count, and log, what was not sent in time."""
        if left := self._under_way + len(self._digest):
            self.tally.unsent += left
            log.warning("%s got no notification of %s: the notifier was closed", self.target, counted(left, "event"))
