"""Events of the journal: degraded, restored, quarantined."""

from __future__ import annotations

from events.event import Event


class JournalDegraded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The journal cannot write; operations go on in memory.

    Args:
        reason: Why it cannot write.
    """

    reason: str


class JournalRestored(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The journal can write again, the events that wait first.

    Args:
        waiting: How many events wait now.
        dropped: How many events of this run are lost for good.
    """

    waiting: int = 0
    dropped: int = 0


class JournalQuarantined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The journal's file could not be read. It is kept elsewhere, and a new one is begun.

    Args:
        reason: What is wrong with the file, and where it is kept.
    """

    reason: str
