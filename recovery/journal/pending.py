"""What earlier processes left in a journal."""

from __future__ import annotations

import msgspec

from events.lease_events import OutcomeHeld
from recovery.journal.history import CallRecord, Run


class Pending(msgspec.Struct, frozen=True):
    """What earlier processes left.

    Args:
        calls: The calls that are not over.
        runs: The runs whose clocks they refer to, by id.
        unreadable: The ids of calls with a damaged row: where they stand is unknown.
        leased: The calls of a cluster that were not handed back.
        held: The outcomes that the cluster has not taken.
    """

    calls: tuple[CallRecord, ...] = ()
    runs: dict[str, Run] = {}
    unreadable: tuple[str, ...] = ()
    leased: tuple[CallRecord, ...] = ()
    held: tuple[OutcomeHeld, ...] = ()
