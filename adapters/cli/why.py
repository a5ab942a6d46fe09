"""``recovery why``: why a call stands as it does, what happens next, and what a person can do."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from adapters.cli.output import FILE, JSON, print_error, print_json, usage_error
from adapters.journals.why import read_why
from adapters.terminal.screen import make_console
from adapters.terminal.why_text import print_why
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import redacted

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.argument("call")
@JSON
def why(journal: Path, call: str, as_json: bool) -> None:
    """Say why CALL failed, waits or was left, what happens next and when, and what you can do.

    JOURNAL is a journal's file or a launch plan. CALL is an id of `recovery status` or the beginning of one, a name in
    the plan, or an operation. Exit codes: 0 explained, 1 no such call, or several, 2 wrong usage.
    """
    now = time.time()
    try:
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
