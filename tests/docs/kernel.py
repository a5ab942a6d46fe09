"""A kernel of Jupyter in a folder, as a notebook has one: cells run one after another in it."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from tests.docs.examples import ROOT

COLORS = re.compile(r"\x1b\[[\d;]*m")
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
        self.manager.start_kernel(cwd=str(folder), env={**os.environ, "PYTHONPATH": path})
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
        ensure_event_loop().close()  # the one that the blocking client has made in this thread

    def restart(self) -> None:
        """Kill it, and start another one: its variables are gone."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()

    def run(self, cell: str, *, is_interrupted: bool = False) -> str:
        """Run *cell*; what a notebook shows below it: both outputs, displays, the result; of an error the last line."""
        shown: list[str] = []
        interrupt = threading.Timer(INTERRUPT_AFTER, self._interrupt)
        if is_interrupted:
            interrupt.start()
        try:
            self.client.execute_interactive(
                cell, output_hook=lambda message: shown.append(_text_of(message)), timeout=self.timeout
            )
        finally:
            interrupt.cancel()
        return _whole_lines("".join(shown))

    def _interrupt(self) -> None:
        process: Any = self.manager.provisioner
        os.kill(process.pid, signal.SIGINT)  # as ``interrupt_kernel``, which would make a loop in this thread

    def kill_in(self, cell: str, shown: str) -> str:
        """Run *cell*, and kill the kernel as soon as it has shown as many characters as *shown*."""
        asked, printed, deadline = self.client.execute(cell), "", time.monotonic() + self.timeout
        while len(printed.strip()) < len(shown.strip()) and time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=self.timeout)
            if message["parent_header"].get("msg_id") == asked:
                printed += _text_of(message)
        time.sleep(0.1)  # longer than the journal takes to write a checkpoint
        self.restart()
        return _whole_lines(printed)


def _whole_lines(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def _text_of(message: dict[str, Any]) -> str:
    match message["msg_type"], message["content"]:
        case "stream", content:
            return str(content["text"])
        case "display_data" | "execute_result", content:
            return f"{content['data']['text/plain']}\n"
        case "error", content:
            return f"{content['ename']}: {COLORS.sub('', content['evalue'])}".rstrip(": ") + "\n"
    return ""
