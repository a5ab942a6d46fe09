"""Events that a bus published, recorded for tests."""

from __future__ import annotations

from events.event import Event
from events.journal_events import JournalDegraded, JournalRestored
from recovery.service import Recovery


def events_of(service: Recovery, *kinds: type[Event]) -> list[Event]:
    """A list that fills with the events of *kinds* as they are published.

    By default all events, except the journal's own: its thread publishes them at any time.
    """
    received: list[Event] = []

    def receive(event: Event) -> None:
        if kinds or not isinstance(event, JournalDegraded | JournalRestored):
            received.append(event)

    service.bus.subscribe(kinds or (Event,), receive)
    return received


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
