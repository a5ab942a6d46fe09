"""Resume what a dead process left: find the calls in the journal, and run them where their colour can run."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio.abc
import anyio.lowlevel
import msgspec

from events.attempt import Attempt
from events.call import Call, Progress
from events.callables import is_async
from events.errors import RecoveryError
from events.runner_api import give_up, quarantine, resume
from events.verdicts import GiveUp, Retry, settle
from recovery.execution.runner import Runner
from recovery.journal.history import CallRecord, remaining
from recovery.journal.journal import Journal
from recovery.journal.store import Pending
from recovery.operations import Definition, Registry
from recovery.resume.handles import ResumedCall, Resumption
from recovery.serialization import decoded_arguments
from recovery.settings import OperationConfig
from recovery.subscribers.retry import MAYBE_SENT, judge
from recovery.waiting.waiters import soon_in_this_loop

THREADS = 4
"""How many plain calls are resumed at a time."""

AT_ONCE = 100
"""How many coroutines are started before they get their turn: of ten thousand, the first does not wait for all."""

MAX_CRASHES = 3
"""So often a call is resumed though its process died in an attempt, without a new checkpoint in between."""

log = logging.getLogger("recovery")


class Resumer:
    """Finds the calls of a journal that the registry can resume, and runs them."""

    def __init__(
        self,
        registry: Registry,
        runner_of: Callable[[Callable[..., Any], Definition], Runner],
        journal: Journal,
        spread: Callable[[int], float],
    ) -> None:
        self._registry = registry
        self._runner_of = runner_of
        self._journal = journal
        self._spread = spread

    def in_threads(self) -> Resumption:
        """Resume plain calls on daemon threads; async ones stay pending, and are named in one warning."""

        def start(call: ResumedCall) -> None:
            if self._is_async(call.record):
                raise RecoveryError(f"call {call.record.call}: async calls are resumed under `async with`")
            self._start_threads([call])

        found = Resumption(start)
        threading.Thread(target=self._load_and_run, args=(found,), name="recovery-resume", daemon=True).start()
        return found

    def in_tasks(self, group: anyio.abc.TaskGroup) -> Resumption:
        """Resume async calls as tasks of *group*, and plain calls on daemon threads."""
        soon = soon_in_this_loop()
        hand_in, handed_in = anyio.create_memory_object_stream[ResumedCall](math.inf)

        def start(call: ResumedCall) -> None:
            if self._is_async(call.record):
                soon(take, call)
            else:
                self._start_threads([call])

        def take(call: ResumedCall) -> None:
            try:
                hand_in.send_nowait(call)
            except anyio.ClosedResourceError:
                call.end(error=RecoveryError("the service has ended"))

        async def receive() -> None:  # a callback of the loop's is no task, and cannot start one
            with handed_in:
                async for call in handed_in:
                    group.start_soon(self._resume_async, call)

        def close() -> None:
            hand_in.close()
            if not found.loaded.is_open:  # whoever leaves does not wait for a journal that cannot be read
                self._journal.look(now=True)

        found = Resumption(start, close)
        group.start_soon(self._load_and_start, found, group)
        group.start_soon(receive)
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
        await self._journal.loaded.opened()
        plain, awaited = self._sort(found, self._journal.pending())
        found.calls = plain + awaited
        for number, call in enumerate(awaited):
            # Those that are overdue do not start all at once.
            group.start_soon(self._resume_async, call, self._spread(len(awaited)) if number else 0.0)
            if number % AT_ONCE == 0:
                await anyio.sleep(0.001)  # no mere checkpoint: the journal's thread needs the interpreter, too
        found.loaded.open()
        self._start_threads(plain)

    def _sort(self, found: Resumption, pending: Pending) -> tuple[list[ResumedCall], list[ResumedCall]]:
        plain: list[ResumedCall] = []
        awaited: list[ResumedCall] = []
        found.unreadable = pending.unreadable
        for record in pending.calls:
            definition = self._registry.get(record.operation)
            if definition is None or definition.resume is None or not record.is_resumable:
                found.left.append(record)
            elif record.version != definition.config.version:
                found.left.append(record)
                log.warning(
                    "call %s of %s stays pending: journalled under version %r, defined as version %r",
                    record.call,
                    record.operation,
                    record.version,
                    definition.config.version,
                )
            elif record.state == "quarantined":
                found.quarantined.append(record)
            elif record.state == "running" and record.crashes >= MAX_CRASHES and not record.interrupted:
                reason = f"{record.crashes + 1} processes died in it without a new checkpoint"
                log.error("call %s of %s is quarantined: %s", record.call, record.operation, reason)
                operation = definition.keyed(record.key)
                quarantine(Attempt(Call(operation, record.call), record.attempt), reason)
                found.quarantined.append(record)
            else:
                (awaited if self._is_async(record) else plain).append(ResumedCall(record))
        return plain, awaited

    def _is_async(self, record: CallRecord) -> bool:
        definition = self._registry.get(record.operation)
        return definition is not None and is_async(definition.resume)

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
                self._resume(call)

        for number in range(min(THREADS, len(calls))):
            threading.Thread(target=work, name=f"recovery-resume-{number}", daemon=True).start()

    def _resume(self, call: ResumedCall) -> None:
        try:
            runner, attempt, args, kwargs, delay = self._prepare(call)
            call.end(result=runner.run(attempt, tuple(args), kwargs, delay=delay))
        except BaseException as error:  # it has been published; whoever waits is told
            call.end(error=error)

    async def _resume_async(self, call: ResumedCall, extra: float = 0.0) -> None:
        try:
            runner, attempt, args, kwargs, delay = self._prepare(call, extra)
            call.end(result=await runner.arun(attempt, tuple(args), kwargs, delay=delay))
        except Exception as error:  # it has been published; whoever waits is told
            call.end(error=error)
        except BaseException as error:
            call.end(error=error)
            raise

    @staticmethod
    def _why_not(record: CallRecord, config: OperationConfig) -> str | None:
        """Why there cannot be another attempt, or ``None``: what its process died too early to say."""
        if record.judged is not None:  # the same question again
            verdict = settle([judge(config, record.judged, 0.0)])
            return verdict.reason if isinstance(verdict, GiveUp) else None
        limit = config.policy.most_retries
        if limit is not None and record.retries > limit:
            return f"out of retries ({limit})"
        if record.state == "running" and not config.may_repeat:
            return MAYBE_SENT
        return None

    def _prepare(
        self, call: ResumedCall, extra: float = 0.0
    ) -> tuple[Runner, Attempt, list[Any], dict[str, Any], float]:
        record = call.record
        definition = self._registry.get(record.operation)
        assert definition is not None
        assert definition.resume is not None
        assert record.arguments is not None
        args, kwargs = decoded_arguments(record.arguments)
        record = _decided(record, definition.config)
        operation = definition.keyed(record.key)
        now = operation.bus.clock()
        run = msgspec.structs.replace(self._journal.run, monotonic=now, wall=time.time())
        delay = remaining(record, self._journal.pending().runs, run) or extra
        has_progress = record.done > 0.0 or record.progress_resets > 0
        continued = Call(
            operation,
            record.call,
            began=now - record.elapsed,
            retries=record.retries,
            progress=Progress(record.done, record.progress_resets) if has_progress else None,
            saved=record.saved,
            arguments=record.arguments,
            version=record.version,
            idempotency_key=record.idempotency_key,
            category=None if record.judged is None else record.judged.category,
            error=record.failures[-1] if record.failures else None,
            has_failed=True,
            is_resumed=True,
        )
        attempt = Attempt(continued, record.attempt, record.delay)
        hopeless = self._why_not(record, definition.config)
        if hopeless is not None:
            give_up(attempt, GiveUp(hopeless))
            raise RecoveryError(f"{record.operation}: call {record.call} is not resumed: {hopeless}")
        resume(attempt, delay)
        call.attempt = attempt
        return self._runner_of(definition.resume, definition), attempt, args, kwargs, delay


def _decided(record: CallRecord, config: OperationConfig) -> CallRecord:
    """*record* with the wait that its process died too early to write down."""
    if record.judged is None:
        return record
    verdict = judge(config, record.judged, 0.0)
    if isinstance(verdict, GiveUp):
        return record
    retries = record.judged.retries + (isinstance(verdict, Retry) or verdict.counts_as_retry)
    due = record.judged.at + verdict.after
    return msgspec.structs.replace(record, due=due, delay=verdict.after, retries=retries)
