"""Events of the bus itself: a subscriber failed."""

from __future__ import annotations

from events.event import Fact


class SubscriberFailed(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber raised, or answered with something that is no answer. The operation went on without it.

    *heard* is the fact it was told; *set_aside* says that it failed too often and is not called any more.
    """

    subscriber: str
    heard: str
    error: str
    set_aside: bool = False
