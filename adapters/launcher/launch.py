"""Run a launch plan: every operation recovers by itself, and the whole resumes after a restart.

The launch is itself a resumable call: its checkpoint says which operations have ended, and how. A restart resumes
the launch, and under it the downloads and commands that were under way, with their attempts and delays.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import anyio
import httpx2
import msgspec

from adapters.downloads.http import download, host_of
from adapters.launcher.plan import Command, Download, LaunchPlan, Step
from adapters.sqlite.store import SQLiteStore
from events.attempt import Attempt
from events.call import Call
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from recovery import context
from recovery.policies.retry import RetryPolicy
from recovery.redact import redact
from recovery.resume.handles import ResumedCall, Resumption
from recovery.service import Recovery

STDERR_TAIL = 4096
LOAD_TIMEOUT = 10.0
"""Seconds that a launch waits for a journal that cannot be read, to know what an earlier one left."""
CONNECT_TIMEOUT = 10.0
ORPHAN_POLL = 0.2

try:
    import fcntl
except ImportError:  # Windows has no flock; there an orphan is not noticed
    fcntl = None  # type: ignore[assignment]

State: TypeAlias = Literal["done", "failed", "skipped"]

log = logging.getLogger("recovery.launch")


class Outcome(msgspec.Struct, frozen=True):
    """How one operation of a launch ended, and why if not well."""

    state: State
    why: str = ""


class Launch:
    """One plan on one service, ready to run. *service* must have a store; *logs* is where commands' output goes."""

    def __init__(self, plan: LaunchPlan, service: Recovery, *, logs: Path) -> None:
        self._plan = plan
        self._logs = logs
        self._service = service
        self._client: httpx2.AsyncClient | None = None
        self._slots = anyio.CapacityLimiter(plan.parallel)
        self._resumed: dict[str, ResumedCall] = {}
        self._knows_what_was_left = anyio.Event()
        self.outcomes: dict[str, Outcome] = {}
        settings: dict[str, Any] = {"resumable": True, "version": plan.version}
        self._launch = service.recoverable("launch", policy=RetryPolicy(max_retries=0), breaker=None, **settings)(
            self._run_steps
        )
        self._download = service.recoverable(
            "download",
            # What counts is failures in a row that brought no byte: a large file breaks off more often.
            policy=msgspec.structs.replace(plan.policy, progress_resets=None),
            breaker=plan.breaker,
            when_open="wait",
            key=lambda _name, url, *_: host_of(url),
            **settings,
        )(self._download_step)
        self._command = service.recoverable("command", policy=plan.policy, breaker=None, **settings)(self._command_step)

    async def run(self) -> dict[str, Outcome]:
        """Resume the launch that an earlier run left, or begin one. Returns how each operation ended."""
        timeout = httpx2.Timeout(self._plan.stall_timeout, connect=min(CONNECT_TIMEOUT, self._plan.stall_timeout))
        async with httpx2.AsyncClient(timeout=timeout, follow_redirects=True) as self._client, self._service:
            resumption = self._service.resume()
            with anyio.move_on_after(LOAD_TIMEOUT):
                await resumption.loaded.opened()
            if not resumption.loaded.is_open and self._service.journal is not None:
                self._service.journal.look(now=True)  # it goes on in memory
                await resumption.loaded.opened()
            self._drop_what_changed(resumption)
            launches = [call for call in resumption.calls if call.record.operation == "launch"]
            for call in resumption.calls:
                if call not in launches:
                    self._resumed[name_in_arguments(call.record.operation, call.record.arguments) or ""] = call
            self._knows_what_was_left.set()
            if launches:
                await launches[0]
                if launches[0].error is not None:
                    raise launches[0].error
            else:
                await self._launch(str(self._plan.path))
            return self.outcomes

    def _drop_what_changed(self, resumption: Resumption) -> None:
        """Calls of the plan as it was before somebody edited it: over, though the bytes they fetched are kept."""
        for record in resumption.left:
            if record.operation in ("launch", "download", "command"):
                operation = self._service.operation(record.operation)
                Attempt(Call(operation, record.call), record.attempt).cancel()
        if resumption.left:
            log.warning(
                "%s has changed since the last run; %d calls of it are dropped", self._plan.path, len(resumption.left)
            )

    async def _run_steps(self, _path: str) -> None:
        await self._knows_what_was_left.wait()  # a launch that is resumed may be quicker than who asked for it
        saved = context.saved(default={})
        self.outcomes = {name: msgspec.convert(outcome, Outcome) for name, outcome in saved.items()}
        ended = {step.name: anyio.Event() for step in self._plan.steps}

        async def run(step: Step) -> None:
            for need in step.needs:
                await ended[need].wait()
            if step.name not in self.outcomes:
                self.outcomes[step.name] = await self._outcome_of(step)
                context.checkpoint(self.outcomes)
            ended[step.name].set()

        async with anyio.create_task_group() as group:
            for step in self._plan.steps:
                group.start_soon(run, step)

    async def _outcome_of(self, step: Step) -> Outcome:
        missing = [need for need in step.needs if self.outcomes[need].state != "done"]
        if missing:
            return Outcome("skipped", f"needs {', '.join(missing)}")
        try:
            call = self._resumed.get(step.name)
            if call is None:
                await self._start(step)
            else:
                await call
                if call.error is not None:
                    raise call.error
        except Exception as error:  # its retries are spent; the other operations go on
            return Outcome("failed", redact(f"{type(error).__name__}: {error}"))
        return Outcome("done")

    def _start(self, step: Step) -> Awaitable[object]:
        match step:
            case Download():
                return self._download(step.name, step.url, step.destination, step.sha256, step.size)
            case Command():
                return self._command(step.name, list(step.run), step.cwd)

    async def _download_step(
        self, _name: str, url: str, destination: str, sha256: str | None, size: int | None
    ) -> None:
        assert self._client is not None
        async with self._slots:
            await download(
                self._client,
                url,
                self._plan.place(destination),
                sha256=sha256,
                size=size,
                note=_note_progress,
            )

    async def _command_step(self, name: str, argv: list[str], cwd: str) -> None:
        # Its output goes to a file: it may be long, and after a crash it is what one wants to read.
        with self._output_of(name) as file:
            await _lock(file)
            self._plan.root.mkdir(parents=True, exist_ok=True)  # where it runs, unless it says otherwise
            begin = file.seek(0, os.SEEK_END)
            process = await anyio.run_process(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
                cwd=self._plan.place(cwd),
                pass_fds=(file.fileno(),) if fcntl is not None else (),
                # Without it git waits for ever for a name that nobody types.
                env={"GIT_TERMINAL_PROMPT": "0", **os.environ},
            )
            if process.returncode != 0:
                raise subprocess.CalledProcessError(process.returncode, argv, stderr=_tail(file, begin))

    def _output_of(self, name: str) -> BinaryIO:
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            return (self._logs / f"{_as_file_name(name)}.log").open("a+b")
        except OSError as error:
            log.warning("the output of %s cannot be kept: %s", name, error)
            return cast("BinaryIO", tempfile.TemporaryFile())


def _note_progress(offset: int, size: int | None) -> None:
    context.checkpoint({"offset": offset, "size": size})
    context.progress(offset)


def open_service(journal: Path, *, on_trouble: Callable[[Event], object]) -> Recovery:
    """A service that writes its journal to *journal*; *on_trouble* is told if that cannot be, or not to this file."""
    service = Recovery(store=SQLiteStore(journal))
    service.bus.subscribe((JournalDegraded, JournalQuarantined), on_trouble)
    return service


def name_in_arguments(operation: str, arguments: bytes | None) -> str | None:
    """The plan's name for a call of *operation*: the first of its arguments, which are in the journal as JSON."""
    if operation not in ("download", "command") or not arguments:
        return None
    args, _ = msgspec.json.decode(arguments, type=tuple[list[Any], dict[str, Any]])
    return args[0] if args and isinstance(args[0], str) else None


async def _lock(file: BinaryIO) -> None:
    """Wait until nobody else runs this command.

    The command inherits the file, and with it the lock: one that outlived a killed launcher still has it, and a second
    one beside it (two ``pip install`` into one environment) would do harm.
    """
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await anyio.sleep(ORPHAN_POLL)
        else:
            return


def _as_file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _tail(file: BinaryIO, begin: int) -> str:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(begin, end - STDERR_TAIL))
    return file.read().decode("utf-8", "replace")
