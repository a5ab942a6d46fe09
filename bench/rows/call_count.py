"""What one failing call runs: Python calls, files, and calls that lead from one file to another.

These are counts, not times. The cost of a failing call is the number of distinct instructions that it touches, so only
fewer calls make it faster. The counts are those of the calling thread, from ``sys.setprofile``; the measured function's
own calls are not in them. They depend on the version of Python, not on the machine.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Literal

import msgspec

from adapters.memory import MemoryStore
from bench.measure import Effort, exact
from bench.row import Row, most
from bench.workloads import fails_every_other, settle
from recovery import Recovery

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(f"{ROOT / package}/" for package in ("events", "recovery", "adapters"))
REPEATS = 25
"""Calls that are counted; the median is taken, for in journal mode the commit may be there before the call waits."""


class CallCount(msgspec.Struct, frozen=True):
    """What one call runs on its thread.

    Args:
        calls: Calls of Python functions, the standard library's included.
        files: Files of this project that these functions are in.
        moves: Calls from a function in one file to a function in another file of this project.
    """

    calls: int
    files: int
    moves: int


def measure(effort: Effort) -> list[Row]:
    lazy, journal = of_mode("lazy"), of_mode("journal")
    return [
        Row(
            key="failure-calls",
            what="Python calls of one failure then success, sync, lazy journal in memory",
            unit="",
            measured=exact(lazy.calls),
            goal=most(49.0, "≤ 49"),
            note=f"{lazy.moves} of them lead to another file",
        ),
        Row(
            key="failure-files",
            what="files of ours that one failure then success visits",
            unit="",
            measured=exact(lazy.files),
            goal=most(19.0, "≤ 19"),
        ),
        Row(
            key="failure-moves-journal",
            what="one failure then success, journal mode: calls that lead to another file",
            unit="",
            measured=exact(journal.moves),
            goal=most(76.0, "≤ 76"),
            note=f"of {journal.calls} calls in {journal.files} files",
        ),
    ]


def of_mode(durability: Literal["lazy", "journal"]) -> CallCount:
    """Count a call that fails once and then succeeds, with a journal in memory."""
    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable("count", durability=durability, initial_delay=0.0)(fails_every_other())
        counts = []
        for _ in range(REPEATS + 1):
            counts.append(count(call))
            settle(service)
    first_is_warm_up = counts[1:]
    return CallCount(
        calls=statistics.median_low(one.calls for one in first_is_warm_up),
        files=statistics.median_low(one.files for one in first_is_warm_up),
        moves=statistics.median_low(one.moves for one in first_is_warm_up),
    )


def count(call: Callable[[], object]) -> CallCount:
    """Run *call* once and count what it runs on this thread."""
    steps: list[tuple[str, str]] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_back is not None:
            steps.append((frame.f_back.f_code.co_filename, frame.f_code.co_filename))

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(previous)
    steps = [step for step in steps if not step[1].startswith(f"{ROOT / 'bench'}/")]
    ours = [step for step in steps if step[1].startswith(PACKAGES)]
    return CallCount(
        calls=len(steps), files=len({to for _, to in ours}), moves=sum(source != to for source, to in ours)
    )
