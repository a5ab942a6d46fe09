"""``recovery why``: why a call stands as it does, or each that is not done, and what a person can do."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from adapters.cli.output import FILE, JSON, print_error, print_json, usage_error
from adapters.journals.reading_why import read_why, read_whys
from adapters.terminal.screen import make_console
from adapters.terminal.why_text import print_why
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import redacted

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.argument("call", required=False)
@JSON
def why(journal: Path, call: str | None, as_json: bool) -> None:
    """Say why CALL failed, waits or was left, what happens next and when, and what you can do.

    Without CALL, say it in short of each call that is not done. JOURNAL is a journal's file or a launch plan. CALL is
    an id of `recovery status` or the beginning of one, a name in the plan, or an operation. Exit codes: 0 explained, 1
    no such call, or several, 2 wrong usage.
    """
    now = time.time()
    try:
        if call is None:
            _several(journal, now, as_json=as_json)
            return
        found = read_why(journal, call, now=now)
    except LookupError as error:
        print_error(str(error))
        sys.exit(1)
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("why", redacted(found))
    else:
        print_why(found, make_console(), now)


def _several(journal: Path, now: float, *, as_json: bool) -> None:
    whys, more = read_whys(journal, now=now)
    if as_json:
        print_json("whys", {"calls": [redacted(one) for one in whys], "more": more})
        return
    screen = make_console()
    for number, one in enumerate(whys):
        if number:
            click.echo()
        print_why(one, screen, now, source=journal)
    last = f"and {more} more; `recovery status` lists them" if more else ""
    if said := last or ("" if whys else "every call is done, or none has begun"):
        click.echo(said)
