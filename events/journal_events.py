"""Events of the journal: degraded, restored, quarantined."""

from __future__ import annotations

from events.event import Event


class JournalDegraded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The journal cannot write; operations go on in memory."""

    reason: str


class JournalRestored(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The journal can write again; the events that waited are written first.

    *waiting* is how many still did at this moment, *dropped* how many of this run are lost for good.
    """

    waiting: int = 0
    dropped: int = 0


class JournalQuarantined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What was in the journal's place could not be read; it is kept elsewhere, as *reason* says. A new one is begun."""

    reason: str
