"""Figures: what was done how often, the result, and its target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.torture.fork_server import ForkServer

MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder in memory, for work that needs no real disk; None means the default folder of temporary files."""


class Figure(msgspec.Struct, frozen=True):
    """One line of the table; *figure* and *target* are texts with units."""

    what: str
    how_often: str
    figure: str
    target: str
    passed: bool


class Row(msgspec.Struct, frozen=True):
    """A suite that gives one or more figures. *work* takes a fork server and the share of the full count."""

    name: str
    work: Callable[[ForkServer, float], list[Figure]]


def shown(figures: list[Figure]) -> int:
    """Print the table of *figures*, and again what misses its target; returns the exit code: 1 if one does."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    table = Table("what", "how often", "figure", "target", "")
    for figure in figures:
        passed = "[green]pass" if figure.passed else "[bold red]FAIL"
        table.add_row(figure.what, figure.how_often, figure.figure, figure.target, passed)
    console.print(table)
    missed = [figure for figure in figures if not figure.passed]
    for figure in missed:
        console.print(f"FAIL: {figure.what}: {figure.figure}; target {figure.target}", soft_wrap=True, markup=False)
    return 1 if missed else 0


def percentile(values: list[float], share: float) -> float:
    """The value that *share* of *values* do not exceed; 0 without values."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else 0.0


def scaled(full: int, share: float) -> int:
    """That *share* of the *full* count, at least 1."""
    return max(round(full * share), 1)
