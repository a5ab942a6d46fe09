"""Resume the calls that dead processes left: find them in the journal, and run them in threads or tasks."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import anyio.abc
import msgspec

from events.callables import is_async
from events.errors import RecoveryError, StaysPendingError
from recovery.execution.joinable import JoinableCalls
from recovery.execution.runner import Runner
from recovery.joining.pending import EQUAL, records_of
from recovery.joining.shared_call import SharedCall
from recovery.journal.core import JournalCore
from recovery.journal.history import CallRecord
from recovery.operations import Definition
from recovery.resume.handles import ResumedCall, Resumption
from recovery.waiting.daemon_threads import is_process_ending, start_daemon
from recovery.waiting.waiters import soon_in_this_loop

THREADS = 4
"""Plain calls that are resumed at a time."""

TASKS_PER_TURN = 100
"""Async calls that are started before the loop has a turn: of ten thousand, the first does not wait for all."""

RunnerOf: TypeAlias = Callable[[Callable[..., Any], Definition], Runner]
"""Makes the runner of a function, as its operation wants it."""


class Todo(msgspec.Struct, eq=False):
    """A call to resume: its handle, what its callers share, and its operation."""

    handle: ResumedCall
    shared: SharedCall
    definition: Definition

    @property
    def is_async(self) -> bool:
        """Whether it runs as a task."""
        return is_async(self.definition.resume)


class Resumer(msgspec.Struct, eq=False):
    """Finds the calls in a journal that the registry can resume, and runs them.

    Its fields, in this order: what runs joinable calls; what makes the runner of a function; the journal with the
    calls; and the seconds to wait before one of that many calls starts, so that not all start at once.
    """

    _joinable: JoinableCalls
    _runner_of: RunnerOf
    _journal: JournalCore
    _jitter: Callable[[int], float]
    _has_ended: bool = False  # no task is started any more
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _todo: deque[list[Todo]] = msgspec.field(default_factory=deque)
    _working: int = 0

    def in_threads(self) -> Resumption:
        """Resume plain calls on daemon threads; async ones stay pending, and one warning names them."""

        def start(handle: ResumedCall) -> bool:
            todo = self._by_hand(handle)
            if todo is not None and todo.is_async:
                raise RecoveryError(f"call {handle.record.call}: async calls are resumed under `async with`")
            if todo is not None:
                start_daemon("recovery-resume", self._resume, [todo])  # the others may be busy for long
            return todo is not None

        def pick_up(found: Resumption) -> None:
            plain, _ = self._sort(found, has_loop=False)
            self._start_threads(plain)

        def load_and_run() -> None:
            self._journal.ask_for_pending().wait()  # also where calls were asked for before: others may have died since
            self._journal.pending()
            plain, _ = self._sort(found, has_loop=False)
            found.loaded.open()
            self._start_threads(plain)
            self._keep_adopting(found, has_loop=False)

        found = Resumption(start, pick_up=pick_up, drop=self._joinable.pending.drop)
        if is_process_ending():
            found.loaded.open()  # nothing is resumed
        else:
            start_daemon("recovery-resume", load_and_run)
        return found

    def in_tasks(self, group: anyio.abc.TaskGroup) -> Resumption:
        """Resume async calls as tasks of *group*, and plain calls on daemon threads."""
        soon = soon_in_this_loop()
        hand_in, handed_in = anyio.create_memory_object_stream[tuple[list[Todo], float]](math.inf)

        def start(handle: ResumedCall) -> bool:
            todo = self._by_hand(handle)
            if todo is not None and todo.is_async:
                soon(take, [todo], 0.0)
            elif todo is not None:
                start_daemon("recovery-resume", self._resume, [todo])  # the others may be busy for long
            return todo is not None

        def take(todos: list[Todo], extra: float) -> None:
            try:
                hand_in.send_nowait((todos, extra))
            except anyio.ClosedResourceError:
                for todo in todos:
                    todo.handle.end(error=StaysPendingError(f"{todo.shared} stays pending: the service has ended"))

        async def receive() -> None:  # a callback of the loop is no task, and cannot start one
            with handed_in:
                async for todos, extra in handed_in:
                    group.start_soon(self._resume_async, todos, extra)

        def pick_up(found: Resumption) -> None:
            plain, in_tasks = self._sort(found, has_loop=True)
            self._start_threads(plain)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                for number, todos in enumerate(in_tasks):
                    soon(take, todos, self._extra(number, in_tasks))

        def close() -> None:
            self._has_ended = True
            self._journal.keep_adopting(None)
            hand_in.close()
            if not found.loaded.is_open:  # or the service would wait for a journal that cannot be read
                self._journal.look(now=True)

        found = Resumption(start, close, pick_up, self._joinable.pending.drop)
        group.start_soon(self._load_and_start, found, group)
        group.start_soon(receive)
        return found

    async def _load_and_start(self, found: Resumption, group: anyio.abc.TaskGroup) -> None:
        await self._journal.ask_for_pending().await_answer()
        await self._journal.loaded.opened()
        plain, in_tasks = self._sort(found, has_loop=True)
        for number, todos in enumerate(in_tasks):
            group.start_soon(self._resume_async, todos, self._extra(number, in_tasks))
            if number % TASKS_PER_TURN == 0:
                await anyio.sleep(0.001)  # no mere checkpoint: the journal's thread needs the interpreter, too
        found.loaded.open()
        self._start_threads(plain)
        if not self._has_ended:
            self._keep_adopting(found, has_loop=True)

    def _extra(self, number: int, groups: list[list[Todo]]) -> float:
        """Seconds that the calls of that number wait at least: calls that are overdue do not start all at once."""
        return self._jitter(len(groups)) if number else 0.0

    def _keep_adopting(self, found: Resumption, *, has_loop: bool) -> None:
        """Resume what processes leave that die from now on, on a thread of its own: the journal's has to write."""

        def wants(record: CallRecord) -> bool:
            return self._joinable.pending.can_resume(record, has_loop=has_loop)

        def resume() -> None:
            with contextlib.suppress(RuntimeError):  # the process ends
                start_daemon("recovery-resume", found.pick_up)

        self._journal.keep_adopting(resume, wants)

    def _sort(self, found: Resumption, *, has_loop: bool) -> tuple[list[list[Todo]], list[list[Todo]]]:
        """Note in *found* what becomes of the calls; the plain and the async ones to resume, equal ones together."""
        pending, register = self._joinable.pending, self._joinable.register
        pending.sort_all()
        groups: dict[object, list[Todo]] = {}
        for shared, definition in pending.take_ready(lambda one: has_loop or not is_async(one.resume)):
            assert shared.record is not None
            todo = Todo(ResumedCall(shared.record), shared, definition)
            register.watch(shared, todo.handle.take)
            groups.setdefault(shared.identity or shared, []).append(todo)
            found.calls.append(todo.handle)
        found.left = [*pending.left.values(), *records_of(pending.ready)]
        found.quarantined = records_of(pending.quarantined.values())
        found.unreadable = self._journal.pending().unreadable
        in_tasks = [todos for todos in groups.values() if todos[0].is_async]
        return [todos for todos in groups.values() if not todos[0].is_async], in_tasks

    def _by_hand(self, handle: ResumedCall) -> Todo | None:
        """A quarantined call that is resumed by hand; ``None`` for one whose arguments its next caller brings."""
        pending = self._joinable.pending
        shared = pending.quarantined[handle.record.call]
        definition = pending.definition_of(shared)
        assert definition is not None  # it is not sorted, and quarantined, before
        self._joinable.register.watch(shared, handle.take)
        if shared.args is None:
            self._joinable.register.add_pending(pending.quarantined.pop(handle.record.call))
            return None
        return Todo(handle, shared, definition)

    def _start_threads(self, groups: list[list[Todo]]) -> None:
        # A call that asks would keep a thread for days: it has one of its own.
        for todos in groups:
            if todos[0].handle.record.asks_person:
                start_daemon("recovery-resume-asking", self._resume, todos)
        groups = [todos for todos in groups if not todos[0].handle.record.asks_person]
        with self._lock:
            # Calls that are due come first: a delay keeps a thread busy.
            self._todo.extend(sorted(groups, key=lambda todos: todos[0].handle.record.due or 0.0))
            new = min(THREADS - self._working, len(groups))
            self._working += new
        for _ in range(new):
            start_daemon("recovery-resume", self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._working -= 1
                    return
                todos = self._todo.popleft()
            self._resume(todos)

    def _resume(self, todos: list[Todo]) -> None:
        for todo in todos:
            if self._may_run(todo):
                with contextlib.suppress(BaseException):  # it is published, and the handle has it
                    self._joinable.run(self._runner(todo), todo.shared)

    async def _resume_async(self, todos: list[Todo], extra: float = 0.0) -> None:
        for todo in todos:
            if self._may_run(todo):
                try:
                    await self._joinable.arun(self._runner(todo), todo.shared, extra=extra)
                except BaseException as error:  # it is published
                    todo.handle.end(error=error)
                    if not isinstance(error, Exception):
                        raise

    def _may_run(self, todo: Todo) -> bool:
        answer = self._joinable.register.resume(todo.shared)
        if answer == "equal":
            self._joinable.pending.say_left(todo.shared.name, EQUAL, [todo.handle.record])
            todo.handle.end(error=StaysPendingError(f"{todo.shared} stays pending: {EQUAL}"))
        self._joinable.pending.quarantined.pop(todo.handle.record.call, None)
        return answer == "run"

    def _runner(self, todo: Todo) -> Runner:
        assert todo.definition.resume is not None
        return self._runner_of(todo.definition.resume, todo.definition)
