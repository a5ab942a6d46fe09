"""How many Python functions one call of recovery runs on the caller's thread.

These are counts, not times, and the regression gate allows no growth. They show when a call leaves the compiled path
for the general one, whatever the machine does. They come from ``sys.setprofile``; the measured function's own calls are
not in them. They depend on the version of Python, not on the machine.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec

from adapters.memory import MemoryStore
from bench.measure import Effort, exact
from bench.row import Row
from bench.workloads import do_nothing, fails_every_other, fails_every_other_with_note, observed, settle
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
    """

    calls: int
    files: int


def measure(effort: Effort) -> list[Row]:
    every = by_name()
    return [
        Row(
            key=key,
            what=f"Python functions that run: {what}, sync",
            unit="",
            measured=exact(every[key].calls),
            note=f"in {every[key].files} files",
        )
        for key, what in COUNTED.items()
    ]


COUNTED = {
    "failure-calls": "one failure then success, lazy journal in memory",
    "failure-calls-observed": "the same with observers of failure, retry and recovery",
    "failure-calls-general": "the same with a note on the exception: the general path",
    "success-calls-journal": "one success in journal mode",
}
"""What is counted, by the key of its row."""


def by_name() -> dict[str, CallCount]:
    """Count each of the calls, with a journal in memory."""
    with Recovery(store=MemoryStore()) as service:
        observed(service, "observed")
        failing = partial(service.recoverable, durability="lazy", initial_delay=0.0)
        calls = (
            failing("fails")(fails_every_other()),
            failing("observed")(fails_every_other()),
            failing("noted")(fails_every_other_with_note()),
            service.recoverable("succeeds", durability="journal")(do_nothing),
        )
        return {key: _median(call, service) for key, call in zip(COUNTED, calls, strict=True)}


def _median(call: Callable[[], object], service: Recovery) -> CallCount:
    counts = []
    for _ in range(REPEATS + 1):
        counts.append(count(call))
        settle(service)
    first_is_warm_up = counts[1:]
    return CallCount(
        calls=statistics.median_low(one.calls for one in first_is_warm_up),
        files=statistics.median_low(one.files for one in first_is_warm_up),
    )


def count(call: Callable[[], object]) -> CallCount:
    """Run *call* once and count what it runs on this thread."""
    files: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.append(frame.f_code.co_filename)

    previous, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # the finalizers of others are not the call's
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(previous)
        if collects:
            gc.enable()
    files = [file for file in files if not file.startswith(f"{ROOT / 'bench'}/")]
    return CallCount(calls=len(files), files=len({file for file in files if file.startswith(PACKAGES)}))
