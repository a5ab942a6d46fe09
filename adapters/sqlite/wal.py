"""Damage in a write-ahead log: SQLite reads up to the first damaged frame and hides every commit behind it.

The format is that of https://www.sqlite.org/walformat.html. A killed process leaves a last frame that is half written,
or frames without a commit. A damaged byte hides whole transactions, which the next write destroys.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

HEADER = struct.Struct(">8I")  # magic, version, page size, sequence number, two salts, two sums
FRAME = struct.Struct(">6I")  # page, pages after the commit (else 0), two salts, two sums
BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
VERSION = 3007000


def hides_commits(path: Path) -> bool:
    """Whether the log at *path* has a commit behind a damaged frame, or a damaged header."""
    try:
        log = path.open("rb")
    except FileNotFoundError:
        return False
    with log:
        header = log.read(HEADER.size)
        if len(header) < HEADER.size or header == bytes(HEADER.size):
            return False
        magic, version, size, _, *salts, first, second = HEADER.unpack(header)
        order = BYTE_ORDERS.get(magic, "")
        if not order or version != VERSION or size < 512 or size > 65536 or size & (size - 1):
            return True
        sums = _sums(header[:24], order, (0, 0))
        if sums != (first, second):
            return True
        return _skip_valid(log, size, order, salts, sums) and _commits_follow(log, size, salts)


def _skip_valid(log: BinaryIO, size: int, order: str, salts: list[int], sums: tuple[int, int]) -> bool:
    """Read on to behind the first invalid frame, and return whether there is one."""
    while len(frame := log.read(FRAME.size + size)) == FRAME.size + size:
        page, _, *found, first, second = FRAME.unpack_from(frame)
        sums = _sums(frame[FRAME.size :], order, _sums(frame[:8], order, sums))
        if not page or found != salts or sums != (first, second):
            return True
    return False


def _commits_follow(log: BinaryIO, size: int, salts: list[int]) -> bool:
    # Frames from before the log was last reset have other salts.
    while len(frame := log.read(FRAME.size)) == FRAME.size:
        _, commit, *found, _, _ = FRAME.unpack(frame)
        if commit and found == salts:
            return True
        log.seek(size, 1)
    return False


def _sums(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = before
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
