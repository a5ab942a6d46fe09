"""Which calls of a journal a command is for: those that a filter admits, and that the command can act on. Pure."""

from __future__ import annotations

import msgspec

from adapters.journals.status import CallStatus, JournalStatus
from events.evidence import Category
from recovery.journal.store import CommandName
from recovery.policies.hosts import without_port

ACTS_ON: dict[CommandName, tuple[str, ...]] = {
    "retry": ("waiting", "paused", "left", "quarantined"),
    "pause": ("waiting", "queued", "left"),
    "unpause": ("paused", "left"),
    "reset": ("running", "waiting", "paused", "left"),
    "edit": ("running", "waiting", "paused"),
    "cancel": ("running", "waiting", "queued", "paused", "left", "quarantined", "unreadable"),
    "give up": ("waiting", "queued", "paused", "left", "quarantined", "unreadable"),
    "again": ("gave up", "cancelled", "rejected"),
}
"""The states in which a call can get a command."""

MOST = 1000
"""Calls that a filter selects at most, by default."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to act on. What is not given admits every call.

    Args:
        states: The states in which they are; of "again" by default "gave up" alone.
        has_failed: Only those that have failed at least once.
        operation: The name of their operation, or their name in the plan.
        key: The key of their operation, such as a host, with its port or without.
        category: The category of their latest failure.
        limit: The most calls, those with the latest events first.
    """

    states: tuple[str, ...] = ()
    has_failed: bool = False
    operation: str | None = None
    key: str | None = None
    category: Category | None = None
    limit: int = MOST

    def admits(self, call: CallStatus) -> bool:
        """Whether *call* is one of them, its state aside."""
        return (
            (call.failures != () or not self.has_failed)
            and self.operation in (None, call.operation, call.name)
            and self.key in (None, call.key, without_port(call.key))
            and self.category in (None, call.category)
        )


class Selected(msgspec.Struct, frozen=True):
    """The *calls* that a filter selects, and how many *more* it admits beyond its limit."""

    calls: tuple[CallStatus, ...]
    more: int


def select(status: JournalStatus, command: CommandName, wanted: Filter) -> Selected:
    """The calls of *status* that *wanted* admits and *command* can act on, those with the latest events first."""
    states = wanted.states or (("gave up",) if command == "again" else ACTS_ON[command])
    found = [
        call
        for call in sorted(status.calls, key=lambda call: -call.seen)
        if call.state in states and call.state in ACTS_ON[command] and not call.by and wanted.admits(call)
    ]
    return Selected(tuple(found[: wanted.limit]), max(len(found) - wanted.limit, 0))
