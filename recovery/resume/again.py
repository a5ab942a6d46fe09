"""Run calls again that have ended badly: each as a new call, with the arguments that the journal has."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from events.callables import is_async
from events.errors import StaysPendingError
from events.fork_locks import fork_safe
from recovery.joining.continuation import Former
from recovery.journal.errors import NotDurable
from recovery.journal.store import ANSWER_TIMEOUT, Query, Store
from recovery.resume.handles import ResumedCall
from recovery.resume.repetition import ENDS, RepeatedCall, Repetition, Selection
from recovery.waiting.daemon_threads import Workers, start_daemon
from recovery.waiting.waiters import ThreadWaiter, soon_in_this_loop

if TYPE_CHECKING:
    import anyio.abc
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from recovery.execution.joinable import JoinableCalls
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.operations import Definition
    from recovery.registry import Registry
    from recovery.resume.resumer import RunnerOf
    from recovery.waiting.waiters import Clock

THREADS = 4
"""Plain calls that are run again at a time."""

UNDEFINED = "no operation of that name is defined"
UNSTORED = "its arguments were not journalled; with resumable=True they would be"
ASYNC = "the function is async; run it again under `async with`, where a loop runs"
ENDED_SERVICE = "the service has ended"
UNREADABLE = "the journal cannot be read"
UNKNOWN = "no such call is found: the id is wrong, another living process has it, or the journal cannot be read"


class Todo(msgspec.Struct, eq=False):
    """A call to run again: its handle, its operation, its arguments, and seconds to wait before."""

    handle: RepeatedCall
    definition: Definition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    former: Former
    delay: float = 0.0


class Repeater:
    """Runs calls of a journal again.

    Args:
        registry: The operations that are defined.
        joinable: Runs the calls, and has equal ones joined.
        runner_of: Makes the runner of a function.
        journal: The journal with the calls.
        clock: Monotonic seconds.
        jitter: The seconds to wait before one of that many calls starts.
    """

    def __init__(
        self,
        registry: Registry,
        joinable: JoinableCalls,
        runner_of: RunnerOf,
        journal: JournalCore,
        clock: Clock,
        jitter: Callable[[int], float],
    ) -> None:
        self._registry = registry
        self._joinable = joinable
        self._runner_of = runner_of
        self._journal = journal
        self._clock = clock
        self._jitter = jitter
        self._lock = fork_safe(threading.Lock())
        self._under_way: set[str] = set()
        self._workers = Workers("recovery-again", THREADS)
        self.has_ended = False
        """Whether the service is closed: plain calls that have not begun stay as they are."""

    def start(self, selection: Selection, *, keep_checkpoint: bool, tasks: Tasks | None) -> Repetition:
        """Find the calls of *selection* on a thread, and run them: async ones as *tasks*. Never blocks."""
        found = Repetition()
        start_daemon("recovery-again", self._load, found, selection, keep_checkpoint, tasks)
        return found

    def _load(self, found: Repetition, selection: Selection, keep_checkpoint: bool, tasks: Tasks | None) -> None:
        todos = []
        try:
            for record in self._records(found, selection):
                todo = self._todo(found, record, keep_checkpoint, has_loop=tasks is not None)
                if isinstance(todo, str):
                    found.refuse(record.call, todo)
                else:
                    todos.append(todo)
                    found.calls.append(todo.handle)
        finally:
            found.loaded.open()
        delays = sorted(self._jitter(len(todos)) for _ in todos[1:])
        for todo, delay in zip(todos[1:], delays, strict=True):
            todo.delay = delay
        now, plain = self._clock(), [todo for todo in todos if not is_async(todo.definition.resume)]
        self._workers.add(functools.partial(self._run, todo, now + todo.delay) for todo in plain)
        if tasks is not None:
            for todo in todos:
                if is_async(todo.definition.resume):
                    tasks.start(todo.handle, self._arun, todo)

    # which calls

    def _records(self, found: Repetition, selection: Selection) -> list[CallRecord]:
        if selection.call is not None:
            record = self._record(selection.call)
            if record is None:
                found.refuse(selection.call, UNKNOWN)
            elif record.by and selection.is_new:
                found.needless.add(record.call)
                found.refuse(record.call, f"call {record.by} runs it again already")
            else:
                return [record]
            return []
        kinds = [ENDS[state] for state in selection.states or ("gave up",)]

        async def ended(store: Store) -> Sequence[str]:
            return await store.ended(kinds, since=selection.since)

        self._journal.start()
        with suppress(NotDurable):  # the store is asked what has been written
            self._journal.tracker.receipt().wait(ANSWER_TIMEOUT)
        ids = self._journal.ask(Query(ended)).wait()
        if ids is None:
            found.refuse("", UNREADABLE)
        records: list[CallRecord] = []
        for call in ids or ():  # one question each: commits go on in between
            record = self._record(call)
            if record is not None and not record.by and selection.admits(record):
                records.append(record)
            if len(records) >= selection.limit:
                break
        return records

    def _record(self, call: str) -> CallRecord | None:
        known = self._journal.lookup.call(call)
        return known.wait(ANSWER_TIMEOUT) if isinstance(known, Query) else known

    def _todo(self, found: Repetition, former: CallRecord, keep_checkpoint: bool, *, has_loop: bool) -> Todo | str:
        """The call to run for the *former* one, or why it is not run."""
        record, seen = former, {former.call}
        while record.by and record.by not in seen:
            seen.add(record.by)
            record = self._record(record.by) or msgspec.structs.replace(record, by="")
        about = "it" if record is former else f"call {record.call} runs it again, and"
        if record.state == "succeeded" or not record.is_over:
            found.needless.add(former.call)
            return f"{about} {'has succeeded' if record.is_over else f'is {record.state}'}"
        if record.arguments is None:
            return UNSTORED
        definition = self._registry.get(record.operation)
        if definition is None:
            return UNDEFINED
        if definition.resume is None or definition.codec is None:
            return "the operation is defined without resumable=True"
        if record.version != definition.config.version:
            return f"journalled under version {record.version!r}, defined as version {definition.config.version!r}"
        if is_async(definition.resume) and not has_loop:
            return ASYNC
        try:
            args, kwargs = definition.codec.decoded(record.arguments)
        except ValueError as error:
            return str(error)
        with self._lock:
            if record.call in self._under_way:
                found.needless.add(former.call)
                return "it is run again already"
            self._under_way.add(record.call)
        handle = RepeatedCall(record)
        saved = record.saved if keep_checkpoint else None
        return Todo(handle, definition, args, kwargs, Former(record.call, record.attempt, saved, record.trace, handle))

    # run them

    def _run(self, todo: Todo, due: float) -> None:
        ThreadWaiter(self._clock).wait(due - self._clock())
        try:
            if self.has_ended:
                raise too_late(todo.handle)
            todo.handle.end(self._joinable.call(self._runner(todo), todo.args, todo.kwargs, todo.former))
        except BaseException as error:  # it is published
            todo.handle.end(error=error)
        finally:
            self._forget(todo)

    async def _arun(self, todo: Todo) -> None:
        import anyio  # here, for tasks: it takes milliseconds

        handle = todo.handle
        try:
            await anyio.sleep(todo.delay)
            handle.end(await self._joinable.acall(self._runner(todo), todo.args, todo.kwargs, todo.former))
        except BaseException as error:  # it is published
            handle.end(error=error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._forget(todo)

    def _runner(self, todo: Todo) -> Any:
        assert todo.definition.resume is not None
        return self._runner_of(todo.definition.resume, todo.definition)

    def _forget(self, todo: Todo) -> None:
        with self._lock:
            self._under_way.discard(todo.handle.record.call)


def too_late(handle: ResumedCall) -> StaysPendingError:
    """What *handle* ends with, because its service has ended before the call began."""
    return StaysPendingError(f"call {handle.record.call} is not run again: {ENDED_SERVICE}")


class Tasks:
    """Starts tasks of a group from any thread, until it is closed. Make it in the group's loop."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        import anyio  # here, for ``async with``: it takes milliseconds

        self._soon = soon_in_this_loop()
        self._group = group
        self._hand_in: MemoryObjectSendStream[Any]
        handed_in: MemoryObjectReceiveStream[Any]
        self._hand_in, handed_in = anyio.create_memory_object_stream[Any](math.inf)
        group.start_soon(self._receive, handed_in)

    def start(self, handle: ResumedCall, function: Callable[..., Any], *args: Any) -> None:
        """Start *function* soon. *handle* ends with StaysPendingError if it is too late for that."""

        def take() -> None:  # a callback of the loop is no task, and cannot start one
            import anyio

            try:
                self._hand_in.send_nowait((function, args))
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                handle.end(error=too_late(handle))

        try:
            self._soon(take)
        except RuntimeError:  # the loop has ended
            handle.end(error=too_late(handle))

    async def _receive(self, handed_in: MemoryObjectReceiveStream[Any]) -> None:
        with handed_in:
            async for function, args in handed_in:
                self._group.start_soon(function, *args)

    def close(self) -> None:
        """Start no more tasks."""
        with suppress(Exception):
            self._hand_in.close()
