"""Resume the calls that dead processes left: find them in the journal, and run them in threads or tasks."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio.abc
import anyio.lowlevel
import msgspec

from events.call import Call
from events.callables import is_async
from events.errors import RecoveryError
from events.operation_events import OperationQuarantined, OperationResumed
from events.runner_api import give_up
from events.verdicts import GiveUp
from recovery.execution.runner import Runner
from recovery.journal.core import JournalCore
from recovery.journal.history import CallRecord, remaining
from recovery.operations import Definition, Registry
from recovery.redact import printable, redact
from recovery.resume.continuation import continued, decided, why_over
from recovery.resume.handles import ResumedCall, Resumption
from recovery.waiting.waiters import soon_in_this_loop

THREADS = 4
"""Plain calls that are resumed at a time."""

TASKS_PER_TURN = 100
"""Async calls that are started before the loop has a turn: of ten thousand, the first does not wait for all."""

MAX_CRASHES = 3
"""Crashes in attempts of a call, without a new checkpoint in between, after which the call is quarantined."""

log = logging.getLogger("recovery")


class Resumer(msgspec.Struct, eq=False):
    """Finds the calls in a journal that the registry can resume, and runs them.

    Its fields, in this order: the operations that are defined; what makes the runner of a function; the journal with
    the calls; and the seconds to wait before one of that many calls starts, so that not all start at once.
    """

    _registry: Registry
    _runner_of: Callable[[Callable[..., Any], Definition], Runner]
    _journal: JournalCore
    _jitter: Callable[[int], float]

    def in_threads(self) -> Resumption:
        """Resume plain calls on daemon threads; async ones stay pending, and one warning names them."""

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

        async def receive() -> None:  # a callback of the loop is no task, and cannot start one
            with handed_in:
                async for call in handed_in:
                    group.start_soon(self._resume_async, call)

        def close() -> None:
            hand_in.close()
            if not found.loaded.is_open:  # or the service would wait for a journal that cannot be read
                self._journal.look(now=True)

        found = Resumption(start, close)
        group.start_soon(self._load_and_start, found, group)
        group.start_soon(receive)
        return found

    def _load_and_run(self, found: Resumption) -> None:
        plain, in_tasks = self._sort(found)
        found.calls = plain
        if in_tasks:
            found.left += [call.record for call in in_tasks]
            names = ", ".join(sorted({call.record.operation for call in in_tasks}))
            log.warning("async calls stay pending (%s): resume them under `async with`", names)
        found.loaded.open()
        self._start_threads(plain)

    async def _load_and_start(self, found: Resumption, group: anyio.abc.TaskGroup) -> None:
        self._journal.look()
        await self._journal.loaded.opened()
        plain, in_tasks = self._sort(found)
        found.calls = plain + in_tasks
        for number, call in enumerate(in_tasks):
            # Calls that are overdue do not start all at once.
            group.start_soon(self._resume_async, call, self._jitter(len(in_tasks)) if number else 0.0)
            if number % TASKS_PER_TURN == 0:
                await anyio.sleep(0.001)  # no mere checkpoint: the journal's thread needs the interpreter, too
        found.loaded.open()
        self._start_threads(plain)

    def _sort(self, found: Resumption) -> tuple[list[ResumedCall], list[ResumedCall]]:
        """Note in *found* the calls that are not resumed; the plain calls and the async ones that are."""
        plain: list[ResumedCall] = []
        in_tasks: list[ResumedCall] = []
        pending = self._journal.pending()
        found.unreadable = pending.unreadable
        for record in pending.calls:
            definition = self._registry.get(record.operation)
            if definition is None or definition.resume is None or not record.is_resumable:
                found.left.append(record)
            elif record.version != (version := definition.config.version):
                found.left.append(record)
                why = f"journalled under version {record.version!r}, defined as version {version!r}"
                log.warning("call %s of %s stays pending: %s", record.call, record.operation, why)
            elif record.state == "quarantined":
                found.quarantined.append(record)
            elif record.state == "running" and record.crashes >= MAX_CRASHES and not record.interrupted:
                reason = f"{record.crashes + 1} processes died in it without a new checkpoint"
                log.error("call %s of %s is quarantined: %s", record.call, record.operation, reason)
                quarantined = Call(definition.keyed(record.key), record.call)
                quarantined.publish(OperationQuarantined, record.attempt, reason=reason)
                found.quarantined.append(record)
            else:
                (in_tasks if self._is_async(record) else plain).append(ResumedCall(record))
        return plain, in_tasks

    def _is_async(self, record: CallRecord) -> bool:
        definition = self._registry.get(record.operation)
        return definition is not None and is_async(definition.resume)

    def _start_threads(self, calls: list[ResumedCall]) -> None:
        # Calls that are due come first: a delay keeps a thread busy.
        todo = deque(sorted(calls, key=lambda call: call.record.due or 0.0))

        def work() -> None:
            with contextlib.suppress(IndexError):  # none is left; what a call raises does not come here
                while True:
                    self._resume(todo.popleft())

        for number in range(min(THREADS, len(calls))):
            threading.Thread(target=work, name=f"recovery-resume-{number}", daemon=True).start()

    def _resume(self, call: ResumedCall) -> None:
        try:
            call.end(result=self._prepare(call)())
        except BaseException as error:  # it is published, and the handle has it
            call.end(error=error)

    async def _resume_async(self, call: ResumedCall, extra: float = 0.0) -> None:
        try:
            call.end(result=await self._prepare(call, extra)())
        except BaseException as error:  # it is published, and the handle has it
            call.end(error=error)
            if not isinstance(error, Exception):
                raise

    def _prepare(self, call: ResumedCall, extra: float = 0.0) -> Callable[[], Any]:
        """Publish that the call is resumed; what runs it. A call that is not due waits first, or *extra* seconds."""
        definition = self._registry.get(call.record.operation)
        assert definition is not None
        assert definition.resume is not None
        assert definition.codec is not None
        assert call.record.arguments is not None
        try:
            args, kwargs = definition.codec.decoded(call.record.arguments)
        except ValueError as error:
            why = printable(redact(str(error)))
            log.warning("call %s of %s stays pending: %s", call.record.call, call.record.operation, why)
            raise
        record = decided(call.record, definition.config)
        operation = definition.keyed(record.key)
        now = msgspec.structs.replace(self._journal.run, monotonic=operation.bus.clock(), wall=time.time())
        delay = remaining(record, self._journal.pending().runs, now) or extra
        attempt = continued(record, operation)
        reason = why_over(record, definition.config)
        if reason is not None:
            give_up(attempt, GiveUp(reason))
            raise RecoveryError(f"{record.operation}: call {record.call} is not resumed: {reason}")
        arguments = attempt.call.raw_arguments
        attempt.call.publish(OperationResumed, attempt.number, after=delay, arguments=arguments)
        call.attempt = attempt
        runner = self._runner_of(definition.resume, definition)
        run = runner.arun if is_async(definition.resume) else runner.run
        return functools.partial(run, attempt, args, kwargs, delay=delay)
