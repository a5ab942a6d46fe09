"""``recovery history``: every event of a call in time order, or the latest calls."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import anyio

from adapters.cli.output import FILE, JSON, journal_at, print_error, print_json, usage_error
from adapters.journals.find import find_call, title
from adapters.journals.history import history_line, read_events
from adapters.journals.status import read_status
from adapters.terminal.screen import make_console
from adapters.terminal.why_text import print_calls, print_history
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.argument("call", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many.")
@JSON
def history(journal: Path, call: str | None, limit: int, as_json: bool) -> None:
    """List the events of CALL in time order; without CALL, the latest calls, the latest last.

    JOURNAL is a journal's file or a launch plan. CALL is an id of `recovery status` or the beginning of one, a name in
    the plan, or an operation. Exit codes: 0 listed, 1 no such call, or several, 2 wrong usage.
    """
    now = time.time()
    try:
        path = journal_at(journal)
        status = anyio.run(partial(read_status, path, also=[call] if call else []))
        if call is None:
            calls = sorted(status.calls, key=lambda one: one.seen)[-limit:]
            if as_json:
                print_json("calls", {"path": str(path), "calls": calls})
            else:
                print_calls(calls, make_console(), now)
            return
        found = find_call(status, call)
        lines = [history_line(one) for one in anyio.run(read_events, path, found.call)]
    except LookupError as error:
        print_error(str(error))
        sys.exit(1)
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("history", {"path": str(path), "call": found.call, "name": title(found), "events": lines[-limit:]})
    else:
        print_history(lines[-limit:], make_console(), now)
