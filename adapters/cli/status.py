"""``recovery status``: what the journal says."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import anyio

from adapters.cli.output import FILE, JSON, journal_at, print_json, usage_error
from adapters.journals.status import read_status
from adapters.terminal.screen import make_console
from adapters.terminal.status_table import status_table
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click


@click.command()
@click.argument("path", type=FILE)
@click.option("--all", "show_all", is_flag=True, help="Show every call, those that are done included.")
@JSON
def status(path: Path, show_all: bool, as_json: bool) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan.

    Calls that wait, were left or failed come first, each with what failed, why, what happens next, and its id.
    """
    try:
        found = anyio.run(partial(read_status, journal_at(path), show_all=show_all))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("status", found)
    else:
        make_console().print(status_table(found, path, now=time.time(), show_all=show_all))
