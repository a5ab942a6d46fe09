"""Events of the bus itself: a subscriber failed."""

from __future__ import annotations

from events.event import Event


class SubscriberFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber raised, or answered with something that is no answer. The operation went on without it.

    *heard* is the event it was told; *disabled* says that it failed too often and is not called any more.
    """

    subscriber: str
    heard: str
    error: str
    disabled: bool = False
