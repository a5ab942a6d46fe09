"""Results under an idempotency key: recorded when a call succeeds, and returned instead of doing it again."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from events.attempt import Attempt
from events.operation_events import Recorded
from recovery.journal.core import JournalCore
from recovery.serialization import encoded_or_none


class RecordedResults:
    """The results of an operation's calls, each good for *seconds*; *warn_once* is told why one cannot be recorded.

    Two calls of one key that overlap both run: a result is there when the first has succeeded.
    """

    def __init__(
        self,
        seconds: float,
        journal: Callable[[], JournalCore | None],
        warn_once: Callable[[str], object],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._seconds = seconds
        self._journal = journal
        self._complain = warn_once
        self._wall = wall

    def record(self, attempt: Attempt, result: object) -> None:
        """Have *result* told with the attempt's success."""
        if attempt.idempotency_key:
            data = encoded_or_none(result, self._complain)
            if data is not None:
                until = self._wall() + self._seconds
                raw = msgspec.Raw(data)
                attempt.recorded = Recorded(
                    key=attempt.idempotency_key, result=raw, until=until, version=attempt.version
                )

    def recall(self, attempt: Attempt) -> Recorded | None:
        """The result that a call of this key has recorded, if it is still good. Blocks if the file must be asked."""
        journal = self._journal()
        if journal is None or not attempt.idempotency_key:
            return None
        return self._if_good(journal.lookup.result(attempt.operation.name, attempt.idempotency_key), attempt.version)

    async def arecall(self, attempt: Attempt) -> Recorded | None:
        """As ``recall``, suspending the task."""
        journal = self._journal()
        if journal is None or not attempt.idempotency_key:
            return None
        found = await journal.lookup.aresult(attempt.operation.name, attempt.idempotency_key)
        return self._if_good(found, attempt.version)

    def _if_good(self, recorded: Recorded | None, version: str) -> Recorded | None:
        if recorded is None or recorded.until <= self._wall() or recorded.version != version:
            return None
        return recorded
