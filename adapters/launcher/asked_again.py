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
"""Seconds after which a warning says that a call waits for the program."""

log = logging.getLogger("recovery.launch")


class NotAskedForError(Permanent):
    """A call that an earlier run left needs what the program gives with the call, and this run has not asked for it."""


class AskedAgain:
    """Lets resumed calls wait for the program. ``has_ended`` is set once it asks for nothing more."""

    def __init__(self) -> None:
        self.has_ended = False

    async def until(self, is_given: Callable[[], bool], name: str, what: str) -> None:
        """Wait until the program has given *what* the command *name* needs.

        Raises NotAskedForError if the program ends without.
        """
        due = time.monotonic() + NOTICE
        while not is_given():
            if self.has_ended:
                raise NotAskedForError(f"an earlier run left {name}, and this one did not ask for it again: {what}")
            if time.monotonic() > due:
                log.warning("%s waits for the program to ask for it again: %s", name, what)
                due = float("inf")
            await anyio.sleep(POLL_INTERVAL)
