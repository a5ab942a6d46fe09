"""For the tests of this folder: ears that note what the bus says."""

from __future__ import annotations

from events.facts import Fact
from recovery.service import Recovery


def facts_of(service: Recovery, *kinds: type[Fact]) -> list[Fact]:
    """A list that fills with the facts of *kinds* (all that need no asking, by default) as they are published."""
    heard: list[Fact] = []
    service.bus.subscribe(kinds or (Fact,), heard.append)
    return heard


def names(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]
