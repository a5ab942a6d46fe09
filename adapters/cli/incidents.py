"""``recovery incidents``: list what calls wait for together, have it probed, or give those calls up."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import anyio
import msgspec

from adapters.cli.output import FILE, JSON, TIMEOUT, journal_at, print_error, print_json, usage_error
from adapters.cli.steer import Outcome, print_steered
from adapters.journals.incident_steering import IncidentCommand, steer_incident
from adapters.journals.incidents import IncidentLine
from adapters.journals.status import read_status
from adapters.terminal.screen import incident_lines, make_console
from events.errors import RecoveryError
from events.evidence import Category
from events.names import display_name
from recovery.installation import extra
from recovery.redact import brief, redacted

with extra("launcher"):
    import click


class IncidentRow(msgspec.Struct, frozen=True, kw_only=True):
    """An incident. Its times are Unix times.

    Args:
        name: Its operation, with the key.
        is_open: Whether it has not ended.
        cause: What the failure that opened the circuit means.
        category: The category of that failure; None if the circuit was forced open.
        since: When it opened.
        next_probe: When the next call may probe; None if one does, or the circuit is forced open.
        waiting: The ids of the calls that wait for it now.
        calls: How many have waited for it.
        gave_up: How many of them gave up.
    """

    name: str
    is_open: bool
    cause: str
    category: Category | None
    since: float
    next_probe: float | None
    waiting: list[str]
    calls: int
    gave_up: int


@click.command()
@click.argument("journal", type=FILE)
@click.option("--probe", metavar="NAME", help="Let the next call that waits for this incident probe now.")
@click.option("--give-up", metavar="NAME", help="Give up the calls that wait for this incident.")
@click.option("--reason", default="", help="Why; it is written to the journal.")
@click.option("--all", "show_all", is_flag=True, help="List those that have ended, too.")
@TIMEOUT
@JSON
def incidents(
    journal: Path,
    probe: str | None,
    give_up: str | None,
    reason: str,
    show_all: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """List the incidents: circuits that are open, and the calls that wait for each.

    JOURNAL is a journal's file or a launch plan. NAME is a name of the list, or the host alone. Where no process runs,
    a probe waits for the next one. Exit codes: 0 done, 1 refused or waiting for the next process, 2 wrong usage.
    """
    if probe is not None and give_up is not None:
        raise click.UsageError("--probe tries again, and --give-up ends the calls: give one of them")
    try:
        path = journal_at(journal)
        name = probe if probe is not None else give_up
        if name is None:
            _list(path, show_all=show_all, as_json=as_json)
            return
        command: IncidentCommand = "probe" if probe is not None else "give up incident"
        done = steer_incident(path, name, command, reason=reason, timeout=timeout)
    except LookupError as error:
        print_error(str(error.args[0]))
        sys.exit(1)
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_steered(Outcome(command, [done]))
    elif done.is_done or done.waits:
        click.echo(brief(f"incident {done.subject}: {done.said}"))
    else:
        print_error(f"cannot {command.removesuffix(' incident')} incident {done.subject}: {done.said}")
    sys.exit(0 if done.is_done else 1)


def _list(journal: Path, *, show_all: bool, as_json: bool) -> None:
    found = [one for one in anyio.run(partial(read_status, journal)).incidents if one.is_open or show_all]
    if as_json:
        print_json("incidents", {"incidents": [redacted(_row(one)) for one in found]})
        return
    screen = make_console()
    for line in incident_lines(found, time.time()):
        screen.print(line)
    if not found:
        click.echo("no incident" if show_all else "no incident is open")


def _row(line: IncidentLine) -> IncidentRow:
    return IncidentRow(
        name=display_name(line.operation, line.key),
        is_open=line.is_open,
        cause=line.cause,
        category=line.category,
        since=line.since,
        next_probe=None if line.is_probed or not line.is_open else line.next_probe,
        waiting=sorted(line.waiting),
        calls=len(line.calls),
        gave_up=line.gave_up,
    )
