"""Events of calls that are run again after their end."""

from __future__ import annotations

import msgspec

from events.event import NOTHING, CallEvent


class OperationRepeated(CallEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A call that has ended is run again, as a new call. It is published of both.

    Args:
        former: Of the new call: the id of the call that it repeats.
        trace: Of the new call: the ``CallTraced.trace`` of the former one; "" if that was not traced.
        by: Of the former call: the id of the call that repeats it.
        arguments: Of the new call: as in its ``OperationStarted``, which may come much later.
        version: Of the new call: as in its ``OperationStarted``.
        idempotency_key: Of the new call: likewise.
    """

    former: str = ""
    trace: str = ""
    by: str = ""
    arguments: msgspec.Raw = NOTHING
    version: str = ""
    idempotency_key: str = ""
