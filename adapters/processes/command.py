"""Run a command of a plan: alone, in a process group of its own, with its output in a file.

The group ends with the launch, and with a cancelled attempt. What a command has left running when it ended by itself,
a server say, stays. A command that outlived a launcher (``kill -9``) is waited for: two at once (``pip install`` into
one environment) would do harm. Two locks tell it from what it left running:

- on ``<name>.log``, held by the launcher alone: one launcher at a time decides;
- on ``<name>.lock``, handed down to every process that the command starts. The file names the command's own process,
  so that helpers which keep the lock are not waited for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, cast

import anyio
import anyio.abc

from adapters.disk import open_plain, try_lock
from recovery.subscribers.evidence_extraction import MAX_BYTES

POLL_INTERVAL = 0.2
GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL for the processes of a command that must end."""

log = logging.getLogger("recovery.launch")


async def run_command(name: str, argv: Sequence[str], *, cwd: Path, logs: Path, grace: float = GRACE) -> None:
    """Run *argv* to its end, without a shell. Cancelled, it ends every process of the command first.

    Args:
        name: Names the files in *logs*.
        argv: The program and its arguments.
        cwd: The folder it runs in.
        logs: The folder for its output.
        grace: Seconds from SIGTERM to SIGKILL for its processes, once it is cancelled.

    Raises:
        subprocess.CalledProcessError: It failed; the error has the end of its output.
        OSError: It cannot be started.
    """
    # The output goes to a file: it may be long, and a reader wants it after a crash.
    async with _alone(name, logs) as (output, lock):
        begin = output.seek(0, os.SEEK_END)
        process = await anyio.open_process(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # a group of its own, without a terminal that it could ask for a password
            env={"GIT_TERMINAL_PROMPT": "0", **os.environ},  # else git waits for ever for a user name
        )
        if lock is not None:
            os.pwrite(lock, f"{process.pid} {_start_of(process.pid)}\n".encode(), 0)
        async with process:
            try:
                code = await process.wait()
            except BaseException:
                await _end_group(process, grace)
                raise
        if code != 0:
            raise subprocess.CalledProcessError(code, argv, stderr=_tail(output, begin))


# Alone


@asynccontextmanager
async def _alone(name: str, logs: Path) -> AsyncIterator[tuple[BinaryIO, int | None]]:
    """The file for the output, and the lock to hand down, once no other process runs the command *name*."""
    plain = _file_name(name)
    with ExitStack() as stack:
        try:
            logs.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            output = stack.enter_context(os.fdopen(open_plain(logs / f"{plain}.log", flags), "a+b"))
            guard = stack.enter_context(os.fdopen(open_plain(logs / f"{plain}.log", flags), "a+b"))
        except OSError as error:
            log.warning("the output of %s cannot be kept: %s", name, error)
            yield cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile())), None
            return
        if os.name != "posix":  # no locks, and none can be handed down
            yield output, None
            return
        if not try_lock(guard.fileno()):
            log.warning("%s waits for another launch, which runs it now", name)
            while not try_lock(guard.fileno()):
                await anyio.sleep(POLL_INTERVAL)
        lock = await _lock(name, logs / f"{plain}.lock")
        stack.callback(os.close, lock)
        yield output, lock


async def _lock(name: str, path: Path) -> int:
    """The lock of *path*, taken as soon as no process is left of the command that an earlier launcher ran."""
    has_said = False
    while True:
        file = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            if try_lock(file):
                os.ftruncate(file, 0)
                return file
            pid, start = _recorded(file)
            if pid is not None and not (start and _start_of(pid) == start):
                path.unlink()  # only helpers hold it; the next lock is a new file
            else:
                if not has_said:
                    who = "a process" if pid is None else f"process {pid}"
                    log.warning("%s waits for %s, which runs it since an earlier launch was killed", name, who)
                    has_said = True
                await anyio.sleep(POLL_INTERVAL)
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _recorded(file: int) -> tuple[int | None, str]:
    """The process that the lock names, and its start; None where the launcher was killed before it wrote them.

    The start is "" for a process that was over at once.
    """
    found = re.fullmatch(rb"([0-9]{1,10}) (\S{0,20})\n", os.pread(file, 64, 0))
    return (int(found[1]), found[2].decode("latin-1")) if found else (None, "")


def _start_of(pid: int) -> str:
    """What tells the process *pid* from a later one of that number; "" if it is over."""
    if sys.platform != "linux":
        return "?" if _signal_group(pid, 0) else ""
    fields = _fields_of(Path(f"/proc/{pid}/stat"))
    return fields[19].decode() if fields else ""


def _fields_of(stat: Path) -> list[bytes]:
    """The fields of a process's *stat* file from the third on; none if it is over, also if its parent ignores that.

    Source: proc_pid_stat(5). Field 3 is the state, 5 the group, 22 the start in clock ticks since the system began.
    """
    try:
        fields = stat.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in (b"Z", b"X") else fields


def _file_name(name: str) -> str:
    """*name* as the name of a file of its own: at most 109 bytes, and another one for every other name."""
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:100]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


# The end


async def _end_group(process: anyio.abc.Process, grace: float) -> None:
    """End *process* and all that it started in its group: with SIGTERM, and after *grace* seconds with SIGKILL."""
    if os.name != "posix":
        process.kill()
        return
    try:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(grace, shield=True):
            await process.wait()
            while _is_alive(process.pid):
                await anyio.sleep(POLL_INTERVAL / 4)
    finally:
        _signal_group(process.pid, signal.SIGKILL)


def _is_alive(group: int) -> bool:
    """Whether a process of *group* runs. In a container, the first process may never collect those that are over."""
    if sys.platform != "linux" or not _signal_group(group, 0):
        return _signal_group(group, 0)
    return any(_fields_of(stat)[2:3] == [b"%d" % group] for stat in Path("/proc").glob("[0-9]*/stat"))


def _signal_group(group: int, number: int) -> bool:
    """Send the signal of that *number* to the process *group*; False if no process of it takes one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _tail(file: BinaryIO, begin: int) -> str:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(begin, end - MAX_BYTES))
    return file.read().decode("utf-8", "replace")
