"""Files that others may write: opened without following links, bounded, and decoded by one guarded function."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters.disk import PLAIN_FILE

T = TypeVar("T")


class UntrustedFileError(ValueError):
    """A file does not hold what it should, or must not be believed; the message says why, without its path."""


def read_json(path: Path, kind: type[T], *, most_bytes: int) -> tuple[T, float]:
    """The value of *kind* in the JSON file at *path*, and Unix time of the file's latest change.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: For anything else that keeps it from being read: a link, a pipe, a file of another user or
            of more than *most_bytes*, text that is no UTF-8, no JSON, or not of that *kind*.
    """
    try:
        file = os.open(path, os.O_RDONLY | PLAIN_FILE)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
                raise UntrustedFileError(f"it is no file of at most {most_bytes} bytes")
            if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
                raise UntrustedFileError("it belongs to another user")
            return msgspec.json.decode(os.read(file, most_bytes), type=kind), found.st_mtime
        finally:
            os.close(file)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UntrustedFileError(str(error)) from error
