"""The result of a call, as an event carries it."""

from __future__ import annotations

import msgspec


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a call with an idempotency key, to be returned to later calls with that key.

    Args:
        key: The idempotency key.
        result: The JSON of the result.
        until: The Unix time at which it expires.
        version: The version of the operation that it holds for.
        boot: The boot of the machine that recorded it; "" if that is unknown.
        until_in_boot: The monotonic seconds of that boot at which it expires, however the wall clock is set.
    """

    key: str
    result: msgspec.Raw
    until: float
    version: str = ""
    boot: str = ""
    until_in_boot: float = 0.0
