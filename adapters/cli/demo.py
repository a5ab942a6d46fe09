"""``recovery demo``: watch a launch recover."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from adapters.cli.output import JSON, console, print_json, usage_error
from adapters.demo.scenario import run_demo
from recovery.installation import extra

with extra("launcher"):
    import click


@click.command()
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this folder, and keep it.")
@JSON
def demo(keep: Path | None, as_json: bool) -> None:
    """Watch a launch recover: eleven kinds of failure and two kill -9, in about half a minute. It needs git.

    Exit codes: 0 everything recovered, 1 something did not, 2 wrong usage, or no git.
    """
    if shutil.which("git") is None:
        usage_error(FileNotFoundError("the demonstration clones a repository, and there is no program git: install it"))
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise FileExistsError(
                    f"{keep} is not empty: --keep wants a new folder, or what is there would be shown"
                )
    except OSError as error:
        usage_error(error)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # its launch ends with it
    report = run_demo(keep, console=console(as_json=as_json))
    if as_json:
        print_json("demo", report)
    sys.exit(0 if report.is_proven else 1)
