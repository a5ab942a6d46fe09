"""A figure: what was done how often, what came of it, and what had to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.torture.fork_server import ForkServer

QUICK = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder in memory, for what does not depend on how long a disk takes; ``None``: wherever temporary files are."""


class Figure(msgspec.Struct, frozen=True):
    """One line of the table; *figure* and *target* are texts with their units."""

    what: str
    how_often: str
    figure: str
    target: str
    passed: bool


class Row(msgspec.Struct, frozen=True):
    """Something to do for one or more figures. *work* is given a zygote, and the share of the full count to do."""

    name: str
    work: Callable[[ForkServer, float], list[Figure]]


def percentile(values: list[float], share: float) -> float:
    """The value that *share* of *values* do not exceed; 0 if there are none."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else 0.0


def times(full: int, share: float) -> int:
    """How often something is done of which *full* times would be all."""
    return max(round(full * share), 1)
