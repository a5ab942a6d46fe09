"""The limits of the journal: what it holds in memory, and how long it waits."""

from __future__ import annotations

import msgspec

from recovery import validation
from recovery.suggestions import Suggesting

COMMIT_TIMEOUT = 5.0
"""Seconds that a wait for a commit takes at most, by default."""


class JournalConfig(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """What the journal holds in memory, and how long it waits. The defaults suit programs.

    Args:
        capacity: Events that may wait to be written. Ten times as many cancellations may wait besides.
        max_bytes: Estimated bytes that the waiting events may take in memory.
        recent_bytes: Estimated bytes of recent calls, and of recent results, that lookups answer from memory.
        flush_interval: Seconds after which events are written although they fill no batch.
        poll_after_batch: Seconds after a batch during which the writer polls the queue instead of sleeping.
        command_interval: Seconds between two looks for commands to this process, and at the store's own files.
        adopt_every: Seconds between two looks for the files of processes that have died since ``resume()``; None adopts
            at the start only. The journal's thread looks when it wakes, twice a second with the default
            ``command_interval``.
        first_pause: Seconds before a store that failed is opened again. Each further failure doubles the pause.
        longest_pause: Seconds that this pause never exceeds.
        stall_timeout: Seconds without a written batch after which calls stop waiting for room in the queue.
        close_timeout: Seconds that ``close()``, and the end of the interpreter, wait for the writer.

    Raises:
        TypeError: An unknown field, or a value that is no number.
        ValueError: A value is negative, or ``adopt_every`` is 0.
    """

    capacity: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    recent_bytes: int = 4 * 1024 * 1024
    flush_interval: float = 0.02
    poll_after_batch: float = 0.5
    command_interval: float = 0.5
    adopt_every: float | None = 5.0
    first_pause: float = 0.1
    longest_pause: float = 5.0
    stall_timeout: float = 5.0
    close_timeout: float = 4.0

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if field != "adopt_every":
                validation.number(field, getattr(self, field))
        if self.adopt_every is not None:
            validation.number("adopt_every", self.adopt_every, above=0.0)


JOURNAL_DEFAULTS = JournalConfig()
