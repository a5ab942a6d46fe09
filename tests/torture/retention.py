"""The size of a journal after a million finished calls, with a clock that runs ahead (D14)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.adapters.sqlite.steady import steady_state
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import ForkServer

MEBIBYTE = 1024 * 1024


def retention(_: ForkServer, share: float) -> list[Figure]:
    """The largest size of the file and its log, and the slowest slice of a deletion."""
    calls = scaled(1_000_000, share)
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
        seen = steady_state(Path(folder) / "calls.db", calls)
    file, log = seen.file / MEBIBYTE, seen.log / MEBIBYTE
    text = f"file {file:.1f} MiB, log {log:.1f} MiB, slice {seen.slowest * 1e3:.0f} ms"
    what, target = "D14: largest journal while calls come and are deleted", "file ≤ 64 MiB, log ≤ 16 MiB"
    return [Figure(what, f"{calls:,} calls", text, target, file <= 64.0 and log <= 16.0)]
