"""``recovery status``: what the journal says, once or for as long as it is watched."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from adapters.cli.cluster import FILE_OR_CALL, of_journal_or_cluster
from adapters.cli.output import JSON, journal_at, print_json, usage_error
from adapters.journals.status import JournalStatus, read_status
from adapters.journals.watch import changed, only_failed, watched
from adapters.terminal.screen import is_redrawn, make_console
from adapters.terminal.status_lines import status_line
from adapters.terminal.status_table import fitting_table, status_table
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click
    from rich.console import Console, Group
    from rich.live import Live

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress


@click.command()
@click.argument("path", type=FILE_OR_CALL, required=False)
@click.option("--all", "show_all", is_flag=True, help="Show every call, those that are done included.")
@click.option("--failed", is_flag=True, help="Show calls that gave up, were rejected or are quarantined, no others.")
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
@JSON
@of_journal_or_cluster("path")
def status(
    path: Path, show_all: bool, failed: bool, watch: bool, as_json: bool, cluster: ClusterAddress | None = None
) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan; with --cluster, its nodes and its calls.

    Calls that wait, were left or failed come first, each with what failed, why, what happens next, and its id. With
    --watch the table is drawn again; where the output is no terminal, a line tells of each call that stands otherwise
    than before, and with --json a line of JSON has the whole status. Exit codes: 0 shown, 1 with --failed if there are
    such calls, 2 wrong usage, no journal or no server, 130 Ctrl-C.
    """
    if cluster is not None:
        from adapters.cli.cluster_status import show_cluster  # here: one machine does not need it

        sys.exit(show_cluster(cluster, show_all=show_all, failed=failed, watch=watch, as_json=as_json))
    select = only_failed if failed else lambda one: one
    try:
        journal = journal_at(path)
        if watch:
            seen = map(select, watched(journal, show_all=show_all))
            _watch(chain([next(seen)], seen), path, show_all=show_all, as_json=as_json)
            return
        found = select(anyio.run(partial(read_status, journal, show_all=show_all)))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("status", found)
    else:
        make_console().print(status_table(found, path, now=time.time(), show_all=show_all))
    sys.exit(1 if failed and (found.calls or found.more) else 0)


def _watch(seen: Iterator[JournalStatus], path: Path, *, show_all: bool, as_json: bool) -> None:
    console = make_console()
    if as_json:
        for found in seen:
            print_json("status", found)
    elif is_redrawn(console):
        _redraw(seen, path, console, show_all=show_all)
    else:
        before = None
        for found in seen:
            for call in changed(before, found):
                click.echo(status_line(call, found, path, time.time()))
            before = found


def _redraw(seen: Iterator[JournalStatus], path: Path, console: Console, *, show_all: bool) -> None:
    """Draw the table of the latest of *seen* each second, so that its times go on, no higher than the terminal."""
    latest = next(seen)

    def draw() -> Group:
        return fitting_table(latest, path, now=time.time(), show_all=show_all, console=console)

    with Live(get_renderable=draw, console=console, refresh_per_second=1):
        for found in seen:
            latest = found
