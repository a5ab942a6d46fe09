"""What can be wrong with the file of a journal: each a function that does it to a sound one. The same every time."""

from __future__ import annotations

import gzip
import os
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

PAGE = 4096
FRAME = 24 + PAGE

Fate = Literal["used", "kept", "refused"]


class Corruption(msgspec.Struct, frozen=True):
    """*fates* are what may become of the files.

    "used": what was committed is found, as if nothing were wrong. "kept": the files, as they were, have another name.
    "refused": they are where they were, untouched. With *cuts* the latest commits are gone from the files without a
    trace, and those before them must be found.
    """

    name: str
    do: Callable[[Path], None]
    fates: tuple[Fate, ...] = ("used", "kept")
    cuts: bool = False


def to(ending: str, do: Callable[..., object], *values: object) -> Callable[[Path], None]:
    """A function that does it, with *values*, to the file of that *ending* beside a journal ("": the journal)."""

    def act(path: Path) -> None:
        do(path.with_name(path.name + ending), *values)

    return act


def cut(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at if at >= 0 else path.stat().st_size + at)
        file.write(data)


def flip(path: Path, at: int, bit: int = 0) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ (1 << bit)]))


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def pages_by_kind(path: Path) -> dict[str, list[int]]:
    """The pages of a sound file, by number, from 1."""
    data = path.read_bytes()
    kinds = {0x0D: "table leaf", 0x05: "table interior", 0x0A: "index leaf", 0x02: "index interior"}
    free, trunk = [], int.from_bytes(data[32:36], "big")
    while trunk:
        page = data[(trunk - 1) * PAGE : trunk * PAGE]
        after, count = struct.unpack_from(">2I", page)
        free += [trunk, *struct.unpack_from(f">{count}I", page, 8)]
        trunk = after
    found: dict[str, list[int]] = {"freelist": free}
    for number in range(2, len(data) // PAGE + 1):
        if number not in free:
            found.setdefault(kinds.get(data[(number - 1) * PAGE], "other"), []).append(number)
    return found


def execute(path: Path, *statements: str) -> None:
    """Execute *statements* as any program may: SQLite writes the log back, and leaves a sound file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# In the file itself


def _header() -> Iterator[Corruption]:
    for at in (0, 15, 16, 18, 19, 20, 21, 24, 28, 31, 35, 39, 47, 52, 59, 95, 99):
        yield Corruption(f"header byte {at}", to("", flip, at), ("used", "kept", "refused"))
    for at in (18, 19, 44, 56):
        yield Corruption(f"header byte {at}, high", to("", flip, at, 7), ("used", "kept", "refused"))
    for at in (68, 71):
        yield Corruption(f"owner, byte {at}", to("", flip, at, 3), ("used", "refused"))  # the log may hold page 1
    yield Corruption("no header", to("", overwrite, 0, bytes(100)))
    yield Corruption("a random header", to("", overwrite, 0, random_bytes(1, 100)))


def _damage(path: Path, kind: str, at: int, data: bytes) -> None:
    """Write *data* at byte *at* of a page of that *kind*, behind the file's header if it is in that page."""
    numbers = [1] if kind == "schema" else pages_by_kind(path)[kind]
    assert numbers, f"the sound journal has no {kind} page"
    page = (numbers[len(numbers) // 2] - 1) * PAGE
    overwrite(path, page + at + (100 if kind == "schema" and at < 100 else 0), data)


def _pages() -> Iterator[Corruption]:
    ways = {
        "kind": (0, b"\x07"),
        "cells": (3, b"\xff\xff"),
        "pointers": (8, b"\xff" * 8),
        "content": (PAGE - 40, random_bytes(2, 40)),
        "zeroes": (0, bytes(PAGE - 100)),
        "random": (0, random_bytes(3, PAGE - 100)),
    }
    for kind in ("schema", "table leaf", "table interior", "index leaf", "freelist"):
        for way, (at, data) in ways.items():
            yield Corruption(f"{kind} page, {way}", to("", _damage, kind, at, data))


def _truncations() -> Iterator[Corruption]:
    for size in (0, 1, 15, 16, 99, 100, 512, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 10 * PAGE + 7, -PAGE, -PAGE - 1, -1):
        yield Corruption(f"cut to {size} bytes", to("", cut, size))
    yield Corruption("another page at its end", lambda path: overwrite(path, path.stat().st_size, bytes(PAGE)))
    yield Corruption("gone, but for its log", Path.unlink)


# In the log


def _log() -> Iterator[Corruption]:
    for size in (0, 31, 32, 33, 32 + FRAME - 1, 32 + FRAME, 32 + 2 * FRAME + 24, -1, -FRAME, -FRAME - 5):
        yield Corruption(f"log cut to {size} bytes", to("-wal", cut, size), ("used",), cuts=True)
    for at in (0, 4, 8, 16, 20, 24, 28):
        yield Corruption(f"log header byte {at}", to("-wal", flip, at))
    for at in (0, 8, 12, 16, 20, 24, 24 + PAGE - 1):
        yield Corruption(f"log frame 2, byte {at}", to("-wal", flip, 32 + FRAME + at), ("kept",))
    yield Corruption("log frame 1, zeroes", to("-wal", overwrite, 32, bytes(FRAME)), ("kept",))
    yield Corruption("log frame 3, random", to("-wal", overwrite, 32 + 2 * FRAME, random_bytes(4, FRAME)), ("kept",))
    yield Corruption("log, last byte", to("-wal", flip, -1), cuts=True)
    yield Corruption("random log", to("-wal", Path.write_bytes, random_bytes(5, 50_000)))
    yield Corruption("log gone", to("-wal", Path.unlink), ("used",), cuts=True)


# The index of the log, which holds nothing


def _shared() -> Iterator[Corruption]:
    stale = struct.pack("=I", 1) + bytes(80)
    for name, do in {
        "empty": to("-shm", Path.write_bytes, b""),
        "zeroes": to("-shm", Path.write_bytes, bytes(32768)),
        "random": to("-shm", Path.write_bytes, random_bytes(6, 32768)),
        "cut": to("-shm", Path.write_bytes, random_bytes(7, 77)),
        "stale": to("-shm", overwrite, 16, stale),
        "gone": to("-shm", Path.unlink),
    }.items():
        yield Corruption(f"index of the log {name}", do, ("used",))


# Something else in its place


def alone(do: Callable[..., object], *values: object) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        for name in path.parent.glob(f"{path.name}*"):
            name.unlink()
        do(path, *values)

    return replace


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def package(path: Path) -> None:
    execute(path, "PRAGMA application_id = 1196444487", "CREATE TABLE gpkg (x)")


def damaged_package(path: Path) -> None:
    package(path)
    overwrite(path, 100, b"\x07" * 50)


def _others() -> Iterator[Corruption]:
    garbage, browser = random_bytes(8, 70_000), ("CREATE TABLE places (url)", "INSERT INTO places VALUES ('x')")
    yield Corruption("garbage", alone(Path.write_bytes, garbage), ("kept",))
    yield Corruption("garbage with a log", to("", Path.write_bytes, garbage), ("kept",))
    yield Corruption("text", alone(Path.write_text, "no journal\n" * 100), ("kept",))
    yield Corruption("one byte", alone(Path.write_bytes, b"S"), ("kept",))
    yield Corruption("gzip", to("", lambda path: path.write_bytes(gzip.compress(path.read_bytes()))), ("kept",))
    yield Corruption("a folder", alone(Path.mkdir), ("refused",))
    yield Corruption("a pipe", alone(os.mkfifo), ("refused",))
    yield Corruption("a log that is a pipe", to("-wal", pipe), ("refused",))
    yield Corruption("a link", link, ("refused",))
    yield Corruption("a log that is a link", to("-wal", link), ("refused",))
    yield Corruption("a second name", lambda path: os.link(path, path.with_name("second name")), ("refused",))
    yield Corruption("another application's", alone(package), ("refused",))
    yield Corruption("another application's, damaged", alone(damaged_package), ("refused",))
    yield Corruption("another application's", alone(execute, *browser), ("refused",))


# Ours, with other tables


def _hostile() -> Iterator[Corruption]:
    view = "CREATE VIEW events AS SELECT * FROM hidden"
    ignoring = "CREATE TRIGGER t BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END"
    deleting = "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END"
    raising = "CREATE TRIGGER t BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END"
    for name, statements in {
        "no table of events": ("DROP TABLE events",),
        "no table of runs": ("DROP TABLE runs",),
        "no index": ("DROP INDEX events_by_number",),
        "a column less": ("ALTER TABLE runs DROP COLUMN boot",),
        "a column more": ("ALTER TABLE events ADD COLUMN more TEXT",),
        "a trigger that ignores what is written": (ignoring,),
        "a trigger that deletes it": (deleting,),
        "a trigger that refuses it": (raising,),
        "a view in the place of a table": ("ALTER TABLE events RENAME TO hidden", view),
        "a table that SQLite has as a function": ("CREATE TABLE pragma_user_version (x)",),
        "a format that never was": ("PRAGMA user_version = -7",),
        "a format of the past": ("PRAGMA user_version = 1",),
    }.items():
        yield Corruption(name, to("", execute, *statements), ("kept",))
    yield Corruption("a format of the future", to("", execute, "PRAGMA user_version = 99"), ("refused",))
    yield Corruption("statistics", to("", execute, "ANALYZE"), ("used",))


DAMAGED = [*_header(), *_pages(), *_truncations(), *_log(), *_shared()]
FOREIGN = [*_others(), *_hostile()]
