"""For the tests of this folder: ears that note what the bus says."""

from __future__ import annotations

from events.event import Fact
from events.journal_events import JournalDegraded, JournalRestored
from recovery.service import Recovery


def facts_of(service: Recovery, *kinds: type[Fact]) -> list[Fact]:
    """A list that fills with the facts of *kinds* as they are published.

    By default with all that need no asking, but for what the journal says from its own thread, at a time of its own.
    """
    heard: list[Fact] = []

    def hear(fact: Fact) -> None:
        if kinds or not isinstance(fact, JournalDegraded | JournalRestored):
            heard.append(fact)

    service.bus.subscribe(kinds or (Fact,), hear)
    return heard


def names(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]
