"""Builders for the tests of this folder: functions that fail as scripted, and ears that note what the bus says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from events.facts import Fact
from recovery.service import Recovery


class Script:
    """Raises each of *errors* in turn, then returns "done"; ``calls`` counts."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def as_async(self) -> Callable[[], Awaitable[str]]:
        async def flaky() -> str:
            return self()

        return flaky


def facts_of(service: Recovery, *kinds: type[Fact]) -> list[Fact]:
    """A list that fills with the facts of *kinds* (all that need no asking, by default) as they are published."""
    heard: list[Fact] = []
    service.bus.subscribe(kinds or (Fact,), heard.append)
    return heard


def names(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]
