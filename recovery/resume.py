"""Carry on what a dead process left: find the calls in the journal, and run them where their colour can run."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio.abc
import msgspec

from events.errors import RecoveryError
from events.operation import Attempt
from events.receivers import is_async
from events.verdicts import GiveUp, Retry, settle
from recovery.decorator import decode_arguments
from recovery.drivers import Driver
from recovery.journal import Journal
from recovery.ledger import CallRecord, remaining
from recovery.plan import Plan
from recovery.registry import Definition, Registry
from recovery.store import Pending
from recovery.subscribers import MAYBE_SENT, judge
from recovery.waiting import Gate

THREADS = 4
"""How many plain calls are carried on at a time."""

log = logging.getLogger("recovery")


class ResumedCall:
    """One call that is carried on. Wait for it with ``wait()`` or ``await``; then *result* or *error* is set."""

    def __init__(self, record: CallRecord) -> None:
        self.record = record
        self.result: Any = None
        self.error: BaseException | None = None
        self._over = Gate()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_open

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended, *timeout* seconds at the most; whether it has."""
        return self._over.wait(timeout)

    def __await__(self) -> Generator[Any, None, ResumedCall]:
        """Suspend until it has ended."""
        yield from self._over.passed().__await__()
        return self

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Note how it ended."""
        self.result = result
        self.error = error
        self._over.open()


class Resumption:
    """What ``resume()`` found. Complete once ``loaded`` is open, which both waits include.

    *calls* are carried on here. *left* are pending calls that are not: their operation is not defined here, has another
    version, kept no arguments, or is async where no loop runs; they stay in the journal.
    """

    def __init__(self) -> None:
        self.loaded = Gate()
        self.calls: list[ResumedCall] = []
        self.left: list[CallRecord] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Block until every call has ended, *timeout* seconds at the most; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(gate.wait(None if end is None else max(0.0, end - time.monotonic())) for gate in self._gates())

    def _gates(self) -> Generator[Gate | ResumedCall, None, None]:
        yield self.loaded
        yield from self.calls

    def __await__(self) -> Generator[Any, None, Resumption]:
        """Suspend until every call has ended."""
        yield from self.loaded.passed().__await__()
        for call in self.calls:
            yield from call.__await__()
        return self


class Resumer:
    """Finds the calls of a journal that the registry can carry on, and runs them."""

    def __init__(self, registry: Registry, driver_of: Callable[[Definition], Driver], journal: Journal) -> None:
        self._registry = registry
        self._driver_of = driver_of
        self._journal = journal

    def in_threads(self) -> Resumption:
        """Carry on plain calls on daemon threads; async ones stay pending, and are named in one warning."""
        found = Resumption()
        threading.Thread(target=self._load_and_run, args=(found,), name="recovery-resume", daemon=True).start()
        return found

    def in_tasks(self, group: anyio.abc.TaskGroup) -> Resumption:
        """Carry on async calls as tasks of *group*, and plain calls on daemon threads."""
        found = Resumption()
        group.start_soon(self._load_and_start, found, group)
        return found

    def _load_and_run(self, found: Resumption) -> None:
        plain, awaited = self._sort(found, self._journal.pending())
        found.calls = plain
        if awaited:
            found.left += [call.record for call in awaited]
            names = ", ".join(sorted({call.record.operation for call in awaited}))
            log.warning("async calls stay pending (%s): resume them under `async with`", names)
        found.loaded.open()
        self._start_threads(plain)

    async def _load_and_start(self, found: Resumption, group: anyio.abc.TaskGroup) -> None:
        self._journal.look()
        await self._journal.loaded.passed()
        plain, awaited = self._sort(found, self._journal.pending())
        found.calls = plain + awaited
        for call in awaited:
            group.start_soon(self._carry_on_async, call)
        found.loaded.open()
        self._start_threads(plain)

    def _sort(self, found: Resumption, pending: Pending) -> tuple[list[ResumedCall], list[ResumedCall]]:
        plain: list[ResumedCall] = []
        awaited: list[ResumedCall] = []
        for record in pending.calls:
            definition = self._registry.get(record.operation)
            if definition is None or definition.resume is None or not record.is_resumable:
                found.left.append(record)
            elif record.version != definition.plan.version:
                found.left.append(record)
                log.warning(
                    "call %s of %s stays pending: journalled under version %r, defined as version %r",
                    record.call,
                    record.operation,
                    record.version,
                    definition.plan.version,
                )
            else:
                (awaited if is_async(definition.resume) else plain).append(ResumedCall(record))
        return plain, awaited

    def _start_threads(self, calls: list[ResumedCall]) -> None:
        todo: queue.SimpleQueue[ResumedCall] = queue.SimpleQueue()
        # Who is ready comes first: a delay keeps a thread busy.
        for call in sorted(calls, key=lambda call: call.record.due or 0.0):
            todo.put(call)

        def work() -> None:
            while True:
                try:
                    call = todo.get_nowait()
                except queue.Empty:
                    return
                self._carry_on(call)

        for number in range(min(THREADS, len(calls))):
            threading.Thread(target=work, name=f"recovery-resume-{number}", daemon=True).start()

    def _carry_on(self, call: ResumedCall) -> None:
        try:
            driver, attempt, function, args, kwargs, delay = self._prepare(call.record)
            call.end(result=driver.run(function, tuple(args), kwargs, attempt, delay=delay))
        except BaseException as error:  # it has been published; whoever waits is told
            call.end(error=error)

    async def _carry_on_async(self, call: ResumedCall) -> None:
        try:
            driver, attempt, function, args, kwargs, delay = self._prepare(call.record)
            call.end(result=await driver.arun(function, tuple(args), kwargs, attempt, delay=delay))
        except Exception as error:  # it has been published; whoever waits is told
            call.end(error=error)
        except BaseException as error:
            call.end(error=error)
            raise

    @staticmethod
    def _why_not(record: CallRecord, plan: Plan) -> str | None:
        """Why there cannot be another attempt, or ``None``: what its process died too early to say."""
        if record.judged is not None:  # the same question again
            verdict = settle([judge(plan, record.judged, 0.0)])
            return verdict.reason if isinstance(verdict, GiveUp) else None
        limit = plan.policy.most_retries
        if limit is not None and record.retries > limit:
            return f"out of retries ({limit})"
        if record.state == "running" and not plan.may_repeat:
            return MAYBE_SENT
        return None

    def _prepare(
        self, record: CallRecord
    ) -> tuple[Driver, Attempt, Callable[..., Any], list[Any], dict[str, Any], float]:
        definition = self._registry.get(record.operation)
        assert definition is not None
        assert definition.resume is not None
        assert record.arguments is not None
        args, kwargs = decode_arguments(record.arguments)
        record = _decided(record, definition.plan)
        operation = definition.part(record.key)
        attempt = Attempt(operation, call=record.call, number=record.attempt, retries=record.retries)
        attempt.arguments = record.arguments
        attempt.version = record.version
        attempt.saved = record.saved
        pending = self._journal.pending()
        now = msgspec.structs.replace(self._journal.run, monotonic=operation.bus.clock(), wall=time.time())
        delay = remaining(record, pending.runs, now)
        attempt.began = operation.bus.clock() - record.elapsed
        attempt.error = record.failures[-1] if record.failures else None
        attempt.category = None if record.judged is None else record.judged.category
        attempt.refills = record.refills
        attempt.done = record.done
        hopeless = self._why_not(record, definition.plan)
        if hopeless is not None:
            attempt.give_up(GiveUp(hopeless))
            raise RecoveryError(f"{record.operation}: call {record.call} is not carried on: {hopeless}")
        attempt.waited = record.delay
        attempt.resumed(delay)
        return self._driver_of(definition), attempt, definition.resume, args, kwargs, delay


def _decided(record: CallRecord, plan: Plan) -> CallRecord:
    """*record* with the wait that its process died too early to write down."""
    if record.judged is None:
        return record
    verdict = judge(plan, record.judged, 0.0)
    if isinstance(verdict, GiveUp):
        return record
    retries = record.judged.retries + (isinstance(verdict, Retry) or verdict.charged)
    due = record.judged.at + verdict.after
    return msgspec.structs.replace(record, due=due, delay=verdict.after, retries=retries)
