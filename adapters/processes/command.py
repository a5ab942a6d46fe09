"""Run a command: alone, in a process group of its own, with its output in a bounded log.

All that a command starts ends with a cancelled attempt, also what has left its group. What a command has left running
when it ended by itself, a server say, stays. A command that outlived a launcher (``kill -9``) is waited for, or ended:
two at once (``pip install`` into one environment) would do harm. Its exit code is not known, so it runs again.

Each command has these files in the folder of logs:

- ``<name>.log``: what it printed (``log_file``);
- ``<name>.running``: which process it is, while it runs (``running``);
- ``<name>.raw``: what it prints, until that is in the log (``output``).
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import anyio.abc

from adapters.processes.environment import environment_of
from adapters.processes.identity import age_of, identity_of, is_alive, process_of
from adapters.processes.log_file import LogFile
from adapters.processes.output import Output
from adapters.processes.running import POLL_INTERVAL, Reminder, Running, RunningFile, alone, file_name, hash_of
from adapters.processes.silence import SilenceWatch
from adapters.processes.tree import GRACE, Tree
from events.errors import Retryable
from recovery import validation
from recovery.serialization.secret import Secret

Orphans: TypeAlias = Literal["wait", "end", "adopt"]

log = logging.getLogger("recovery.launch")

_running: set[Tree] = set()


class SilentCommandError(Retryable):
    """A command printed nothing and did nothing for too long, and was ended. Another attempt may help.

    Args:
        message: Which command, and for how long.
        output: The beginning and the end of what it printed.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its own arguments."""
        return type(self), (str(self), self.output), self.__getstate__()


async def run_command(
    name: str,
    argv: Sequence[str],
    *,
    cwd: Path,
    logs: Path,
    env: Mapping[str, str | Secret | None] | None = None,
    silence: float | None = None,
    orphans: Orphans = "wait",
    grace: float = GRACE,
    on_output: Callable[[str], object] | None = None,
    files: str | None = None,
    is_done: Callable[[], Awaitable[bool]] | None = None,
    hold: Callable[[Tree, bool], object] | None = None,
    before_end: Callable[[int], object] | None = None,
) -> None:
    """Run *argv* to its end, without a shell. Cancelled, it ends every process of the command first.

    Args:
        name: What messages call it.
        argv: The program and its arguments.
        cwd: The folder it runs in.
        logs: The folder for its output.
        env: Variables that its environment has beside those of this process, without those that are ``None``. They are
            never logged: the output is redacted of each ``Secret``, and of texts named as secrets are (``HF_TOKEN``).
        silence: Seconds without output, processor time, and input and output of all its processes, after which it is
            ended; ``None`` for no limit. What waits for an answer from elsewhere is silent, too.
        orphans: What becomes of the command of a launcher that was killed: it is waited for ("wait"), ended ("end"), or
            waited for if it has the same *argv*, and else ended ("adopt").
        grace: Seconds from SIGTERM to SIGKILL for its processes, once it must end.
        on_output: Called with each line of its output, redacted.
        files: Names its files in *logs*, by default *name*. Commands with the same one wait for each other.
        is_done: Asked just before the command is started, once no other launcher and no orphan runs it: if it is done
            by then, it is not run.
        hold: For a server, of which nothing stays. Called with its processes once it runs, and if it is an orphan.
        before_end: Called with its process id before the launcher sends it a first signal.

    Raises:
        subprocess.CalledProcessError: It failed; the error has the beginning and the end of its output.
        SilentCommandError: It was silent for too long.
        OSError: It cannot be started.
        LookupError: The environment has no variable that a ``Secret`` refers to.
        TypeError: *argv* is one text.
        ValueError: *argv* is empty, or a setting is out of range.
    """
    if isinstance(argv, str):
        raise TypeError(f"argv must be a list of texts, not the text {argv!r:.80}; no shell reads it")
    if not argv:
        raise ValueError("argv must name a program")
    if silence is not None:
        validation.number("silence", silence, above=0.0)
    validation.number("grace", grace)
    validation.choice("orphans", orphans, ("wait", "end", "adopt"))
    environment = environment_of(env or {})
    async with _files(name, logs, file_name(files or name), on_output) as (running, output):
        command = _Command(name, running, output, silence, grace, hold, before_end)
        await command.see_to_orphan(orphans, hash_of(argv))
        if is_done is not None and await is_done():
            return
        await command.run(argv, cwd, environment)


def kill_all() -> None:
    """Send SIGKILL to every process of each command that this process runs or ends now."""
    for tree in tuple(_running):
        tree.kill()


# Where the launcher runs in a daemon thread, or the wait for its thread was interrupted.
atexit.register(kill_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)


class _Command:
    """One run of a command."""

    def __init__(
        self,
        name: str,
        running: RunningFile,
        output: Output,
        silence: float | None,
        grace: float,
        hold: Callable[[Tree, bool], object] | None,
        before_end: Callable[[int], object] | None,
    ) -> None:
        self._name = name
        self._running = running
        self._output = output
        self._silence = silence
        self._grace = grace
        self._hold = hold
        self._before_end = before_end

    async def see_to_orphan(self, orphans: Orphans, argv: str) -> None:
        """Wait for what a killed launcher left of the command, or end it."""
        left = self._running.left
        if left is None:
            return
        tree = Tree(left.mark, None, self._before_end)
        process = tree.oldest() if left.process is None else process_of(left.process)
        tree.group = None if process is None else process.pid
        if left.ending or (process is not None and (orphans == "end" or (orphans == "adopt" and left.argv != argv))):
            if process is not None:
                text = "%s still runs as process %d, for %s: its launcher (process %d) was killed; it is ended"
                log.warning(text, self._name, process.pid, age_of(process), left.launcher)
            if tree.members():
                await self._end(tree, left.ending or "its launcher was killed")
        elif process is not None:
            if self._hold is not None:
                self._hold(tree, True)
            reminder = Reminder()
            changed = "" if left.argv == argv else " (of another command line)"

            async def end_of_process() -> None:
                while is_alive(process):
                    if self._hold is None and reminder.is_due():
                        text = "%s waits for process %d%s, which has run for %s: its launcher (process %d) was killed"
                        log.warning(text, self._name, process.pid, changed, age_of(process), left.launcher)
                    await anyio.sleep(POLL_INTERVAL)

            await self._follow(tree, end_of_process)
        await self._end_rest(tree)

    async def run(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        """Run it to its end. Raises as ``run_command``."""
        self._output.begin()
        tree = Tree(uuid.uuid4().hex, None, self._before_end)
        # The mark finds the process if this one is killed before that one's id is noted.
        self._running.write(Running(mark=tree.mark, argv=hash_of(argv), launcher=os.getpid()))
        _running.add(tree)
        try:
            process = await self._start(argv, cwd, {**environment, **tree.environment()})
            tree.group = process.pid
            async with process:
                self._running.change(process=identity_of(process.pid))
                if self._hold is not None:
                    self._hold(tree, False)
                is_silent = await self._follow(tree, process.wait)
                code = await process.wait()
                await self._end_rest(tree)
        except anyio.get_cancelled_exc_class():
            tree.kill()  # asyncio's own cancellation comes through a shield, also half way through the start
            raise
        finally:
            _running.discard(tree)
        self._output.copy_rest()
        if is_silent:
            text = f"{self._name} printed nothing and did nothing for {self._silence:g} s, and was ended"
            raise SilentCommandError(text, self._output.told())
        if code != 0:
            raise subprocess.CalledProcessError(code, argv, stderr=self._output.told())

    async def _start(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> anyio.abc.Process:
        stdout = self._output.open_for_process()
        try:
            with anyio.CancelScope(shield=True):  # a start that is cancelled half way leaves a process
                return await anyio.open_process(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    start_new_session=True,  # a group of its own, without a terminal that it could ask for a password
                    env=environment,
                )
        finally:
            os.close(stdout)
        raise AssertionError("a shielded scope ends with what is awaited in it")

    async def _follow(self, tree: Tree, end: Callable[[], Awaitable[object]]) -> bool:
        """Copy the output until *end* returns. Returns whether the command was ended, because it was silent."""
        watch = SilenceWatch(self._silence, tree)
        is_over = anyio.Event()

        async def wait() -> None:
            await end()
            is_over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)  # once: asyncio keeps each cancelled wait for a process until that ends
            try:
                while not is_over.is_set():
                    with anyio.move_on_after(POLL_INTERVAL):
                        await is_over.wait()
                    if self._output.copy():
                        watch.start_over()
                    elif not is_over.is_set() and watch.is_over():
                        await self._end(tree, f"silent for {self._silence:g} s")
                        return True
            except BaseException:
                await self._end(tree, "cancelled")
                raise
        return False

    async def _end_rest(self, tree: Tree) -> None:
        """End what a server has left: it could hold the port, or the memory, that the next start needs."""
        if self._hold is not None and tree.members():
            await self._end(tree, "its server has ended")

    async def _end(self, tree: Tree, why: str) -> None:
        """End the processes of *tree*. That this is the launcher's doing is noted first, in the file and in the log."""
        self._running.change(ending=why)
        self._output.copy_rest()
        self._output.note(f"ended by the launcher: {why}")
        _running.add(tree)  # an orphan's, too
        try:
            await tree.end(self._grace)
        finally:
            _running.discard(tree)


# Its files


@asynccontextmanager
async def _files(
    name: str, logs: Path, plain: str, on_output: Callable[[str], object] | None
) -> AsyncIterator[tuple[RunningFile, Output]]:
    """The files of the command *name*, once no other launcher runs it."""
    async with AsyncExitStack() as stack:
        try:
            logs.mkdir(parents=True, exist_ok=True)
            opened = await _open_files(stack, name, logs / plain, on_output)
        except OSError as error:
            log.warning("the output of %s cannot be kept: %s", name, error)
            await stack.aclose()
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="recovery-"))
            opened = await _open_files(stack, name, Path(folder) / plain, on_output)
        yield opened


async def _open_files(
    stack: AsyncExitStack, name: str, path: Path, on_output: Callable[[str], object] | None
) -> tuple[RunningFile, Output]:
    running = await stack.enter_async_context(alone(name, path.with_name(f"{path.name}.running")))
    log_file = LogFile(path.with_name(f"{path.name}.log"))
    stack.callback(log_file.close)
    output = Output(
        name,
        path.with_name(f"{path.name}.raw"),
        log_file,
        offset=running.left.copied if running.left is not None else 0,
        on_output=on_output,
        on_copied=lambda copied: running.change(copied=copied),
    )
    stack.callback(_close, output, name)
    return running, output


def _close(output: Output, name: str) -> None:
    if output.close():
        log.info("%s has left processes running, which write to its output", name)
