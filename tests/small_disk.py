"""A real file system of a few megabytes, to fill it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """The folder of a file system in memory with that *size* ("1m"). The test is skipped where none can be mounted."""
    folder = Path(tempfile.mkdtemp())
    mount = shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("nothing can be mounted here: only root can")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
