"""Which process a process id means: its start and the boot tell it from a later process of the same number."""

from __future__ import annotations

import sys
import time

import msgspec

from recovery.installation import extra
from recovery.journal.boot import boot_id

with extra("launcher"):
    import psutil


class Identity(msgspec.Struct, frozen=True):
    """One process of one boot of the machine.

    Args:
        pid: Its process id.
        start: When it began. On Linux, seconds since the boot, which a change of the clock leaves alone; elsewhere,
            seconds since 1970.
        boot: The id of the boot, on Linux; "" elsewhere.
    """

    pid: int
    start: float
    boot: str


def identity_of(pid: int) -> Identity | None:
    """The identity of the process *pid*; ``None`` if there is no such process."""
    try:
        return Identity(pid, _start_of(psutil.Process(pid)), boot_id())
    except psutil.Error:
        return None


def process_of(identity: Identity) -> psutil.Process | None:
    """The process that *identity* means, as long as it runs; ``None`` once it is over, or its id is another's."""
    if identity.boot != boot_id():
        return None
    try:
        process = psutil.Process(identity.pid)
        return process if is_alive(process) and _start_of(process) == identity.start else None
    except psutil.Error:
        return None


def is_alive(process: psutil.Process) -> bool:
    """Whether *process* runs. A zombie does not: it is over, also where its parent never asks for its exit code."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_living(pid: int) -> bool:
    """Whether the process *pid* runs, as ``is_alive``."""
    try:
        return is_alive(psutil.Process(pid))
    except psutil.Error:
        return False


def age_of(process: psutil.Process) -> str:
    """How long *process* has been running, for a message: "42 s", "7 min", "3 h"."""
    try:
        seconds = max(0.0, time.time() - process.create_time())
    except psutil.Error:  # it is over
        seconds = 0.0
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _start_of(process: psutil.Process) -> float:
    if sys.platform != "linux":
        return process.create_time()
    while True:  # psutil adds the time of the boot, which changes with the clock
        before, created, after = psutil.boot_time(), process.create_time(), psutil.boot_time()
        if before == after:
            return round(created - before, 2)
