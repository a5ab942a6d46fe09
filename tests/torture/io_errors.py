"""A disk that fails: the reads of a process that opens a sound journal answer EIO, one or all from one on (D8)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from adapters.sqlite.store import SQLiteStore
from recovery.journal.config import JournalConfig
from recovery.service import Recovery
from tests.torture.figures import MEMORY_FOLDER, Figure
from tests.torture.fork_server import ROOT, ForkServer
from tests.torture.restarts import leave_pending, publish_pending

PENDING = 40
READS = 60
"""Reads that fail, one after another: more than the process makes."""
FOR_EVER = 1_000_000_000


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int reads;

static int fails(int file) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, name, sizeof name - 1);
    name[size < 0 ? 0 : size] = 0;
    if (!strstr(name, "calls.db") || strstr(name, "-shm") || strstr(name, "-lock")) return 0;
    int number = atomic_fetch_add(&reads, 1) + 1;
    return number >= atoi(getenv("FAIL_FIRST")) && number <= atoi(getenv("FAIL_LAST"));
}

ssize_t pread64(int file, void *data, size_t size, off_t offset) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    return fails(file) ? (errno = EIO, -1) : real(file, data, size, offset);
}

ssize_t read(int file, void *data, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    return fails(file) ? (errno = EIO, -1) : real(file, data, size);
}
"""


def find(path: str) -> None:
    """Print how many calls an earlier process left."""
    with Recovery(store=SQLiteStore(path), journal_config=JournalConfig(first_pause=0.01)) as service:
        assert service.journal is not None
        print(json.dumps(len(service.journal.pending(timeout=1.5).calls)), flush=True)


def can_inject() -> bool:
    """Whether reads can be made to fail here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def compile_shim(folder: Path) -> Path:
    """A library that makes reads of the journal fail, for LD_PRELOAD."""
    shim = folder / "shim.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", shim, "-ldl"], input=SHIM.encode(), check=True
    )
    return shim


def open_with_errors(folder: Path, sound: Path, shim: Path, first: int, last: int) -> tuple[int, list[str]]:
    """How many calls are found while the reads *first* to *last* fail, and the names of files set aside as damaged."""
    path = folder / "calls.db"
    shutil.copytree(sound, folder)
    opener = [sys.executable, "-c", f"from tests.torture.io_errors import find; find({str(path)!r})"]
    settings = os.environ | {"LD_PRELOAD": str(shim), "FAIL_FIRST": str(first), "FAIL_LAST": str(last)}
    done = subprocess.run(opener, cwd=ROOT, env=settings, check=True, timeout=60.0, capture_output=True)
    return json.loads(done.stdout), [one.name for one in folder.iterdir() if ".damaged-" in one.name]


def failing_reads(numbers: Iterable[int], *, until: int = 0) -> list[str]:
    """What goes wrong if read *number* of a process fails, for each number, or every read from it to *until*."""
    problems = []
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
        folder = Path(name)
        leave_pending(folder / "alive" / "calls.db", PENDING // 2)
        with Recovery(store=SQLiteStore(folder / "alive" / "calls.db")) as service:
            publish_pending(service, PENDING // 2)
            shutil.copytree(folder / "alive", folder / "sound")  # as a kill leaves it: some calls are in the log only
        shim = compile_shim(folder)
        for number in numbers:
            copy = folder / f"copy-{number}"
            found, damaged = open_with_errors(copy, folder / "sound", shim, number, max(number, until))
            if damaged or found != (PENDING if until < FOR_EVER else 0):
                problems.append(f"read {number}: {found} of {PENDING} found, {damaged or 'nothing'} quarantined")
            shutil.rmtree(copy)
    return problems


def io_errors(_: ForkServer, share: float) -> list[Figure]:
    """The row."""
    if not can_inject():
        return []
    reads = range(1, READS + 1, round(1 / share) if share < 1.0 else 1)
    problems = [*failing_reads(reads), *failing_reads(reads[::5], until=FOR_EVER)]
    return [
        Figure(
            "D8: reads fail, and a sound journal is quarantined or not found",
            f"{len(reads) + len(reads[::5])} processes",
            "; ".join([str(len(problems)), *problems[:3]]),
            "0",
            passed=not problems,
        )
    ]
