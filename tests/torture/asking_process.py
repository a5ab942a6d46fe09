"""The process that is killed while it asks once more for the calls that the process before it left.

It calls ``resume()`` and then asks for each job that no process has got the result of: at once, or after the resumption
has ended. A job is a call of one operation with one argument. Its body does units of work and saves a checkpoint after
each. While the body runs, further callers ask for the same job, and some callers are cut off in the middle.

The notes survive ``kill -9``. A note is a line ``WORD JOB VALUE CALLER THREAD``:

    asks / got RESULT / left     # a caller; one that is cut off leaves
    kept                         # the end of the call is committed
    begins CALL / ends           # the body
    unit NUMBER / saved NUMBER   # a unit of work is done; so many are, says a checkpoint that is committed
    frees CALL / wrong TEXT      # a quarantined call is retried by hand; what must not happen
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import anyio
import msgspec

from adapters.sqlite.store import SQLiteStore
from events.errors import CallRejectedError
from recovery import context
from recovery.joining.shared_call import carried
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from tests.torture.crashed_process import Notes
from tests.torture.jobs import Job, job

WINDOW = 6
"""Jobs that are asked for at a time."""
MAX_UNIT = 0.008
"""Seconds of a unit of work, at most."""
MAX_JOIN = 2.0
"""Seconds that a body waits for its callers to join, at most."""
SPACE = re.compile(r"\s+")

asker: ContextVar[str] = ContextVar("asker", default="-")
"""The caller in whose thread or task the code runs; "-" in the resumption."""


class Interrupt(BaseException):
    """Ends the caller that runs a plain body, as Ctrl-C does."""


class Options(msgspec.Struct, frozen=True):
    """What the process does, until it is killed.

    Args:
        path: The journal's file.
        notes: The file for notes.
        seed: Of its delays.
        backend: "threads", "asyncio" or "trio".
        jobs: The numbers of the jobs to ask for.
        new: The number of the first new job; None for no new ones: then it ends when it has every result.
        waits: It waits for the end of the resumption before it asks.
    """

    path: str
    notes: str
    seed: int
    backend: str
    jobs: list[int]
    new: int | None
    waits: bool


def ask_again(encoded: dict[str, Any]) -> None:
    """Run the process, until it is killed."""
    options = msgspec.convert(encoded, Options)
    (AskingThreads if options.backend == "threads" else AskingTasks)(options).run()


class AskingProcess:
    """What threads and tasks have in common."""

    resumption: Resumption

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        self.notes = Notes(options.notes)
        self.service = Recovery(store=SQLiteStore(options.path))
        self.jobs = {str(one): one for one in map(job, options.jobs)}
        numbers = itertools.count(options.new) if options.new is not None else ()
        self._todo = itertools.chain(list(self.jobs.values()), map(job, numbers))
        self._lock = threading.Lock()
        settings: dict[str, Any] = {"initial_delay": 0.03, "max_retries": 4, "breaker": None}
        keys: dict[str, Any] = {"idempotency_key": lambda number, _: f"order-{number}"}
        self.part = self.service.recoverable("part", resumable=True, **settings)(self.body("part"))
        define = self.service.recoverable
        self.operations = {
            "count": define("count", resumable=True, **settings)(self.body("count")),
            "pay": define("pay", resumable=True, **settings, **keys)(self.body("pay")),
            "send": define("send", **settings, **keys)(self.body("send")),  # its arguments are not stored
        }

    def body(self, operation: str) -> Callable[..., Any]:
        """The function of that operation."""
        raise NotImplementedError

    def note(self, word: str, about: object, value: object = "-") -> None:
        """Append a note; its words contain no spaces."""
        self.notes(word, about, SPACE.sub("_", str(value)), asker.get(), threading.get_ident())

    def next(self) -> Job | None:
        """The next job to ask for; None if there is none any more."""
        with self._lock:
            found = next(self._todo, None)
            return None if found is None else self.jobs.setdefault(str(found), found)

    def job(self, operation: str, number: int) -> Job:
        """The job whose body runs; one that the program does not ask for has no callers."""
        one = Job(operation, number)
        return self.jobs.get(str(one), one)

    def arguments(self, one: Job) -> tuple[Any, ...]:
        """Where a key tells calls apart, an argument may differ."""
        return (one.number,) if one.operation == "count" else (one.number, self.options.seed)

    @contextlib.contextmanager
    def noted(self, one: Job) -> Iterator[None]:
        """Note the begin and the end of a body."""
        self.note("begins", one, context.current.get().call.id)
        try:
            yield
        finally:
            self.note("ends", one)

    def steps(self, one: Job) -> Iterator[float]:
        """Do the units that are left; yields seconds to sleep. A body that runs it may be cut off where it sleeps."""
        done, total = context.saved((0, 0))
        for unit in range(done, one.units):
            yield self.rng.uniform(0.0, MAX_UNIT)
            total += one.value(unit)
            self.note("unit", one, unit)
            context.checkpoint([unit + 1, total])
            if unit == 0:
                receipt = self.service.journal.receipt()
                while receipt.why_not() is not None:
                    yield 0.001
                self.note("saved", one, unit + 1)
            if unit == 1 and one.callers:
                yield from self.meet(one)
            if unit == one.fails_after and context.attempt() == 1:
                raise ConnectionError("reset")
        if one.result.startswith("ValueError"):
            raise ValueError(one)

    def meet(self, one: Job) -> Iterator[float]:
        """Have further callers ask, and wait until all but the one that runs the body have joined."""
        yield from self._joined(one, 1)
        if one.others and not one.has_met:
            one.has_met = True
            one.wants_others()
            yield from self._joined(one, 1 + one.others)
            self.cut(one)

    def _joined(self, one: Job, callers: int) -> Iterator[float]:
        shared, end = carried.get()[-1], time.monotonic() + MAX_JOIN
        while len(shared.joins) < callers - (asker.get() in one.callers):
            if time.monotonic() > end:
                self.note("wrong", one, f"{len(shared.joins)} of {list(one.callers)} have joined")
                return
            yield 0.001

    def cut(self, one: Job) -> None:
        """Cut off some callers of *one*, but not all."""
        raise NotImplementedError

    def free(self, rejected: CallRejectedError) -> None:
        """Retry the quarantined calls, of which one was asked for."""
        if "quarantined" not in str(rejected):
            raise rejected
        for record in list(self.resumption.quarantined):
            with contextlib.suppress(LookupError):  # another caller has freed it
                self.resumption.retry(record.call)
                self.note("frees", record.call)


class AskingThreads(AskingProcess):
    """A program of plain functions: each caller is a thread."""

    def body(self, operation: str) -> Callable[..., Any]:
        def work(number: int, seed: int = 0) -> int:
            one = self.job(operation, number)
            with self.noted(one):
                for seconds in self.steps(one):
                    time.sleep(seconds)
                total = context.saved()[1]
                return total + (self._ask(self.part, number) if one.has_part else 0)

        return work

    def run(self) -> None:
        with self.service:
            self.resumption = self.service.resume()
            if self.options.waits:
                self.resumption.wait()
            slots = [threading.Thread(target=self._slot) for _ in range(WINDOW)]
            for slot in slots:
                slot.start()
            for slot in slots:
                slot.join()

    def _slot(self) -> None:
        while (one := self.next()) is not None:
            with ThreadPoolExecutor(max(one.others, 1)) as pool:  # its end waits for those that were called
                call = functools.partial(self._call, one)
                one.wants_others = functools.partial(pool.map, call, range(1, 1 + one.others))
                self._call(one, 0)

    def _call(self, one: Job, number: int) -> None:
        name = f"{one}:{number}"
        asker.set(name)
        one.callers[name] = None
        self.note("asks", one)
        try:
            self.note("got", one, self._ask(self.operations[one.operation], *self.arguments(one)))
        except Interrupt:
            self.note("left", one)
            return
        except Exception as error:
            self.note("got", one, f"{type(error).__name__}:{error}")
        finally:
            del one.callers[name]
        self.service.journal.receipt().wait()
        self.note("kept", one)

    def _ask(self, operation: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return operation(*args)
            except CallRejectedError as error:
                self.free(error)
                time.sleep(0.01)

    def cut(self, one: Job) -> None:
        if not one.has_part and one.number % 2:
            raise Interrupt


class AskingTasks(AskingProcess):
    """A program of async functions: each caller is a task."""

    def body(self, operation: str) -> Callable[..., Any]:
        async def work(number: int, seed: int = 0) -> int:
            one = self.job(operation, number)
            with self.noted(one):
                for seconds in self.steps(one):
                    await anyio.sleep(seconds)
                total = context.saved()[1]
                return total + (await self._ask(self.part, number) if one.has_part else 0)

        return work

    def run(self) -> None:
        anyio.run(self._run, backend=self.options.backend)

    async def _run(self) -> None:
        async with self.service, anyio.create_task_group() as group:
            self.resumption = self.service.resume()
            if self.options.waits:
                await self.resumption
            for _ in range(WINDOW):
                group.start_soon(self._slot)

    async def _slot(self) -> None:
        while (one := self.next()) is not None:
            wanted, one.have_joined = anyio.Event(), anyio.Event()
            one.wants_others = wanted.set
            async with anyio.create_task_group() as group:
                group.start_soon(self._call_others, one, wanted)
                await self._call(one, 0)
                wanted.set()
                one.have_joined.set()

    async def _call_others(self, one: Job, wanted: anyio.Event) -> None:
        """Have others ask once the body wants that, and cancel some of the callers a little later, but not all."""
        assert one.have_joined is not None
        await wanted.wait()
        if not one.has_met:
            return
        async with anyio.create_task_group() as group:
            for number in range(1, 1 + one.others):
                group.start_soon(self._call, one, number)
            await one.have_joined.wait()
            if not one.has_part:
                await anyio.sleep(self.rng.choice((0.0, self.rng.uniform(0.0, 4 * MAX_UNIT))))
                scopes = [scope for scope in one.callers.values() if scope is not None]
                for scope in self.rng.sample(scopes, self.rng.randint(0, max(len(scopes) - 1, 0))):
                    scope.cancel()

    async def _call(self, one: Job, number: int) -> None:
        name = f"{one}:{number}"
        asker.set(name)
        with anyio.CancelScope() as scope:
            one.callers[name] = scope
            self.note("asks", one)
            try:
                self.note("got", one, await self._ask(self.operations[one.operation], *self.arguments(one)))
            except Exception as error:
                self.note("got", one, f"{type(error).__name__}:{error}")
            finally:
                del one.callers[name]
        if scope.cancelled_caught:
            self.note("left", one)
        else:
            await self.service.journal.receipt().committed()
            self.note("kept", one)

    async def _ask(self, operation: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return await operation(*args)
            except CallRejectedError as error:
                self.free(error)
                await anyio.sleep(0.01)

    def cut(self, one: Job) -> None:
        assert one.have_joined is not None
        one.have_joined.set()
