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


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at if at >= 0 else path.stat().st_size + at)
        file.write(data)


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = path.read_bytes()
    overwrite(path, at, bytes([data[at] ^ (1 << bit)]))


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
    def flipping(at: int, bit: int) -> Callable[[Path], None]:
        return lambda path: flip(path, at, bit)

    for at in (0, 15, 16, 18, 19, 20, 21, 24, 28, 31, 35, 39, 47, 52, 59, 95, 99):
        yield Corruption(f"header byte {at}", flipping(at, 0), ("used", "kept", "refused"))
    for at in (18, 19, 44, 56):
        yield Corruption(f"header byte {at}, high", flipping(at, 7), ("used", "kept", "refused"))
    for at in (68, 71):
        yield Corruption(f"owner, byte {at}", flipping(at, 3), ("used", "refused"))  # the log may hold page 1
    yield Corruption("no header", lambda path: overwrite(path, 0, bytes(100)))
    yield Corruption("a header of chance", lambda path: overwrite(path, 0, random.Random(1).randbytes(100)))


def _pages() -> Iterator[Corruption]:
    def damage(kind: str, how: Callable[[Path, int], None]) -> Callable[[Path], None]:
        def do(path: Path) -> None:
            numbers = [1] if kind == "schema" else pages_by_kind(path)[kind]
            assert numbers, f"the sound journal has no {kind} page"
            how(path, (numbers[len(numbers) // 2] - 1) * PAGE)

        return do

    ways: dict[str, Callable[[Path, int], None]] = {
        "kind": lambda path, at: overwrite(path, at + (100 if not at else 0), b"\x07"),
        "cells": lambda path, at: overwrite(path, at + (103 if not at else 3), b"\xff\xff"),
        "pointers": lambda path, at: overwrite(path, at + (108 if not at else 8), b"\xff" * 8),
        "content": lambda path, at: overwrite(path, at + PAGE - 40, random.Random(2).randbytes(40)),
        "zeroes": lambda path, at: overwrite(path, at + (100 if not at else 0), bytes(PAGE - 100)),
        "chance": lambda path, at: overwrite(path, at + (100 if not at else 0), random.Random(3).randbytes(PAGE - 100)),
    }
    for kind in ("schema", "table leaf", "table interior", "index leaf", "freelist"):
        for way, how in ways.items():
            yield Corruption(f"{kind} page, {way}", damage(kind, how))


def _truncations() -> Iterator[Corruption]:
    def cut(path: Path, size: int) -> None:
        os.truncate(path, size if size >= 0 else path.stat().st_size + size)

    for size in (0, 1, 15, 16, 99, 100, 512, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 10 * PAGE + 7, -PAGE, -PAGE - 1, -1):
        yield Corruption(f"cut to {size} bytes", lambda path, size=size: cut(path, size))  # type: ignore[misc]
    yield Corruption("another page at its end", lambda path: overwrite(path, path.stat().st_size, bytes(PAGE)))
    yield Corruption("gone, but for its log", Path.unlink)


# In the log


def _log() -> Iterator[Corruption]:
    def cut(size: int) -> Callable[[Path], None]:
        return lambda path: os.truncate(log_of(path), size if size >= 0 else log_of(path).stat().st_size + size)

    def write(at: int, data: bytes) -> Callable[[Path], None]:
        return lambda path: overwrite(log_of(path), at, data)

    for size in (0, 31, 32, 33, 32 + FRAME - 1, 32 + FRAME, 32 + 2 * FRAME + 24, -1, -FRAME, -FRAME - 5):
        yield Corruption(f"log cut to {size} bytes", cut(size), ("used",), cuts=True)
    for at in (0, 4, 8, 16, 20, 24, 28):
        yield Corruption(f"log header byte {at}", lambda path, at=at: flip(log_of(path), at))  # type: ignore[misc]
    for at in (0, 8, 12, 16, 20, 24, 24 + PAGE - 1):
        place = 32 + FRAME + at
        yield Corruption(f"log frame 2, byte {at}", lambda path, at=place: flip(log_of(path), at), ("kept",))  # type: ignore[misc]
    yield Corruption("log frame 1, zeroes", write(32, bytes(FRAME)), ("kept",))
    yield Corruption("log frame 3, chance", write(32 + 2 * FRAME, random.Random(4).randbytes(FRAME)), ("kept",))
    yield Corruption("log, last byte", lambda path: flip(log_of(path), log_of(path).stat().st_size - 1), cuts=True)
    yield Corruption(
        "log of chance", lambda path: log_of(path).write_bytes(random.Random(5).randbytes(50_000)) and None
    )
    yield Corruption("log gone", lambda path: log_of(path).unlink(), ("used",), cuts=True)


# The index of the log, which holds nothing


def _shared() -> Iterator[Corruption]:
    def write(data: bytes) -> Callable[[Path], None]:
        return lambda path: path.with_name(path.name + "-shm").write_bytes(data) and None  # type: ignore[return-value]

    yield Corruption("index of the log empty", write(b""), ("used",))
    yield Corruption("index of the log zeroes", write(bytes(32768)), ("used",))
    yield Corruption("index of the log of chance", write(random.Random(6).randbytes(32768)), ("used",))
    yield Corruption("index of the log cut", write(random.Random(7).randbytes(77)), ("used",))
    yield Corruption(
        "index of the log stale",
        lambda path: overwrite(path.with_name(path.name + "-shm"), 16, struct.pack("=I", 1) + bytes(80)),
        ("used",),
    )
    yield Corruption("index of the log gone", lambda path: path.with_name(path.name + "-shm").unlink(), ("used",))


# Something else in its place


def _others() -> Iterator[Corruption]:
    def alone(do: Callable[[Path], object]) -> Callable[[Path], None]:
        def replace(path: Path) -> None:
            for name in path.parent.glob(f"{path.name}*"):
                name.unlink()
            do(path)

        return replace

    def other_name(path: Path) -> None:
        os.link(path, path.with_name("second name"))

    def link(path: Path) -> None:
        path.rename(path.with_name("elsewhere.db"))
        path.symlink_to(path.with_name("elsewhere.db"))

    def link_log(path: Path) -> None:
        log_of(path).rename(path.with_name("elsewhere"))
        log_of(path).symlink_to(path.with_name("elsewhere"))

    def fifo_log(path: Path) -> None:
        log_of(path).unlink()
        os.mkfifo(log_of(path))

    def browser(path: Path) -> None:
        execute(path, "CREATE TABLE places (url)", "INSERT INTO places VALUES ('x')")

    def package(path: Path) -> None:
        execute(path, "PRAGMA application_id = 1196444487", "CREATE TABLE gpkg (x)")

    def damaged_package(path: Path) -> None:
        package(path)
        overwrite(path, 100, b"\x07" * 50)

    garbage = random.Random(8).randbytes(70_000)
    yield Corruption("garbage", alone(lambda path: path.write_bytes(garbage)), ("kept",))
    yield Corruption("garbage with a log", lambda path: path.write_bytes(garbage) and None, ("kept",))  # type: ignore[arg-type, return-value]
    yield Corruption("text", alone(lambda path: path.write_text("no journal\n" * 100)), ("kept",))
    yield Corruption("one byte", alone(lambda path: path.write_bytes(b"S")), ("kept",))
    yield Corruption("gzip", lambda path: path.write_bytes(gzip.compress(path.read_bytes())) and None, ("kept",))  # type: ignore[arg-type, return-value]
    yield Corruption("a folder", alone(Path.mkdir), ("refused",))
    yield Corruption("a pipe", alone(os.mkfifo), ("refused",))
    yield Corruption("a log that is a pipe", fifo_log, ("refused",))
    yield Corruption("a link", link, ("refused",))
    yield Corruption("a log that is a link", link_log, ("refused",))
    yield Corruption("a second name", other_name, ("refused",))
    yield Corruption("another application's", alone(package), ("refused",))
    yield Corruption("another application's, damaged", alone(damaged_package), ("refused",))
    yield Corruption("another application's", alone(browser), ("refused",))


# Ours, with other tables


def _hostile() -> Iterator[Corruption]:
    def after(*statements: str) -> Callable[[Path], None]:
        return lambda path: execute(path, *statements)

    view = "CREATE VIEW events AS SELECT * FROM hidden"
    ignoring = "CREATE TRIGGER t BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END"
    deleting = "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END"
    raising = "CREATE TRIGGER t BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END"
    yield Corruption("no table of events", after("DROP TABLE events"), ("kept",))
    yield Corruption("no table of runs", after("DROP TABLE runs"), ("kept",))
    yield Corruption("no index", after("DROP INDEX events_by_number"), ("kept",))
    yield Corruption("a column less", after("ALTER TABLE runs DROP COLUMN boot"), ("kept",))
    yield Corruption("a column more", after("ALTER TABLE events ADD COLUMN more TEXT"), ("kept",))
    yield Corruption("a trigger that ignores what is written", after(ignoring), ("kept",))
    yield Corruption("a trigger that deletes it", after(deleting), ("kept",))
    yield Corruption("a trigger that refuses it", after(raising), ("kept",))
    yield Corruption("a view in the place of a table", after("ALTER TABLE events RENAME TO hidden", view), ("kept",))
    yield Corruption("a table that SQLite has as a function", after("CREATE TABLE pragma_user_version (x)"), ("kept",))
    yield Corruption("a format that never was", after("PRAGMA user_version = -7"), ("kept",))
    yield Corruption("a format of the past", after("PRAGMA user_version = 1"), ("kept",))
    yield Corruption("a format of the future", after("PRAGMA user_version = 99"), ("refused",))
    yield Corruption("statistics", after("ANALYZE"), ("used",))


CORRUPTIONS = [
    *_header(), *_pages(), *_truncations(), *_log(), *_shared(), *_others(), *_hostile(),
]  # fmt: skip
