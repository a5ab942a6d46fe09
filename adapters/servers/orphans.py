"""End the server that a killed launcher has left, and that no program holds any more."""

from __future__ import annotations

from pathlib import Path

import anyio

from adapters.processes.command import run_command
from adapters.processes.running import file_name

HELD_FOR = 5.0
"""Seconds after which a server counts as held by another launcher, whose log it writes."""


async def end_orphan(name: str, logs: Path) -> None:
    """End the server *name* with all its processes, if it is that of a launcher that was killed.

    Args:
        name: As of ``Launcher.server``.
        logs: The folder for the output of servers.
    """

    async def is_done() -> bool:
        return True  # nothing is started in its place

    if not (logs / f"{file_name(name)}.running").exists():
        return
    with anyio.move_on_after(HELD_FOR):
        await run_command(name, [name], cwd=logs, logs=logs, orphans="end", is_done=is_done)
