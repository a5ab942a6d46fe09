"""Whether the prompt that a server executes is stuck: no message, no line of output, no processor time for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from recovery import validation

STUCK_AFTER = 1800.0
"""Seconds: a model that is loaded or compiled is silent for many minutes, and a training for longer."""

MOST_STEP = 20.0
"""Seconds between two looks that count, at most: where everything stood still, no silence has passed."""


class Silence(Protocol):
    """As ``adapters.processes.silence.SilenceWatch``."""

    silent_for: float

    def start_over(self) -> None:
        """Note a sign of life."""

    def is_over(self) -> bool:
        """Look now, if that is due."""
        ...


class Watched(Protocol):
    """What is needed of a server: ``adapters.servers.supervisor.Supervisor``."""

    @property
    def starts(self) -> int:
        """How often it was started."""
        ...

    def watch_silence(self, allowed: float) -> Silence | None:
        """A watch over the output and the processes of its present run; None while it does not run."""


class StuckWatch:
    """Tells when the prompt that executes has given no sign of life for too long. It ends nothing.

    Signs of life are messages of the server, which ``sign`` is told, and of a server of ours also lines of output,
    processor time, input and output of all its processes.

    Args:
        server: The server; None for one that the launcher did not start.
        after: Seconds of silence that are allowed, above 0; None for any number.
        clock: The current time in seconds.

    Raises:
        TypeError, ValueError: *after* is no such number.
    """

    def __init__(
        self,
        server: Watched | None,
        after: float | None = STUCK_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if after is not None:
            validation.number("stuck_after", after, above=0.0)
        self.after = after
        self._server = server
        self._clock = clock
        self._of: tuple[str, int] = ("", 0)
        self._watch: Silence | None = None
        self._looked = clock()
        self._silent_for = 0.0

    def sign(self) -> None:
        """Note a sign of life: a message of the server, of any kind."""
        self._silent_for = 0.0
        if self._watch is not None:
            self._watch.start_over()

    def is_due(self, running: str) -> bool:
        """Whether it has been silent for too long. To be asked every second or so, in silence and otherwise.

        Args:
            running: The id of the prompt that executes; "" for none, which is never stuck.
        """
        now = self._clock()
        passed, self._looked = min(now - self._looked, MOST_STEP), now
        if self.after is None or not running:
            self._of = ("", self._of[1])
            return False
        of, before = (running, 0 if self._server is None else self._server.starts), self._of
        if of != before or (self._server is not None and self._watch is None):
            self._of = of
            if self._server is not None and (self._watch is None or of[1] != before[1]):
                self._watch = self._server.watch_silence(self.after)  # one for each start: it is told each line
            if self._watch is not None:
                self._watch.is_over()  # what was before does not count
            self.sign()
            return False
        if self._watch is not None:
            self._watch.is_over()
            return self._watch.silent_for >= self.after
        self._silent_for += passed
        return self._silent_for >= self.after
