"""Events of calls that are traced with spans."""

from __future__ import annotations

from events.event import CallEvent


class CallTraced(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A span was begun for a call that can be resumed: the span of the next process links to it.

    Args:
        trace: The span's context, as the header ``traceparent`` of the W3C.
    """

    trace: str
