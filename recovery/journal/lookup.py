"""Find one call, or one recorded result: in memory if it is recent, otherwise in the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from events.event import CallEvent, Event
from events.operation_events import Recorded
from recovery.journal.encoding import readable
from recovery.journal.history import CallRecord, replay
from recovery.journal.queue import WriteQueue
from recovery.journal.receipts import COMMIT_TIMEOUT
from recovery.journal.recent_calls import RecentCallCache, recorded_in, result_key
from recovery.journal.store import Query, Store

MAX_RESULTS_READ = 1024
"""Results of earlier runs that the first lookup of a result reads at once."""


class Lookup:
    """Finds single calls and results. Running, waiting and recent ones need no file.

    Others are read on the journal's thread: ``call`` and ``result`` block meanwhile, ``acall`` and ``aresult`` suspend
    the task. The answer is ``None`` after *timeout* seconds, and while the journal cannot be read.
    """

    def __init__(self, recent_calls: RecentCallCache, queue: WriteQueue, ask: Callable[[Query], None]) -> None:
        self._recent_calls = recent_calls
        self._queue = queue
        self._ask = ask

    def call(self, call: str, timeout: float = COMMIT_TIMEOUT) -> CallRecord | None:
        """The record of the call with that id, or ``None`` if the journal has none."""
        return self._known_call(call) or self._wait(self._call_query(call), timeout)

    async def acall(self, call: str, timeout: float = COMMIT_TIMEOUT) -> CallRecord | None:
        """As ``call``, suspending the task."""
        return self._known_call(call) or await self._await(self._call_query(call), timeout)

    def result(self, operation: str, key: str, timeout: float = COMMIT_TIMEOUT) -> Recorded | None:
        """The latest result that *operation* recorded under that idempotency key; it may have expired."""
        found = self._known_result(operation, key)
        if found is not None or self._recent_calls.knows_every_result:
            return found
        answer: Recorded | None = self._wait(self._result_query(operation, key), timeout)
        return answer

    async def aresult(self, operation: str, key: str, timeout: float = COMMIT_TIMEOUT) -> Recorded | None:
        """As ``result``, suspending the task."""
        found = self._known_result(operation, key)
        if found is not None or self._recent_calls.knows_every_result:
            return found
        answer: Recorded | None = await self._await(self._result_query(operation, key), timeout)
        return answer

    def _known_call(self, call: str) -> CallRecord | None:
        return self._recent_calls.call(call, self._waiting_of(call))

    def _waiting_of(self, call: str) -> list[tuple[int, Event]]:
        return self._queue.waiting(lambda event: isinstance(event, CallEvent) and event.call == call)

    def _known_result(self, operation: str, key: str) -> Recorded | None:
        return self._queue.results.find(operation, key) or self._recent_calls.result(operation, key)

    def _call_query(self, call: str) -> Query:
        async def read(store: Store) -> CallRecord | None:
            records: dict[str, CallRecord] = {}
            for run, event in readable(await store.history(call)):
                replay(records, run, (event,))
            return self._recent_calls.with_waiting(records, self._waiting_of(call)).get(call)

        return Query(read)

    def _result_query(self, operation: str, key: str) -> Query:
        async def read(store: Store) -> Recorded | None:
            if not self._recent_calls.has_read_results:
                rows = await store.recorded(limit=MAX_RESULTS_READ)
                events = [event for _, event in readable(rows)]
                self._recent_calls.know_results(events, are_all=len(rows) < MAX_RESULTS_READ)
            found = self._recent_calls.result(operation, key)
            if found is not None or self._recent_calls.knows_every_result:
                return found
            rows = await store.recorded(result_key(operation, key))
            return next((recorded for _, event in readable(rows) if (recorded := recorded_in(event))), None)

        return Query(read)

    def _wait(self, query: Query, timeout: float) -> Any:  # what the query's own annotation says
        self._ask(query)
        query.latch.wait(timeout)
        return query.answer

    async def _await(self, query: Query, timeout: float) -> Any:
        self._ask(query)
        with anyio.move_on_after(timeout):
            await query.latch.opened()
        return query.answer
