"""``recovery report``: what a journal tells of its calls."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import anyio

from adapters.cli.output import FILE, JSON, journal_at, print_json, span, usage_error
from adapters.journals.report import report_of
from adapters.terminal.report_text import report_text
from adapters.terminal.screen import make_console
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import redacted

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.option("--since", metavar="AGE", callback=span, help="Count calls that began in the last 12h, 7d, ... only.")
@JSON
def report(journal: Path, since: float | None, as_json: bool) -> None:
    """Tell how the calls of JOURNAL went, a journal's file or a launch plan.

    The success rate, the time lost by host and category of failure, the bytes saved by resuming, the slowest
    recoveries, and the calls of each operation. Exit codes: 0 done, 2 wrong usage or no journal.
    """
    try:
        begin = 0.0 if since is None else time.time() - since
        found = anyio.run(partial(report_of, journal_at(journal), since=begin))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("report", redacted(found))
    else:
        make_console().print(report_text(found))
