"""Resume the calls that dead processes left: find them in the journal, and run them in threads or tasks."""

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
from events.call import Call
from events.callables import is_async
from events.errors import RecoveryError
from events.runner_api import give_up, quarantine, resume
from events.verdicts import GiveUp
from recovery.execution.runner import Runner
from recovery.journal.core import JournalCore
from recovery.journal.history import CallRecord, remaining
from recovery.journal.store import Pending
from recovery.operations import Definition, Registry
from recovery.resume.continuation import continued, decided, why_over
from recovery.resume.handles import ResumedCall, Resumption
from recovery.serialization import decoded_arguments
from recovery.waiting.waiters import soon_in_this_loop

THREADS = 4
"""Plain calls that are resumed at a time."""

TASKS_PER_TURN = 100
"""Async calls that are started before the loop has a turn: of ten thousand, the first does not wait for all."""

MAX_CRASHES = 3
"""Crashes in attempts of a call, without a new checkpoint in between, after which the call is quarantined."""

log = logging.getLogger("recovery")


class Resumer:
    """Finds the calls in a journal that the registry can resume, and runs them.

    Args:
        registry: The operations that are defined.
        runner_of: Makes the runner of a function.
        journal: Where the calls are.
        jitter: Seconds to wait before one of that many calls starts, so that not all start at once.
    """

    def __init__(
        self,
        registry: Registry,
        runner_of: Callable[[Callable[..., Any], Definition], Runner],
        journal: JournalCore,
        jitter: Callable[[int], float],
    ) -> None:
        self._registry = registry
        self._runner_of = runner_of
        self._journal = journal
        self._jitter = jitter

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
        plain, in_tasks = self._sort(found, self._journal.pending())
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
        plain, in_tasks = self._sort(found, self._journal.pending())
        found.calls = plain + in_tasks
        for number, call in enumerate(in_tasks):
            # Calls that are overdue do not start all at once.
            group.start_soon(self._resume_async, call, self._jitter(len(in_tasks)) if number else 0.0)
            if number % TASKS_PER_TURN == 0:
                await anyio.sleep(0.001)  # no mere checkpoint: the journal's thread needs the interpreter, too
        found.loaded.open()
        self._start_threads(plain)

    def _sort(self, found: Resumption, pending: Pending) -> tuple[list[ResumedCall], list[ResumedCall]]:
        """Note in *found* the calls that are not resumed; the plain calls and the async ones that are."""
        plain: list[ResumedCall] = []
        in_tasks: list[ResumedCall] = []
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
                quarantine(Attempt(Call(definition.keyed(record.key), record.call), record.attempt), reason)
                found.quarantined.append(record)
            else:
                (in_tasks if self._is_async(record) else plain).append(ResumedCall(record))
        return plain, in_tasks

    def _is_async(self, record: CallRecord) -> bool:
        definition = self._registry.get(record.operation)
        return definition is not None and is_async(definition.resume)

    def _start_threads(self, calls: list[ResumedCall]) -> None:
        todo: queue.SimpleQueue[ResumedCall] = queue.SimpleQueue()
        # Calls that are due come first: a delay keeps a thread busy.
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
        except BaseException as error:  # it is published, and the handle has it
            call.end(error=error)

    async def _resume_async(self, call: ResumedCall, extra: float = 0.0) -> None:
        try:
            runner, attempt, args, kwargs, delay = self._prepare(call, extra)
            call.end(result=await runner.arun(attempt, tuple(args), kwargs, delay=delay))
        except Exception as error:  # it is published, and the handle has it
            call.end(error=error)
        except BaseException as error:
            call.end(error=error)
            raise

    def _prepare(
        self, call: ResumedCall, extra: float = 0.0
    ) -> tuple[Runner, Attempt, list[Any], dict[str, Any], float]:
        """What runs the call, its attempt, its arguments, and the seconds left to wait."""
        definition = self._registry.get(call.record.operation)
        assert definition is not None
        assert definition.resume is not None
        assert call.record.arguments is not None
        args, kwargs = decoded_arguments(call.record.arguments)
        record = decided(call.record, definition.config)
        operation = definition.keyed(record.key)
        now = msgspec.structs.replace(self._journal.run, monotonic=operation.bus.clock(), wall=time.time())
        delay = remaining(record, self._journal.pending().runs, now) or extra
        attempt = continued(record, operation)
        reason = why_over(record, definition.config)
        if reason is not None:
            give_up(attempt, GiveUp(reason))
            raise RecoveryError(f"{record.operation}: call {record.call} is not resumed: {reason}")
        resume(attempt, delay)
        call.attempt = attempt
        return self._runner_of(definition.resume, definition), attempt, args, kwargs, delay
