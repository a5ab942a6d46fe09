"""A kernel of Jupyter in a folder, as a notebook has one: cells run one after another in it."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any, Self

from jupyter_client.manager import KernelManager

from tests.docs.examples import ROOT

COLOURS = re.compile(r"\x1b\[[\d;]*m")
INTERRUPT_AFTER = 1.0
"""Seconds that a cell runs before it is interrupted."""


class Kernel:
    """A kernel in *folder*.

    Args:
        folder: Where it runs.
        timeout: How many seconds a cell may take. A longer one fails with TimeoutError.
    """

    def __init__(self, folder: Path, *, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.manager = KernelManager(kernel_name="python3")
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.manager.start_kernel(cwd=str(folder), env={**os.environ, "PYTHONPATH": path, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def restart(self) -> None:
        """Kill it, and start another one: its variables are gone."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()

    def run(self, cell: str, *, is_interrupted: bool = False) -> str:
        """Run *cell*; what a notebook shows below it: both outputs, displays, the result; of an error the last line."""
        shown: list[str] = []

        def show(message: dict[str, Any]) -> None:
            match message["msg_type"], message["content"]:
                case "stream", content:
                    shown.append(content["text"])
                case "display_data" | "execute_result", content:
                    shown.append(content["data"]["text/plain"] + "\n")
                case "error", content:
                    shown.append(f"{content['ename']}: {COLOURS.sub('', content['evalue'])}".rstrip(": ") + "\n")

        interrupt = threading.Timer(INTERRUPT_AFTER, self.manager.interrupt_kernel)
        if is_interrupted:
            interrupt.start()
        try:
            self.client.execute_interactive(cell, output_hook=show, timeout=self.timeout)
        finally:
            interrupt.cancel()
        return "".join(shown)
