"""Where a call stands, and what is recorded under a key: from memory if it is recent, from the file if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio

from events.codec import decode
from events.errors import CodecError
from events.event import CallEvent, Event
from events.operation_events import Recorded
from recovery.journal.history import CallRecord, replay
from recovery.journal.queue import WriteQueue
from recovery.journal.receipts import COMMIT_BUDGET
from recovery.journal.recent_calls import RecentCallCache, recorded_in, result_key
from recovery.journal.store import Query, Row, Store

MOST_RESULTS = 1024
"""How many results of earlier runs are read when the first is asked for."""


class Lookup:
    """Finds single calls and results. What is live or recent is known at once and touches no file.

    For anything else the file is read on the journal's thread: the plain methods block for that, the others suspend the
    task, *timeout* seconds at the most; then, and where the journal cannot be read, the answer is ``None``.
    """

    def __init__(self, recent_calls: RecentCallCache, queue: WriteQueue, ask: Callable[[Query], None]) -> None:
        self._recent_calls = recent_calls
        self._queue = queue
        self._ask = ask

    def call(self, call: str, timeout: float = COMMIT_BUDGET) -> CallRecord | None:
        """Where the call with that id stands; ``None`` if nobody knows of it."""
        return self._known_call(call) or self._wait(self._about_call(call), timeout)

    async def acall(self, call: str, timeout: float = COMMIT_BUDGET) -> CallRecord | None:
        """As ``call``."""
        return self._known_call(call) or await self._await(self._about_call(call), timeout)

    def result(self, operation: str, key: str, timeout: float = COMMIT_BUDGET) -> Recorded | None:
        """What a call of *operation* recorded last under that idempotency key, whether it is still good or not."""
        found = self._known_result(operation, key)
        if found is not None or self._recent_calls.knows_every_result:
            return found
        answer: Recorded | None = self._wait(self._about_result(operation, key), timeout)
        return answer

    async def aresult(self, operation: str, key: str, timeout: float = COMMIT_BUDGET) -> Recorded | None:
        """As ``result``."""
        found = self._known_result(operation, key)
        if found is not None or self._recent_calls.knows_every_result:
            return found
        answer: Recorded | None = await self._await(self._about_result(operation, key), timeout)
        return answer

    def _known_call(self, call: str) -> CallRecord | None:
        return self._recent_calls.call(call, self._waiting_of(call))

    def _waiting_of(self, call: str) -> list[tuple[int, Event]]:
        return self._queue.waiting(lambda event: isinstance(event, CallEvent) and event.call == call)

    def _known_result(self, operation: str, key: str) -> Recorded | None:
        return self._queue.recorded(operation, key) or self._recent_calls.result(operation, key)

    def _about_call(self, call: str) -> Query:
        async def ask(store: Store) -> CallRecord | None:
            records: dict[str, CallRecord] = {}
            for run, event in _readable(await store.history(call)):
                replay(records, run, (event,))
            return self._recent_calls.after(records, self._waiting_of(call)).get(call)

        return Query(ask)

    def _about_result(self, operation: str, key: str) -> Query:
        async def ask(store: Store) -> Recorded | None:
            if not self._recent_calls.has_looked:
                rows = await store.recorded(limit=MOST_RESULTS)
                events = [event for _, event in _readable(rows)]
                self._recent_calls.know_results(events, are_all=len(rows) < MOST_RESULTS)
            found = self._recent_calls.result(operation, key)
            if found is not None or self._recent_calls.knows_every_result:
                return found
            rows = await store.recorded(result_key(operation, key))
            return next((recorded for _, event in _readable(rows) if (recorded := recorded_in(event))), None)

        return Query(ask)

    def _wait(self, query: Query, timeout: float) -> Any:
        self._ask(query)
        query.latch.wait(timeout)
        return query.answer

    async def _await(self, query: Query, timeout: float) -> Any:
        self._ask(query)
        with anyio.move_on_after(timeout):
            await query.latch.opened()
        return query.answer


def _readable(rows: Sequence[Row]) -> Iterator[tuple[str, Event]]:
    for row in rows:
        try:
            if row.is_readable:
                yield row.run, decode(row.body)
        except CodecError:
            continue  # who opens the journal says so
