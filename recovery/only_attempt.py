"""What ``recovery.context`` answers in a call while recovery is switched off."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable


class OnlyAttempt:
    """The first and only attempt of a call that recovery does not run, for ``recovery.context``. It is its call, too.

    Args:
        make_key: Makes the idempotency key of the call when its body asks for it; ``None`` where there is none.
    """

    number = 1
    cancelled = None
    is_ended = False
    fence = 0

    def __init__(self, make_key: Callable[[], object] | None = None) -> None:
        self._make_key = make_key
        self.saved: bytes | None = None
        """The JSON of the latest checkpoint."""

    @property
    def call(self) -> OnlyAttempt:
        """What belongs to the call, not to the attempt."""
        return self

    @functools.cached_property
    def id(self) -> str:
        """An id, as a call has."""
        return os.urandom(6).hex()

    @property
    def idempotency_key(self) -> str:
        """The idempotency key; "" where there is none."""
        return "" if self._make_key is None else str(self._make_key())

    def checkpoint(self, data: bytes) -> None:
        """Keep *data* for this call alone."""
        self.saved = data

    def progress(self, done: float) -> None:
        """Nothing waits for progress."""
