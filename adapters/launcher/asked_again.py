"""What a resumed call needs of the program that runs now: the values of its variables, and its function."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio

from events.errors import Permanent

POLL_INTERVAL = 0.05
"""Seconds between two looks. What the program does comes from any of its threads."""

NOTICE = 5.0
"""Default of *notice*."""

log = logging.getLogger("recovery.launch")


class NotAskedForError(Permanent):
    """A call that an earlier run left needs what the program gives with the call, and this run has not asked for it."""


class AskedAgain:
    """Lets resumed calls wait for the program. ``has_ended`` is set once it asks for nothing more.

    Args:
        notice: Seconds after which a warning says that a call waits for the program.
    """

    def __init__(self, notice: float = NOTICE) -> None:
        self.has_ended = False
        self._notice = notice

    async def until(
        self, is_given: Callable[[], bool], name: str, what: str, *, is_coming: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until the program has given *what* the command *name* needs.

        Args:
            is_given: Whether it has.
            name: The command, for the warning.
            what: What it needs, for the warning.
            is_coming: Whether the program prepares it, as a server that starts: there is nothing to warn of then.

        Raises:
            NotAskedForError: The program ends without.
        """
        due = time.monotonic() + self._notice
        while not is_given():
            if self.has_ended:
                raise NotAskedForError(f"an earlier run left {name}, and this one did not ask for it again: {what}")
            if is_coming():
                due = time.monotonic() + self._notice
            if time.monotonic() > due:
                log.warning("%s waits for the program to ask for it again: %s", name, what)
                due = float("inf")
            await anyio.sleep(POLL_INTERVAL)
