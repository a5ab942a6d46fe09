"""Orders: commands that wait for the next process."""

from __future__ import annotations

from recovery.journal.store import Command


class Order(Command, frozen=True, forbid_unknown_fields=True):
    """A command for the next process, until one has carried it out.

    Args:
        refused: Why the latest process has not carried it out; "" if none has tried.
    """

    refused: str = ""

    @property
    def about(self) -> str:
        """The id of the call to run again."""
        return f"{self.changes.get('call')}"
