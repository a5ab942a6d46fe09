"""The folder of an environment: whose it is, what is in it, and its deletion, which spares the user's own files.

``launcher-venv.json`` marks it: incomplete before anything else is written, and complete once all is there. What is
marked incomplete was begun in an empty folder, so it may be deleted.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from adapters.disk import decode_plain, sync_file, write_whole
from adapters.packages.begun_install import FOLDER

MARKER = "launcher-venv.json"

MOST_BYTES = 4096

PARTS = frozenset({
    "bin", "include", "lib", "lib64", "scripts", "share", "etc", "man", "pyvenv.cfg", ".gitignore", "cachedir.tag",
    ".lock", "pip-selfcheck.json", "__pycache__", MARKER, f"{MARKER}.new", FOLDER,
})  # fmt: skip
"""What venv, virtualenv, uv, packages and an install put into an environment, in lower case."""

OF_VENV = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth", "__pycache__")
OF_VENV_TOO = ("_virtualenv.py", "_virtualenv.pth", "easy_install.py")
"""The packages that are there from the start; with their ``.dist-info``."""


class Marker(msgspec.Struct, frozen=True):
    """What the marker says.

    Args:
        is_complete: Whether the environment is; otherwise a launcher was at it.
    """

    is_complete: bool


class VenvFolder:
    """The folder *path*, which may be missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def marker(self) -> Marker | None:
        """What the marker says; ``None`` if there is none that can be read. Raises as ``read_plain``."""
        try:
            return decode_plain(self.path / MARKER, Marker, MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def is_venv(self) -> bool:
        """Whether it looks like an environment."""
        return (self.path / "pyvenv.cfg").is_file()

    def is_free(self) -> bool:
        """Whether it is missing, or empty. Raises OSError for a file."""
        try:
            return not any(self.path.iterdir())
        except FileNotFoundError:
            return True

    def strangers(self) -> list[str]:
        """The names in it that are not of an environment."""
        return sorted(one.name for one in self.path.iterdir() if one.name.lower() not in PARTS)

    def packages(self) -> list[str]:
        """The names of what was installed into it since it was made."""
        folders = [*self.path.glob("[Ll]ib/python*/site-packages"), *self.path.glob("Lib/site-packages")]
        names = {one.name for folder in folders for one in folder.iterdir()}
        return sorted(name for name in names if name.partition("-")[0] not in OF_VENV and name not in OF_VENV_TOO)

    def begin(self) -> None:
        """Mark it as incomplete, and delete what there is of an environment in it; whatever else is there stays."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._mark(is_complete=False)
        for one in self.path.iterdir():
            if one.name == MARKER or one.name.lower() not in PARTS:
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()

    def complete(self) -> None:
        """Mark it as complete."""
        self._mark(is_complete=True)

    def _mark(self, *, is_complete: bool) -> None:
        write_whole(self.path / MARKER, msgspec.json.encode(Marker(is_complete)))
        for one in (self.path / MARKER, self.path):
            sync_file(one)
