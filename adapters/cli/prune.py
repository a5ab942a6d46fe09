"""``recovery prune``: delete old calls from a journal."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.cli.output import FILE, JSON, TIMEOUT, journal_at, print_error, print_json, span, usage_error
from adapters.journals.prune import prune_journal
from adapters.launcher.progress import amount
from adapters.sqlite.retention import Retention
from events.errors import RecoveryError
from recovery.explain import counted
from recovery.installation import extra
from recovery.redact import brief

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.option(
    "--older-than",
    "age",
    metavar="AGE",
    default="7d",
    callback=span,
    show_default=True,
    help="Delete what ended so long ago.",
)
@click.option("--keep", type=click.IntRange(min=0), help="Keep so many calls that are over, the latest [50000].")
@TIMEOUT
@JSON
def prune(journal: Path, age: float, keep: int | None, timeout: float, as_json: bool) -> None:
    """Delete old calls from JOURNAL, a journal's file or a launch plan.

    Calls that succeeded, were cancelled or rejected are deleted, the oldest first. Calls that gave up, calls that are
    not over, questions and answers stay. A process that writes the journal does it itself, between two of its batches;
    without one the command does it, and gives the room back to the disk. Exit codes: 0 done, 1 not all was deleted, 2
    wrong usage or no journal.
    """
    limits = Retention(seconds=age) if keep is None else Retention(seconds=age, calls=keep)
    try:
        removed = prune_journal(journal_at(journal), limits, timeout=timeout)
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("pruned", removed)
    else:
        freed = f", {amount(removed.freed)} given back to the disk" if removed.freed else ""
        what = f"{counted(removed.calls, 'call')} deleted ({counted(removed.rows, 'row')}){freed}"
        size = f"the journal holds {amount(removed.bytes)}"
        if removed.is_done:
            click.echo(brief(f"{what}; {size}; {removed.said}"))
        else:
            click.echo(brief(f"{what}; {size}"))
            print_error(f"not all could be deleted: {removed.said}; try it again")
    sys.exit(0 if removed.is_done else 1)
