"""The processes that a command starts: found although they leave its group, and ended.

A process belongs to a command if it is in the process group or session of the command's own process, if it bears the
command's mark in its environment, or if its parent belongs to the command. The mark finds what has left group, session
and parent behind (``setsid``, a double fork). Only a process that also clears its environment is not found. Marks can
be read on Linux, macOS and Windows, of processes of the same user.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress

import anyio

from adapters.processes.identity import is_alive
from recovery.installation import extra

with extra("launcher"):
    import psutil

VARIABLE = "LAUNCHER_RECOVERY_COMMAND"
"""The environment variable with the marks of a process: of its command, after those of the commands around it."""

GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL for the processes of a command that must end."""

KILL_TIME = 1.0
"""Seconds that processes get to be gone after SIGKILL."""

POLL_INTERVAL = 0.02

log = logging.getLogger("recovery.launch")


class Tree:
    """The processes of one command.

    Args:
        mark: What its processes bear in their environment; unique.
        group: The process id of the command's own process, which leads a process group and a session; ``None`` before
            it is started, and if it may be the id of another process by now.
    """

    def __init__(self, mark: str, group: int | None = None) -> None:
        self.mark = mark
        self.group = group

    def environment(self) -> dict[str, str]:
        """What the environment of the command's process needs so that its processes are found."""
        around = os.environ.get(VARIABLE)
        return {VARIABLE: f"{around}:{self.mark}" if around else self.mark}

    def members(self) -> list[psutil.Process]:
        """The processes of the command that run now."""
        every = {one.pid: one for one in psutil.process_iter(["ppid", "environ"]) if one.pid != os.getpid()}
        found = [pid for pid in every if self._is_marked(every[pid]) or self._is_in_group(pid)]
        belong = set(found)
        children: dict[int, list[int]] = {}
        for pid, one in every.items():
            children.setdefault(one.info["ppid"], []).append(pid)
        while found:
            new = [pid for pid in children.get(found.pop(), ()) if pid not in belong]
            belong.update(new)
            found += new
        return [every[pid] for pid in belong if is_alive(every[pid])]

    def oldest(self) -> psutil.Process | None:
        """The oldest process that leads a session: the command's own process, if that still runs."""
        leading = [one for one in self.members() if os.name != "posix" or _session_of(one.pid) == one.pid]
        return min(leading, key=_created, default=None)

    async def end(self, grace: float) -> None:
        """End every process: with SIGTERM, and after *grace* seconds with SIGKILL. A cancellation does not stop it."""
        try:
            for send, seconds in ((psutil.Process.terminate, grace), (psutil.Process.kill, KILL_TIME)):
                with anyio.move_on_after(seconds, shield=True):
                    await self._signal_until_gone(send)
                    return
        except BaseException:  # asyncio's own cancellation comes through
            self.kill()
            raise
        if left := [one.pid for one in self.members()]:
            log.warning("these processes cannot be ended, and still run: %s", ", ".join(map(str, left)))

    def kill(self) -> None:
        """Send SIGKILL to every process."""
        for one in self.members():
            _signal(one, psutil.Process.kill)

    async def _signal_until_gone(self, send: Callable[[psutil.Process], None]) -> None:
        told: set[psutil.Process] = set()
        while members := self.members():
            for one in set(members) - told:  # a second SIGTERM means "at once" to some programs
                _signal(one, send)
            told.update(members)
            await anyio.sleep(POLL_INTERVAL)
            while any(map(is_alive, members)):
                await anyio.sleep(POLL_INTERVAL)

    def _is_marked(self, process: psutil.Process) -> bool:
        return self.mark in ((process.info["environ"] or {}).get(VARIABLE) or "").split(":")

    def _is_in_group(self, pid: int) -> bool:
        if self.group is None or os.name != "posix":
            return pid == self.group
        with suppress(OSError):
            return self.group in (os.getpgid(pid), os.getsid(pid))
        return False


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _created(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return process.create_time()
    return math.inf  # it is over


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    with suppress(psutil.Error):  # it is over, or another user's
        send(process)
