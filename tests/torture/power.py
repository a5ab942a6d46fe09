"""Power loss, replayed: the writer's system calls are recorded; unsynced writes are dropped, kept or torn.

The replayed disk is honest: everything written to a file before its latest fsync is there. Of later writes any part may
be there, in sectors of 512 bytes.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from adapters.sqlite.store import SQLiteStore
from events.operation_events import FailureClassified
from recovery.service import Recovery
from tests.torture.figures import MEMORY_FOLDER, Figure, scaled
from tests.torture.fork_server import ROOT, ForkServer
from tests.torture.stalls import failure

Sync: TypeAlias = Literal["full", "normal", "off"]
BATCHES = 150
LOSSES = 400
SECTOR = 512
CALL = re.compile(r'(\w+)\((?:"([^"]*)"|\d+<([^>]*)>)(?:, "([^"]*)"(?:, \d+)?)?(?:, (\d+))?\)\s+= \d+')
"""A call in strace's notation: its name, the path or the file, the data, the offset or length."""
CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink"


class Step(msgspec.Struct, frozen=True):
    """One system call on a file of the journal, or a note."""

    kind: Literal["write", "sync", "truncate", "unlink", "note"]
    name: str
    offset: int = 0
    data: bytes = b""


def write(path: str, notes: str, sync: Sync, batches: int) -> None:
    """Be the writer; note what a receipt says is committed, and what is synced."""
    note = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    store = SQLiteStore(path)
    store._sync = sync  # type: ignore[assignment]  # "off" is not offered to users
    with Recovery(store=store) as service:
        number = 0
        for batch in range(batches):
            for _ in range(batch % 5 + 1):
                number += 1
                service.bus.publish(failure(number, "x" * (number * 37 % 3000)))
            is_synced = sync == "normal" and batch % 10 == 9
            service.journal.receipt().wait(synced=is_synced)
            os.write(note, f"{'synced' if is_synced else 'committed'} {number}\n".encode())


def record(folder: Path, sync: Sync, batches: int) -> list[Step]:
    """The system calls of the writer."""
    trace, path = folder / "trace", folder / "journal" / "calls.db"
    arguments = (str(path), str(folder / "notes"), sync, batches)
    writer = [sys.executable, "-c", f"from tests.torture.power import write; write(*{arguments!r})"]
    recorder = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(trace)]
    subprocess.run([*recorder, *writer], cwd=ROOT, check=True, timeout=300.0)
    return list(_steps(trace.read_text().splitlines(), folder))


def _steps(lines: list[str], folder: Path) -> Iterator[Step]:
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.lstrip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            call = begun.pop(thread) + resumed[1]  # a call takes effect when it returns
        found = CALL.match(call)
        if found is None:
            continue
        name, path, file, data, number = found.groups()
        place = Path(_bytes(path).decode() if path else _bytes(file).decode() if file.startswith("\\x") else file)
        if not place.is_relative_to(folder):
            continue
        step = place.name
        match name:
            case "pwrite64":
                yield Step("write", step, int(number), _bytes(data))
            case "write" if step == "notes":
                yield Step("note", _bytes(data).decode())
            case "fsync" | "fdatasync":
                yield Step("sync", step)
            case "ftruncate":
                yield Step("truncate", step, int(number))
            case "unlink":
                yield Step("unlink", step)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def lose_power(steps: list[Step], rng: random.Random) -> dict[str, bytes]:
    """The files as they may be if the power is lost after *steps*."""
    synced: dict[str, int] = {}
    for number, step in enumerate(steps):
        if step.kind == "sync":
            synced[step.name] = number
    keeps = rng.choice([0.0, 0.5, 0.9, 1.0])
    disk: dict[str, bytearray] = defaultdict(bytearray)
    for number, step in enumerate(steps):
        is_certain = number < synced.get("journal" if step.kind == "unlink" else step.name, -1)
        if step.kind in ("note", "sync") or not (is_certain or rng.random() < keeps):
            continue
        if step.kind == "unlink":
            disk.pop(step.name, None)
        elif step.kind == "truncate":
            file = disk[step.name]
            file[step.offset :] = bytes(max(step.offset - len(file), 0))
        else:
            _write(disk[step.name], step, None if is_certain or rng.random() < 0.5 else rng)
    return {name: bytes(content) for name, content in disk.items()}


def _write(file: bytearray, step: Step, torn: random.Random | None) -> None:
    end = step.offset + len(step.data)
    if len(file) < end:
        file.extend(bytes(end - len(file)))
    for begin in range(0, len(step.data), SECTOR):
        if torn is None or torn.random() < 0.5:
            sector = step.data[begin : begin + SECTOR]
            file[step.offset + begin : step.offset + begin + len(sector)] = sector


def found_on(disk: dict[str, bytes], folder: Path) -> list[int] | None:
    """The numbers of the events in the journal on *disk*, in order; None if the file is damaged."""
    for name in ("calls.db", "calls.db-wal", "calls.db-journal", "calls.db-shm"):
        (folder / name).unlink(missing_ok=True)
        if name in disk and not name.endswith("-shm"):  # memory is gone
            (folder / name).write_bytes(disk[name])
    try:
        with closing(sqlite3.connect(folder / "calls.db")) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'events'").fetchone() == (0,):
                return []
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return None
            query = "SELECT number FROM events WHERE kind = ? ORDER BY id"
            return [number for (number,) in connection.execute(query, (FailureClassified.__name__,))]
    except sqlite3.DatabaseError:
        return None


class Outage(msgspec.Struct):
    """The result of many power losses: *lost* promises; *broken* files, damaged or with events out of order."""

    lost: int = 0
    broken: int = 0


def outages(sync: Sync, count: int, *, batches: int = BATCHES, seed: int = 0) -> Outage:
    """Lose power *count* times at random moments of one recording."""
    rng, outage = random.Random(seed), Outage()
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as name:
        folder = Path(name)
        steps = record(folder, sync, batches)
        scratch = folder / "scratch"
        scratch.mkdir()
        for _ in range(count):
            until = steps[: rng.randrange(len(steps)) + 1]
            promised = "synced" if sync == "normal" else "committed"
            notes = [step.name.split() for step in until if step.kind == "note"]
            least = max((int(number) for said, number in notes if said == promised), default=0)
            found = found_on(lose_power(until, rng), scratch)
            if found is None or found != list(range(1, len(found) + 1)):
                outage.broken += 1
            outage.lost += found is None or len(found) < least
    return outage


def can_record() -> bool:
    """Whether strace is installed and allowed to trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def power(_: ForkServer, share: float) -> list[Figure]:
    """The figures of power loss."""
    if not can_record():
        return [Figure("power loss", "not tried", "there is no strace here", "", True)]
    count, figures = scaled(LOSSES, share), []
    promises: tuple[tuple[Sync, str], ...] = (("full", "committed"), ("normal", "synced"))
    for sync, promise in promises:
        outage = outages(sync, count)
        text = f"{outage.lost}, {outage.broken} files damaged or out of order"
        passed = outage.lost == outage.broken == 0
        figures.append(Figure(f"power loss, {sync}: {promise}, and lost", f"{count} losses", text, "0", passed))
    caught = outages("off", count)
    text = f"{caught.lost} times, {caught.broken} files damaged or out of order"
    return [*figures, Figure("power loss, off: caught losing", f"{count} losses", text, "more than 0", caught.lost > 0)]
