"""Events of the bus itself: a subscriber failed, or is slower than its events."""

from __future__ import annotations

from events.event import Event


class SubscriberFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber raised, or its answer is no event, verdict or None. The operation went on without it.

    Args:
        subscriber: Its name.
        received: The kind of event that it received.
        error: The name of the exception's class.
        disabled: Whether it failed too often in a row and is not called any more.
    """

    subscriber: str
    received: str
    error: str
    disabled: bool = False


class EventsDropped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber with a queue misses events from now on: the queue is full, or its loop has ended.

    It is published once for each subscription; ``subscription.dropped`` counts the events.

    Args:
        subscriber: Its name.
        reason: Why they are dropped.
    """

    subscriber: str
    reason: str
