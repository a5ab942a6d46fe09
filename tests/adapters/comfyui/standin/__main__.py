"""Start a stand-in: ``python -m tests.adapters.comfyui.standin --port N --dialect new --output-directory DIR``."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.adapters.comfyui.standin.nodes import Folders, Process, install
from tests.adapters.comfyui.standin.server import StandinServer
from tests.adapters.comfyui.standin.state import Counts, Faults, RunLog

DIALECTS = "old: no /api/jobs; middle: with it, but without its cancel; new: with both, and UUIDs alone as prompt ids"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--port", type=int, default=8188)
    options.add_argument("--listen", nargs="?", default="127.0.0.1", const="0.0.0.0")
    for name in ("output", "temp", "input"):
        options.add_argument(f"--{name}-directory", type=Path)
    own = options.add_argument_group("own options, which ComfyUI does not have")
    own.add_argument("--dialect", choices=["old", "middle", "new"], default="new", help=DIALECTS)
    own.add_argument("--folder", type=Path, default=Path.cwd(), help="of output, models, runs.log and counts.json")
    own.add_argument("--runs", type=Path, help="the log of runs; FOLDER/runs.log by default")
    own.add_argument("--start-seconds", type=float, default=0.0, help="how long a start takes")
    own.add_argument("--failed-starts", type=int, default=0, help="so many starts end with exit code 1")
    own.add_argument("--import-failed", action="append", default=[], help="a custom node that fails to import")
    return options


def print_imports(failed: Sequence[str], folder: Path) -> None:
    """Print the custom nodes as ComfyUI does."""
    for name in failed:
        path = folder / "custom_nodes" / name
        logging.warning("Traceback (most recent call last):\nModuleNotFoundError: No module named 'absent'\n")
        logging.warning("Cannot import %s module for custom nodes: No module named 'absent'", path)
    logging.info("\nImport times for custom nodes:")
    logging.info("   0.0 seconds: %s", folder / "custom_nodes" / "websocket_image_save.py")
    for name in failed:
        logging.info("   0.1 seconds (IMPORT FAILED): %s", folder / "custom_nodes" / name)
    logging.info("")


def main(defaults: Sequence[str] = ()) -> None:
    """Serve until a signal or a node ends the process.

    Args:
        defaults: Options that come before those of the command line.
    """
    chosen, others = parser().parse_known_args([*defaults, *sys.argv[1:]])
    form = "%(message)s" if chosen.dialect == "old" else "\x1b[32m[%(levelname)s]\x1b[0m %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    folder: Path = chosen.folder
    folders = Folders(
        chosen.output_directory or folder / "output",
        chosen.temp_directory or folder / "temp",
        chosen.input_directory or folder / "input",
        folder / "models",
    )
    for one in (folders.output, folders.input, folders.models):
        one.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folders.temp, ignore_errors=True)
    counts = Counts(folder / "counts.json")
    if counts.add("starts") < chosen.failed_starts:
        sys.exit("ModuleNotFoundError: No module named 'torchsde'")
    time.sleep(chosen.start_seconds)
    print_imports(chosen.import_failed, folder)
    install(folder / "custom_nodes")
    loop = asyncio.new_event_loop()
    process = Process(folders, Faults(), counts, tuple(others))
    server = StandinServer(process, RunLog(chosen.runs or folder / "runs.log"), chosen.dialect, loop)
    try:
        loop.run_until_complete(server.run(chosen.listen, chosen.port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if chosen.dialect == "old":
            raise
        words = "Port %d is already in use on address %s. Please close the other application or use a different port."
        logging.error(words, chosen.port, chosen.listen)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.info("\nStopped server")
        shutil.rmtree(folders.temp, ignore_errors=True)
        os._exit(0)  # as ComfyUI does, without a close frame to those who listen


if __name__ == "__main__":
    main()
