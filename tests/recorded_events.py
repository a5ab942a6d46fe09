"""For the tests of this folder: ears that note what the bus says."""

from __future__ import annotations

from events.event import Event
from events.journal_events import JournalDegraded, JournalRestored
from recovery.service import Recovery


def events_of(service: Recovery, *kinds: type[Event]) -> list[Event]:
    """A list that fills with the events of *kinds* as they are published.

    By default with all that need no asking, but for what the journal says from its own thread, at a time of its own.
    """
    heard: list[Event] = []

    def hear(event: Event) -> None:
        if kinds or not isinstance(event, JournalDegraded | JournalRestored):
            heard.append(event)

    service.bus.subscribe(kinds or (Event,), hear)
    return heard


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
