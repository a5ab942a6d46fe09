"""``recovery demo``: watch a launch recover."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from adapters.cli.output import JSON, console, print_json, usage_error
from adapters.demo.practice import PORT, TABLE, PracticeServer
from adapters.demo.scenario import run_demo
from recovery.installation import extra

with extra("launcher"):
    import click


@click.command()
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this folder, and keep it.")
@click.option("--serve", is_flag=True, help="Serve files that fail on purpose, to practise with, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Where --serve listens.")
@JSON
def demo(keep: Path | None, serve: bool, port: int, as_json: bool) -> None:
    """Watch a launch recover: eleven kinds of failure and two kill -9, in about half a minute. It needs git.

    Exit codes: 0 everything recovered, 1 something did not, 2 wrong usage, no git, or a port that is taken, 130 Ctrl-C,
    143 SIGTERM.
    """
    if serve:
        serve_practice(port)
        return
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


def serve_practice(port: int) -> None:
    """Serve what fails on purpose until SIGTERM or Ctrl-C; a line for each request."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        try:
            server = PracticeServer(Path(folder), port, click.echo)
        except OSError as error:
            free = port + 1 if port < 65_535 else PORT
            other = f"take another one (`recovery demo --serve --port {free}`), and write it in the programs, too"
            usage_error(OSError(f"cannot listen at port {port}: {error.strerror}; {other}"))
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        with server:
            for path, what in TABLE.items():
                click.echo(f"{server.url}/{path:<20} {what}")
            click.echo("Ctrl-C ends it.")
            threading.Event().wait()
