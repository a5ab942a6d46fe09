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
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

import anyio

from adapters.processes.identity import is_alive, is_living
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
        before_end: Called once with *group* before the first signal is sent, if the command's own process runs then.
    """

    def __init__(self, mark: str, group: int | None = None, before_end: Callable[[int], object] | None = None) -> None:
        self.mark = mark
        self.group = group
        self._before_end = before_end

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
        self._tell()
        try:
            for does_kill, seconds in ((False, grace), (True, KILL_TIME)):
                with anyio.move_on_after(seconds, shield=True):
                    await self._signal_until_gone(does_kill=does_kill)
                    return
        except BaseException:  # asyncio's own cancellation comes through
            self.kill()
            raise
        if left := [one.pid for one in self.members()]:
            log.warning("these processes cannot be ended, and still run: %s", ", ".join(map(str, left)))

    def kill(self) -> None:
        """Send SIGKILL to every process."""
        self._tell()
        self._signal(self.members(), does_kill=True)

    def _tell(self) -> None:
        """Call *before_end*."""
        if self._before_end is None or self.group is None or not is_living(self.group):
            return
        tell, self._before_end = self._before_end, None
        try:
            tell(self.group)
        except Exception:  # what must end ends all the same
            log.exception("the function that is told the end of process %d failed", self.group)

    async def _signal_until_gone(self, *, does_kill: bool) -> None:
        seen_none = 0
        while seen_none < 2:  # one look may miss what is started during it
            members = self.members()  # those that were started since the last signal
            seen_none = 0 if members else seen_none + 1
            self._signal(members, does_kill=does_kill)
            await anyio.sleep(POLL_INTERVAL)
            while any(map(is_alive, members)):  # a second SIGTERM means "at once" to some programs
                await anyio.sleep(POLL_INTERVAL)

    def _signal(self, members: Collection[psutil.Process], *, does_kill: bool) -> None:
        """Send SIGKILL or SIGTERM: to a whole group at once, so that no shell goes on after a child that ended."""
        whole = {self.group, *(one.pid for one in members)}
        groups: dict[int | None, list[psutil.Process]] = {}
        for one in sorted(members, key=_created):  # parents first
            groups.setdefault(_group_of(one.pid), []).append(one)
        for group, each in groups.items():
            if group in whole and group is not None and group != os.getpgrp():
                with suppress(OSError):
                    os.killpg(group, signal.SIGKILL if does_kill else signal.SIGTERM)
                continue
            for one in each:
                with suppress(psutil.Error):  # it is over, or another user's
                    one.kill() if does_kill else one.terminate()

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


def _group_of(pid: int) -> int | None:
    if os.name == "posix":
        with suppress(OSError):
            return os.getpgid(pid)
    return None
