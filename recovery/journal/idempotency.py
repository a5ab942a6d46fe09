"""Results under an idempotency key: recorded when a call succeeds, and returned instead of doing it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from events.recorded import Recorded
from recovery.journal.store import Query

if TYPE_CHECKING:
    from events.call import Call
    from recovery.journal.core import JournalCore
    from recovery.serialization.results import ResultCodec


class RecordedResults:
    """The recorded results of an operation's calls. Two calls of one key that overlap both run.

    Args:
        seconds: How long each result is good.
        codec: Writes and reads the results.
        journal: The journal, once there is one.
        warn_once: Logs why a result cannot be recorded.
        wall: The wall clock.
    """

    def __init__(
        self,
        seconds: float,
        codec: ResultCodec,
        journal: Callable[[], JournalCore | None],
        warn_once: Callable[[str], object],
    ) -> None:
        self.codec = codec
        self._seconds = seconds
        self._journal = journal
        self._warn_once = warn_once

    def record(self, call: Call, result: object) -> None:
        """Have *result* published with the success of *call*."""
        key, journal = call.idempotency_key, self._journal()
        if not key or journal is None:
            return
        try:
            data = self.codec.encoded(result)
        except ValueError as error:
            self._warn_once(str(error))
        else:
            call.recorded = Recorded(
                key=key,
                result=msgspec.Raw(data),
                until=time.time() + self._seconds,
                version=call.version,
                boot=journal.run.boot,
                until_in_boot=time.monotonic() + self._seconds,
            )

    def recall(self, call: Call) -> Recorded | None:
        """The result that a call of this key has recorded, if it is still good. Blocks if the file must be asked."""
        found = self._find(call)
        return self._if_good(found.wait() if isinstance(found, Query) else found, call.version)

    async def arecall(self, call: Call) -> Recorded | None:
        """As ``recall``, suspending the task."""
        found = self._find(call)
        return self._if_good(await found.await_answer() if isinstance(found, Query) else found, call.version)

    def _find(self, call: Call) -> Recorded | Query[Recorded] | None:
        journal = self._journal()
        if journal is None or not call.idempotency_key:
            return None
        return journal.lookup.result(call.operation.name, call.idempotency_key)

    def _if_good(self, recorded: Recorded | None, version: str) -> Recorded | None:
        journal = self._journal()
        if recorded is None or journal is None or recorded.version != version:
            return None
        if recorded.boot and recorded.boot == journal.run.boot:
            return recorded if time.monotonic() < recorded.until_in_boot else None
        return recorded if time.time() < recorded.until else None
