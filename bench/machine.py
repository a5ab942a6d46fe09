"""The machine that a run was made on, as pyperf describes it, without what would tell who it belongs to."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3

import msgspec
import pyperf

from bench.peers import versions


class Machine(msgspec.Struct, frozen=True):
    """What figures depend on; *peers* are the versions of what is compared, ``None`` where it is not installed."""

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
    """This machine, now."""
    # No worker process and no timing: pyperf is asked for what it knows about machines.
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
