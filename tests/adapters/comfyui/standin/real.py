"""A real ComfyUI in place of the stand-in: one that runs at COMFYUI_URL, or the one in the folder COMFYUI_DIR."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.adapters.comfyui.standin.child import Process, Standin, started

HOW_TO = (
    "set COMFYUI_DIR to a folder of ComfyUI (with COMFYUI_ARGS, as '--cpu', where it needs them, and COMFYUI_PYTHON, "
    "where it has no .venv), or COMFYUI_URL to a server that runs, with an empty queue"
)


class RealServer(Standin):
    """A real server, with the methods of the stand-in that need no faults.

    One of COMFYUI_DIR has the nodes of ``custom_nodes/`` too, as ``killer`` and ``picture`` with seconds need them.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._home = Path(environment["COMFYUI_DIR"]) if "COMFYUI_DIR" in environment else None
        own = None if self._home is None else self._home / ".venv" / "bin" / "python"
        found = sys.executable if own is None or not own.is_file() else str(own)
        self._python = environment.get("COMFYUI_PYTHON", found)
        super().__init__(folder, flags=shlex.split(environment.get("COMFYUI_ARGS", "")))
        if self._home is None:
            parts = urlsplit(environment["COMFYUI_URL"])
            self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 8188

    def configure(self, *options: str) -> None:
        """It has a ``main.py`` of its own."""

    @property
    def is_ours(self) -> bool:
        return self._home is not None

    def argv(self, port: int | str = "{port}", *flags: str) -> list[str]:
        assert self._home is not None
        folders = [f"--{one}-directory={self.folder / one}" for one in ("output", "temp", "input")]
        (self.folder / "input").mkdir(exist_ok=True)
        paths = self.folder / "paths.yaml"
        paths.write_text(f"tests:\n  custom_nodes: {Path(__file__).parent / 'custom_nodes'}\n")
        options = [*folders, f"--extra-model-paths-config={paths}", *self.flags]
        return [self._python, str(self._home / "main.py"), "--port", str(port), *options, *flags]

    def start(self, *, until_ready: bool = True) -> None:
        if self.is_ours:
            super().start(until_ready=until_ready)

    def spawn(self, argv: list[str], log: Path) -> Process:
        return started(argv, log, self.folder)

    def wait(self, within: float = 300.0) -> None:
        super().wait(within)


def real_server(folder: Path) -> RealServer | None:
    """The server that the environment names; None if it names none."""
    return RealServer(folder, os.environ) if os.environ.keys() & {"COMFYUI_DIR", "COMFYUI_URL"} else None
