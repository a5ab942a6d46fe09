"""Two processes of one journal that ask for equal calls, and one of them is killed: one body at a time."""

from __future__ import annotations

import contextvars
import itertools
import json
import logging
import os
import queue
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from adapters.sqlite.store import SQLiteStore
from events.errors import RecoveryError
from recovery import context
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import Child, ForkServer

ASYNC_MODES = ("asyncio", "trio")
ROUNDS = 10
"""Each case each way round, in threads and in tasks."""
PARALLEL = 2
"""Cases at a time."""
MAX_SECONDS = 30.0
"""Seconds to wait for a process."""


# the process


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does when it is told to.

    Args:
        mode: How its functions run.
        names: The calls that it asks for, one after another.
        end: What its bodies do at last; "wait" for the file ``let-go``.
        seconds: How long its bodies work.
        is_keyed: Whether each call has an idempotency key, with a recorded result; otherwise it is resumable.
        resumes: Whether it resumes what a dead process left, too.
        most: Seconds within which a call must end; ``None`` for no limit.
        times: How often it asks.
        pause: Seconds in between.
        makes_progress: Whether its bodies make a checkpoint.
        retries: How many retries a call has.
        adopt_every: Seconds between two looks for the files of dead processes.
        asks_at_once: Whether each call has a thread of its own.
    """

    mode: str = "plain"
    names: tuple[str, ...] = ("a",)
    end: str = "return"
    seconds: float = 0.0
    is_keyed: bool = False
    resumes: bool = False
    most: float | None = None
    times: int = 1
    pause: float = 0.0
    makes_progress: bool = True
    retries: int = 0
    adopt_every: float = 5.0
    asks_at_once: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its operation."""
        keyed = {"idempotency_key": str, "remember": 60.0}
        limits = {"max_retries": self.retries, "max_elapsed": self.most, "breaker": None}
        return {**limits, **(keyed if self.is_keyed else {"resumable": True})}


class Cancelled(BaseException):
    """Stands for Ctrl+C in a body."""


class Process:
    """The process itself."""

    def __init__(self, path: str, folder: str, name: str, task: Task) -> None:
        self.folder, self.name, self.task = Path(folder), name, task
        config = JournalConfig(adopt_every=task.adopt_every, command_interval=min(task.adopt_every, 0.5))
        self.service = Recovery(store=SQLiteStore(path), journal_config=config)
        self._notes = os.open(self.folder / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, **about: object) -> None:
        """Append a line to the notes of all processes."""
        line = {"what": what, "pid": os.getpid(), "at": time.monotonic(), **about}
        os.write(self._notes, json.dumps(line).encode() + b"\n")

    def define(self) -> Callable[[str], Any]:
        """The recoverable function."""

        def body(name: str) -> str:
            self.begin(name)
            sleep_until(time.monotonic() + self.task.seconds, self.is_let_go)
            return self.end(name)

        async def abody(name: str) -> str:
            self.begin(name)
            until = time.monotonic() + self.task.seconds
            while time.monotonic() < until or not self.is_let_go():
                await anyio.sleep(0.002)
            return self.end(name)

        return self.service.recoverable("work", **self.task.settings)(body if self.task.mode == "plain" else abody)

    def is_let_go(self) -> bool:
        return self.task.end != "wait" or (self.folder / "let-go").exists()

    def begin(self, name: str) -> None:
        """Begin a body: it makes a checkpoint, and waits until it is written."""
        self.note("begin", call=context.key(), name=name, saved=context.saved())
        if self.task.makes_progress:
            context.checkpoint([*context.saved([]), os.getpid()])
        assert self.service.journal is not None
        self.service.journal.receipt().wait()
        self.note("saved")
        if self.task.end == "fork" and not os.fork():
            signal.alarm(int(MAX_SECONDS))
            try:
                contextvars.Context().run(self.ask, name)  # in the body's own context it would be a nested call
            finally:
                self.service.close()
                os._exit(0)

    def ask(self, name: str) -> None:
        """Call the function, and note what its caller gets."""
        try:
            self.got(self.work(name))
        except (Cancelled, RecoveryError, ValueError) as error:
            self.got(error=error)

    def end(self, name: str) -> str:
        """End a body."""
        self.note("end", name=name)
        match self.task.end:
            case "raise":
                raise ValueError("broken by token=abcdefghijkl")
            case "cancel":
                raise Cancelled
        return f"{name} of {os.getpid()}"

    def ready(self) -> None:
        """The journal is open. Wait for the word to go."""
        assert self.service.journal is not None
        self.service.journal.pending(MAX_SECONDS)
        self.note("ready", name=self.name)
        sleep_until(0.0, lambda: any((self.folder / f"go-{one}").exists() for one in ("both", self.name)))

    def got(self, result: object = None, error: BaseException | None = None) -> None:
        """Note what the caller got."""
        self.note("got", result=result, error=error and type(error).__name__, text=str(error))

    def run(self) -> None:
        """Do the task."""
        self.work = self.define()
        with self.service:
            self.ready()
            resumption = self.service.resume() if self.task.resumes else None
            if self.task.asks_at_once:
                with ThreadPoolExecutor(len(self.task.names)) as pool:
                    list(pool.map(self.ask, self.task.names))
                return
            for name in self.task.names * self.task.times:
                self.ask(name)
                time.sleep(self.task.pause)
            if resumption is not None:
                resumption.wait(MAX_SECONDS)
        if self.task.end == "fork":
            os.wait()

    async def arun(self) -> None:
        """As ``run``."""
        work = self.define()
        async with self.service:
            self.ready()
            resumption = self.service.resume() if self.task.resumes else None
            for name in self.task.names * self.task.times:
                try:
                    self.got(await work(name))
                except (Cancelled, RecoveryError, ValueError) as error:
                    self.got(error=error)
                await anyio.sleep(self.task.pause)
            if resumption is not None:
                await resumption


def sleep_until(until: float, condition: Callable[[], bool]) -> None:
    """Sleep until that monotonic time is past and *condition* holds."""
    while time.monotonic() < until or not condition():
        time.sleep(0.002)


def be_process(path: str, folder: str, name: str, task: dict[str, Any]) -> None:
    """Be the process *name*, which does *task*."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    process = Process(path, folder, name, msgspec.convert(task, Task))
    if process.task.mode == "plain":
        process.run()
    else:
        anyio.run(process.arun, backend=process.task.mode)


# what is checked


class Pair:
    """Processes of one journal in *folder*, and what they noted."""

    def __init__(self, folder: Path, fork_server: ForkServer) -> None:
        self.folder = folder
        self.path = folder / "journal" / "calls.db"
        self.children: dict[str, Child] = {}
        self._fork_server = fork_server

    def start(self, name: str, task: Task) -> Child:
        """Start a process; returns when it has the journal open. The first writes the journal's own file."""
        about = (str(self.path), str(self.folder), name, msgspec.to_builtins(task))
        child = self._fork_server.fork(be_process, *about, out=self.folder / f"out-{name}")
        self.children[name] = child
        self.wait_for("ready", child)
        return child

    def go(self, name: str = "both") -> None:
        """Let a process ask for its calls."""
        (self.folder / f"go-{name}").touch()

    def let_go(self) -> None:
        """Let the bodies end that wait for it."""
        (self.folder / "let-go").touch()

    def notes(self, what: str, *children: Child) -> list[dict[str, Any]]:
        """The notes of that kind; those of *children* only, if there are any."""
        with suppress(FileNotFoundError):
            lines = [json.loads(line) for line in (self.folder / "notes").read_bytes().splitlines()]
            pids = {child.pid for child in children}
            return [line for line in lines if line["what"] == what and (not pids or line["pid"] in pids)]
        return []

    def wait_for(self, what: str, *children: Child, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are *count* notes of that kind, of *children* only, if there are any."""
        return self._wait(lambda: (found := self.notes(what, *children))[count - 1 :] and found, what)

    def wait_for_line(self, child: Child, text: str) -> str:
        """Wait until *child* has logged a line with *text*, and return that line."""
        return self._wait(lambda: next((one for one in self.log(child) if text in one), None), text)

    def _wait(self, found: Callable[[], Any], what: str) -> Any:
        limit = time.monotonic() + MAX_SECONDS
        while not (result := found()):
            assert time.monotonic() < limit, f"no {what!r}: {self.said()}"
            time.sleep(0.002)
        return result

    def log(self, child: Child) -> list[str]:
        """The lines that *child* has written."""
        return child.out.read_text().splitlines() if child.out.exists() else []

    def said(self) -> str:
        """Everything that was noted and written, for a failure."""
        notes = self.folder / "notes"
        texts = [notes.read_text()] if notes.exists() else []
        return "\n".join([*texts, *(f"{name}: {child.out.read_text()}" for name, child in self.children.items())])

    def end(self) -> None:
        """Wait until every process has ended."""
        for child in self.children.values():
            assert child.ended or child.wait(MAX_SECONDS) is not None, f"it did not end: {self.said()}"

    def kill(self) -> None:
        """End every process, however it is."""
        for child in self.children.values():
            if not child.ended:
                child.send(signal.SIGCONT)
                child.kill()

    def got(self, child: Child) -> dict[str, Any]:
        """What the one call of *child* got."""
        [got] = self.wait_for("got", child)
        return got

    def bodies(self) -> list[tuple[float, float, dict[str, Any]]]:
        """The bodies of all processes: when they began and ended, and what was noted at their beginning."""
        found = []
        for begin in self.notes("begin"):
            ends = [one["at"] for one in self.notes("end") if one["pid"] == begin["pid"] and one["at"] >= begin["at"]]
            # Where a body has no end, its process was killed: it may be gone before the wait for it is over.
            child = next(one for one in self.children.values() if one.pid == begin["pid"])
            found.append((begin["at"], min(ends, default=child.killed or child.ended or float("inf")), begin))
        return sorted(found, key=lambda one: one[0])

    def only(self) -> dict[str, Any]:
        """The beginning of the one body that ran."""
        bodies = self.bodies()
        assert len(bodies) == 1, f"{len(bodies)} bodies: {self.said()}"
        return bodies[0][2]

    def check_alone(self) -> None:
        """No body ran beside another of the same name."""
        for (_, end, one), (begin, _, other) in itertools.combinations(self.bodies(), 2):
            assert one["name"] != other["name"] or begin >= end, f"two bodies side by side: {self.said()}"


def both(two: Pair, way: int, holder: Task, other: Task) -> tuple[Child, Child]:
    """Start both, one of which runs its body when this returns while the other waits for it.

    With *way* 0 the first one writes the journal's own file, with 1 the second.
    """
    tasks = [("holder", holder), ("other", other)]
    children = {name: two.start(name, task) for name, task in (tasks if way == 0 else tasks[::-1])}
    two.go("holder")
    two.wait_for("saved", children["holder"])
    two.go("other")
    line = two.wait_for_line(children["other"], "runs an equal call")
    assert str(children["holder"].pid) in line, line
    return children["holder"], children["other"]


# the cases


def race(two: Pair, mode: str, way: int) -> None:
    """Both ask at once: one body, and both get its recorded result."""
    del way
    task = Task(mode=mode, is_keyed=True, seconds=0.05)
    one, other = two.start("one", task), two.start("other", task)
    two.go()
    results = {two.got(child)["result"] for child in (one, other)}
    two.end()
    begin = two.only()
    assert results == {f"a of {begin['pid']}"}, two.said()


def recorded(two: Pair, mode: str, way: int) -> None:
    """The other gets the recorded result."""
    holder, other = both(two, way, Task(mode=mode, is_keyed=True, end="wait"), Task(mode=mode, is_keyed=True))
    two.let_go()
    assert two.got(other)["result"] == f"a of {holder.pid}", two.said()
    two.end()
    two.only()


def succeeded(two: Pair, mode: str, way: int) -> None:
    """Without a recorded result the other is told which call succeeded."""
    _told(two, mode, way, "return", "succeeded in another process, and its result was not recorded")


def gave_up(two: Pair, mode: str, way: int) -> None:
    """The other is told the error, redacted."""
    got = _told(two, mode, way, "raise", "gave up in another process: permanent: ValueError: broken by token=")
    assert "abcdefghijkl" not in got, got


def cancelled(two: Pair, mode: str, way: int) -> None:
    """The other is told that the call was cancelled."""
    _told(two, mode, way, "cancel", "was cancelled in another process")


def _told(two: Pair, mode: str, way: int, end: str, text: str) -> str:
    _, other = both(two, way, Task(mode=mode, end=end, seconds=0.1), Task(mode=mode))
    got = two.got(other)
    two.end()
    begin = two.only()
    assert got["error"] == "JoinedElsewhere", two.said()
    assert f"work: call {begin['call']} {text}" in got["text"], got["text"]
    return str(got["text"])


def killed(two: Pair, mode: str, way: int) -> None:
    """The other goes on with the same call from the checkpoint."""
    holder, other = both(two, way, Task(mode=mode, end="wait"), Task(mode=mode))
    holder.kill()
    assert two.got(other)["result"] == f"a of {other.pid}", two.said()
    two.end()
    two.check_alone()
    (_, _, first), (_, _, second) = two.bodies()
    assert (second["call"], second["saved"]) == (first["call"], [holder.pid]), two.said()


def killed_at_random(two: Pair, mode: str, way: int) -> None:
    """Both ask at once, and that one of them which runs the body is killed at some moment."""
    task = Task(mode=mode, seconds=0.1)
    one, other = two.start("one", task), two.start("other", task)
    two.go()
    [begin, *_] = two.wait_for("begin")
    holder, waits = (one, other) if begin["pid"] == one.pid else (other, one)
    time.sleep(0.01 * way + (time.monotonic() * 1e4 % 1) * 0.1)
    holder.kill()
    got = two.got(waits)
    two.end()
    two.check_alone()
    told = got["error"] == "JoinedElsewhere" and len(two.bodies()) == 1
    assert told or got["result"] == f"a of {waits.pid}", two.said()


def both_resume(two: Pair, mode: str, way: int) -> None:
    """Both resume what a third left and ask for the same: each body runs once."""
    names = tuple("abcdef")
    dead = two.start("dead", Task(names=names, end="wait", asks_at_once=True))
    two.go("dead")
    two.wait_for("saved", dead, count=len(names))
    dead.kill()
    task = Task(mode=mode, names=names if way == 0 else names[::-1], resumes=True, seconds=0.03)
    children = two.start("one", task), two.start("other", msgspec.structs.replace(task, names=names))
    two.go()
    two.end()
    two.check_alone()
    for name in names:
        runs = [begin for _, _, begin in two.bodies() if begin["name"] == name]
        assert len(runs) == 2, (name, two.said())
        assert runs[0]["call"] == runs[1]["call"], two.said()
    for child in children:
        assert {got["error"] for got in two.notes("got", child)} <= {None, "JoinedElsewhere"}, two.said()


def dies_later(two: Pair, mode: str, way: int) -> None:
    """One that has resumed already goes on with the call of the other, which is killed then."""
    tasks = {
        "living": Task(mode=mode, names=("b",), end="wait", resumes=True, adopt_every=0.01),
        "holder": Task(mode=mode, end="wait"),
    }
    children = {name: two.start(name, tasks[name]) for name in (tasks if way == 0 else reversed(tasks))}
    two.go()
    two.wait_for("saved", children["living"])
    [before] = two.wait_for("saved", children["holder"]) and two.notes("begin", children["holder"])
    children["holder"].kill()
    _, went_on = two.wait_for("begin", children["living"], count=2)
    two.let_go()
    two.end()
    two.check_alone()
    assert (went_on["call"], went_on["saved"]) == (before["call"], [children["holder"].pid]), two.said()


def killed_and_adopted(two: Pair, mode: str, way: int) -> None:
    """The other waits for the call, and adopts it before it has the claim: it goes on with it once, and is done."""
    other_task = Task(mode=mode, times=2, resumes=True, adopt_every=0.002)
    holder, other = both(two, way, Task(mode=mode, end="wait"), other_task)
    time.sleep(0.1)  # until the other asks for the claim less often than it looks for files
    holder.kill()
    two.wait_for("got", other, count=2)
    two.end()
    two.check_alone()
    assert [got["error"] for got in two.notes("got", other)] == [None, None], two.said()
    (_, _, first), (_, _, second), (_, _, third) = two.bodies()
    assert (second["call"], second["saved"]) == (first["call"], [holder.pid]), two.said()
    assert (third["call"] != first["call"], third["saved"]) == (True, None), two.said()
    assert "stays pending" not in "".join(two.log(other)), two.said()


def stopped(two: Pair, mode: str, way: int) -> None:
    """The other says at once which process it waits for, and is rejected when its time is over."""
    tasks = [("holder", Task(mode=mode, end="wait")), ("other", Task(mode=mode, most=0.4))]
    children = {name: two.start(name, task) for name, task in (tasks if way == 0 else tasks[::-1])}
    holder, other = children["holder"], children["other"]
    two.go("holder")
    two.wait_for("saved", holder)
    holder.send(signal.SIGSTOP)
    began = time.monotonic()
    two.go("other")
    two.wait_for_line(other, f"process {holder.pid} runs an equal call; this one waits for its end, at most 0.4 s")
    assert time.monotonic() - began < 0.3, two.said()
    got = two.got(other)
    holder.send(signal.SIGCONT)
    two.let_go()
    two.end()
    assert got["error"] == "CallRejectedError", two.said()
    assert f"process {holder.pid} still runs an equal call after 0.4 s" in got["text"], got["text"]
    two.only()


def poisonous(two: Pair, mode: str, way: int) -> None:
    """A call that kills each process that goes on with it has its attempts, and the last process is told so."""
    del way
    task = Task(mode=mode, end="wait", makes_progress=False, retries=2)
    waiting = [two.start(str(number), task) for number in range(task.retries + 2)]
    two.go()
    [begin] = two.wait_for("begin")
    for child in waiting:
        if child.pid != begin["pid"]:
            two.wait_for_line(child, "runs an equal call")
    for number in range(task.retries + 1):
        begin = two.wait_for("begin", count=number + 1)[-1]
        holder = next(child for child in waiting if child.pid == begin["pid"])
        two.wait_for("saved", holder)
        holder.kill()
        waiting.remove(holder)
    got = two.got(waiting[0])
    two.end()
    assert got["error"] == "CallRejectedError", two.said()
    assert f"call {begin['call']} is quarantined" in got["text"], got["text"]
    two.check_alone()


def busy(two: Pair, mode: str, way: int) -> None:
    """A process that makes equal calls again and again does not keep the other from its turn."""
    again = Task(mode=mode, seconds=0.05, times=40, pause=0.12)
    _, other = both(two, way, again, Task(mode=mode))
    two.got(other)
    assert len(two.notes("got", two.children["holder"])) < again.times, f"it had no turn: {two.said()}"
    two.check_alone()


def forked(two: Pair, mode: str, way: int) -> None:
    """A child that is forked in a body, and leaves it, may ask for an equal call, and waits for its parent."""
    del mode, way
    parent = two.start("parent", Task(end="fork", seconds=0.2))
    two.go()
    parent.wait(MAX_SECONDS)
    got = {one["pid"]: one for one in two.notes("got")}
    assert len(got) == 2, two.said()
    assert got.pop(parent.pid)["result"] == f"a of {parent.pid}", two.said()
    [child] = got.values()
    assert child["error"] == "JoinedElsewhere", two.said()
    two.only()


CASES: dict[str, Callable[[Pair, str, int], None]] = {
    "ask at once": race,
    "recorded": recorded,
    "succeeded": succeeded,
    "gave up": gave_up,
    "cancelled": cancelled,
    "killed": killed,
    "killed at random": killed_at_random,
    "stopped": stopped,
    "both resume": both_resume,
    "dies later": dies_later,
    "killed and adopted": killed_and_adopted,
    "poisonous": poisonous,
    "busy": busy,
    "forked": forked,
}

ONCE = ("poisonous", "busy", "forked")
"""Cases that do not depend on which of the two is killed, or in which mode: a few rounds are enough."""


def run_case(fork_server: ForkServer, name: str, mode: str, way: int) -> None:
    """Run a case in a folder of its own. Raises AssertionError with everything that the processes said."""
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        two = Pair(Path(folder), fork_server)
        try:
            CASES[name](two, mode, way)
        finally:
            two.kill()


def two_processes(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figures of two processes that ask for equal calls."""
    del fork_server  # each thread has its own
    rounds, wrong, begun = scaled(ROUNDS, share), Counter[str](), queue.SimpleQueue[tuple[str, str, int]]()
    for name, way, number in itertools.product(CASES, (0, 1), range(rounds)):
        if name not in ONCE or number < 2:
            begun.put((name, "plain", way))
        if name not in ONCE:
            begun.put((name, ASYNC_MODES[number % 2], way))
    done = Counter[str]()

    def work(_: int) -> None:
        with ForkServer() as own, suppress(queue.Empty):
            while True:
                name, mode, way = begun.get_nowait()
                done[name] += 1
                try:
                    run_case(own, name, mode, way)
                except AssertionError as problem:
                    wrong[name] += 1
                    print(f"{name}, {mode}, way {way}: {problem}", file=sys.stderr)

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(work, range(PARALLEL)))
    return [
        Figure(f"two processes: {name}", f"{done[name]} times", f"{wrong[name]} wrong", "0", not wrong[name])
        for name in CASES
    ]
