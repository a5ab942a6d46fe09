"""The machine of a run, as pyperf describes it; the host name is left out."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3

import msgspec
import pyperf

from bench.peers import versions


class Machine(msgspec.Struct, frozen=True):
    """Hardware and versions that the figures depend on.

    *load* is the load average of the last minute. A library in *peers* that is not installed has the version ``None``.
    """

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    sqlite: str
    load: float
    date: str
    version: str
    libraries: dict[str, str]
    peers: dict[str, str | None]


LIBRARIES = ("anyio", "blinker", "aiosqlite", "msgspec", "pyperf")


def describe() -> Machine:
    """Describe this machine, now."""
    # pyperf only collects its metadata here: no worker process, no timing.
    run = pyperf.Run([1.0], metadata={"name": "machine"}, collect_metadata=True)
    known = run.get_metadata()
    return Machine(
        cpu=str(known.get("cpu_model_name", "unknown")),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=str(known.get("platform", "unknown")),
        python=str(known.get("python_version", "unknown")),
        sqlite=sqlite3.sqlite_version,
        load=float(known.get("load_avg_1min", 0.0)),
        date=str(known.get("date", ""))[:10],
        version=importlib.metadata.version("launcher-recovery"),
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        peers=versions(),
    )
