"""``recovery why``: why a call stands as it does, or each that is not done, and what a person can do."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.cli.cluster import FILE_OR_CALL, in_cluster, of_journal_or_cluster
from adapters.cli.output import JSON, print_error, print_json, usage_error
from adapters.journals.next_step import Source
from adapters.journals.reading_why import MOST_CALLS, read_why, read_whys
from adapters.journals.why import Why
from adapters.terminal.screen import make_console
from adapters.terminal.why_text import print_why
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import redacted

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress


@click.command()
@click.argument("journal", type=FILE_OR_CALL, required=False)
@click.argument("call", required=False)
@JSON
@of_journal_or_cluster("journal", "call")
def why(journal: Path, call: str | None, as_json: bool, cluster: ClusterAddress | None = None) -> None:
    """Say why CALL failed, waits or was left, what happens next and when, and what you can do.

    Without CALL, say it in short of each call that is not done. JOURNAL is a journal's file or a launch plan. CALL is
    an id of `recovery status` or the beginning of one, a name in the plan, or an operation; in a cluster, an id or a
    part of one. Exit codes: 0 explained, 1 no such call, or several, 2 wrong usage, or no server.
    """
    now = time.time()
    try:
        if cluster is not None:
            _of_cluster(cluster, call, as_json=as_json)
            return
        if call is None:
            _several(journal, now, as_json=as_json)
            return
        found = read_why(journal, call, now=now)
    except LookupError as error:
        print_error(str(error))
        sys.exit(1)
    except (RecoveryError, OSError) as error:
        usage_error(error)
    _print(found, now, as_json=as_json)


def _print(found: Why, now: float, *, as_json: bool) -> None:
    if as_json:
        print_json("why", redacted(found))
    else:
        print_why(found, make_console(), now)


def _of_cluster(cluster: ClusterAddress, call: str | None, *, as_json: bool) -> None:
    """As for a journal. Raises LookupError."""
    if call is None:
        whys, more, now = in_cluster(cluster, lambda found: found.whys(MOST_CALLS))
        _print_all(whys, more, now, cluster.source, as_json=as_json)
        return
    found, now = in_cluster(cluster, lambda cluster: cluster.why(call))
    _print(found, now, as_json=as_json)


def _several(journal: Path, now: float, *, as_json: bool) -> None:
    _print_all(*read_whys(journal, now=now), now, journal, as_json=as_json)


def _print_all(whys: Sequence[Why], more: int, now: float, source: Source, *, as_json: bool) -> None:
    if as_json:
        print_json("whys", {"calls": [redacted(one) for one in whys], "more": more})
        return
    screen = make_console()
    for number, one in enumerate(whys):
        if number:
            click.echo()
        print_why(one, screen, now, source=source)
    last = f"and {more} more; `recovery status` lists them" if more else ""
    if said := last or ("" if whys else "every call is done, or none has begun"):
        click.echo(said)
