"""The base classes of events: one frozen struct per event, named in the past tense.

Every number of seconds called *at* is a reading of the bus's clock, which is monotonic: it means nothing outside
the process (the journal notes which wall-clock time it stands for). Every other number of seconds is a duration.

The garbage collector skips events (``gc=False``): the journal remembers tens of thousands of them, and none is part of
a cycle except the one with the live exception.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

FOREVER = 1e9
"""What events say for a wait without an end, in seconds: JSON has no infinity."""


NOTHING = msgspec.Raw(b"")
"""No JSON at all. Not ``None``: msgspec cannot tell raw JSON from null in one field."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event", omit_defaults=True, gc=False):
    """Something that happened.

    Args:
        at: When it happened, on the bus's clock.
        operation: The name of the operation; "" for an event that concerns none.
        key: The key of the operation, a part with a circuit of its own (the host of a download); "" for none.
    """

    asks: ClassVar[bool] = False  # whether the publisher acts on the verdicts that subscribers return
    ends: ClassVar[bool] = False  # whether it is the end of a call, which every subscriber gets, Ctrl-C or not

    at: float
    operation: str = ""
    key: str = ""


class CallEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event about one call.

    Args:
        call: The id of the call.
        attempt: The number of the attempt that the event concerns, from 1.
    """

    call: str
    attempt: int = 1
