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
    """Something that happened, at *at* on the bus's clock, to the operation of that name.

    *operation* is empty for what concerns no operation; *key* names the part of it that has a circuit of its own
    (the host of a download), empty where there is none.
    """

    asks: ClassVar[bool] = False  # whether the publisher acts on the verdicts that subscribers return

    at: float
    operation: str = ""
    key: str = ""


class CallEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event about one call: its id, and the number of the attempt (from 1) that it concerns."""

    call: str
    attempt: int = 1
