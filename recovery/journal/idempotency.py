"""Results under an idempotency key: recorded when a call succeeds, and returned instead of doing it again."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from events.attempt import Attempt
from events.operation_events import Recorded
from recovery.journal.core import JournalCore
from recovery.journal.store import Query
from recovery.serialization import encoded_or_none


class RecordedResults:
    """The results of an operation's calls, each good for *seconds*; *warn_once* is told why one cannot be recorded.

    Two calls of one key that overlap both run: a result is there when the first has succeeded.
    """

    def __init__(
        self, seconds: float, journal: Callable[[], JournalCore | None], warn_once: Callable[[str], object]
    ) -> None:
        self._seconds = seconds
        self._journal = journal
        self._warn_once = warn_once

    def record(self, attempt: Attempt, result: object) -> None:
        """Have *result* told with the attempt's success."""
        key, until = attempt.idempotency_key, time.time() + self._seconds
        data = encoded_or_none(result, self._warn_once) if key else None
        if data is not None:
            attempt.recorded = Recorded(key=key, result=msgspec.Raw(data), until=until, version=attempt.version)

    def recall(self, attempt: Attempt) -> Recorded | None:
        """The result that a call of this key has recorded, if it is still good. Blocks if the file must be asked."""
        found = self._find(attempt)
        return self._if_good(found.wait() if isinstance(found, Query) else found, attempt.version)

    async def arecall(self, attempt: Attempt) -> Recorded | None:
        """As ``recall``, suspending the task."""
        found = self._find(attempt)
        return self._if_good(await found.awaited() if isinstance(found, Query) else found, attempt.version)

    def _find(self, attempt: Attempt) -> Recorded | Query[Recorded] | None:
        journal = self._journal()
        if journal is None or not attempt.idempotency_key:
            return None
        return journal.lookup.result(attempt.operation.name, attempt.idempotency_key)

    def _if_good(self, recorded: Recorded | None, version: str) -> Recorded | None:
        if recorded is None or recorded.until <= time.time() or recorded.version != version:
            return None
        return recorded
