"""``recovery retry``, ``again``, ``pause``, ``unpause``, ``give-up``, ``cancel``, ``reset``, ``edit``: steer calls."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from adapters.cli.cluster import FILE_OR_CALL, in_cluster, of_journal_or_cluster
from adapters.cli.output import FILE, JSON, TIMEOUT, journal_at, print_error, print_json, usage_error
from adapters.journals.find import title
from adapters.journals.next_step import Source
from adapters.journals.selection import ACTS_ON, MOST, Filter, select
from adapters.journals.status import CallStatus, read_status
from adapters.journals.steering import Steered, SteeredBy, steer, steer_all
from events.errors import RecoveryError
from events.evidence import Category
from recovery.explain import MOST_ARGUMENT, counted, shown
from recovery.installation import extra
from recovery.journal.store import Command, CommandName
from recovery.redact import brief, redacted

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress

STEERING: dict[CommandName, str] = {
    "retry": "End the wait of CALL: its next attempt starts now, unless a server has asked for that wait. "
    "Resumes a quarantined call, too.",
    "again": "Run CALL again, which has ended badly, as a new call with the same arguments.",
    "pause": "Stop the clock of the waiting CALL, until `unpause` or its deadline.",
    "unpause": "Let the paused CALL wait for the rest of its delay.",
    "give up": "End CALL for good: one that waits gets its last error, and one that was left is not resumed.",
    "cancel": "Cancel CALL, which runs, waits or was left; a plain function that runs is asked to end. "
    "Withdraws an `again` that waits for the next process, too.",
    "reset": "Give CALL, which runs or waits, all its retries and its time back.",
    "edit": "Change how CALL decides, which runs or waits, as in: --set max_retries=20 --set max_elapsed=null.",
}
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=JSON",
    callback=lambda *got: _changes(got[2]),
    help="Change this setting of its retry policy; can be repeated.",
)
OF_CALLS = (
    "JOURNAL is a journal's file or a launch plan; CALL is an id of `recovery status` or its beginning, a name in the "
    "plan, or an operation. Without CALL, the options say which calls. Where no process runs, an order waits for the "
    "next one, and `recovery status` shows it."
)
OF_CLUSTERS = ("retry", "pause", "unpause", "give up", "cancel")
"""The commands that act on the calls of a cluster, too."""
IN_CLUSTERS = "With --cluster there is no JOURNAL, CALL may be any part of an id, and the servers carry it out at once."
EXIT_CODES = "Exit codes: 0 done, 1 refused or waiting for the next process, 2 wrong usage."
MOST_NAMED = 5
"""Calls that the question before many names."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a command, by call; a filter matched as many *more* calls beyond its limit."""

    command: SteeredBy
    calls: list[Steered]
    more: int = 0


def print_steered(done: Outcome) -> None:
    """Print *done* as JSON."""
    calls = [redacted(one) for one in done.calls]
    print_json("steered", {"command": done.command, "calls": calls, "more": done.more})


def _verb(command: CommandName, description: str) -> click.Command:
    states = click.Choice(ACTS_ON[command])

    is_of_clusters = command in OF_CLUSTERS
    about = f"{OF_CALLS} {IN_CLUSTERS}" if is_of_clusters else OF_CALLS

    @click.command(command.replace(" ", "-"), help=f"{description}\n\n{about} {EXIT_CODES}")
    @click.argument("journal", type=FILE_OR_CALL if is_of_clusters else FILE, required=not is_of_clusters)
    @click.argument("call", required=False)
    @click.option("--all", "is_all", is_flag=True, help="Every call with which that can be done.")
    @click.option("--failed", is_flag=True, help="Calls that have failed at least once.")
    @click.option("--state", "states", multiple=True, type=states, help="Calls in this state; can be repeated.")
    @click.option("--operation", help="Calls of this operation, or with this name in the plan.")
    @click.option("--host", "--key", "key", help="Calls of this host, with its port or without, or of this key.")
    @click.option("--category", type=click.Choice([one.value for one in Category]), help="Why they failed last.")
    @click.option("--limit", default=MOST, show_default=True, type=click.IntRange(1), help="The most calls.")
    @click.option("--yes", is_flag=True, help="Do not ask before more than one call.")
    @click.option("--reason", default="", help="Why; it is written to the journal.")
    @TIMEOUT
    @JSON
    @of_journal_or_cluster("journal", "call", is_wanted=is_of_clusters)
    def verb(
        journal: Path,
        call: str | None,
        is_all: bool,
        failed: bool,
        states: tuple[str, ...],
        operation: str | None,
        key: str | None,
        category: str | None,
        limit: int,
        yes: bool,
        reason: str,
        timeout: float,
        as_json: bool,
        settings: dict[str, Any] | None = None,
        cluster: ClusterAddress | None = None,
    ) -> None:
        is_filter = is_all or failed or states or any(one is not None for one in (operation, key, category))
        if (not call) is not bool(is_filter):
            raise click.UsageError("give a CALL, or say which calls: --all, --failed, --state, --operation, --host")
        asked = Command(command, call or "", reason, settings or {})
        why = None if category is None else Category(category)
        wanted = Filter(
            states=states, has_failed=failed, operation=operation, key=key, category=why, limit=limit
        )  # fmt: skip
        try:
            if cluster is not None:
                done = _in_cluster(cluster, asked, wanted, is_sure=yes)
            elif call:
                done = Outcome(command, [steer(journal_at(journal), asked, timeout=timeout)])
            else:
                done = _steer_many(journal_at(journal), asked, wanted, timeout, is_sure=yes)
        except (RecoveryError, OSError) as error:
            usage_error(error)
        tell(done, journal if cluster is None else cluster.source, call, as_json=as_json)
        sys.exit(0 if all(one.is_done for one in done.calls) else 1)

    return SET(verb) if command == "edit" else verb


def _steer_many(journal: Path, command: Command, wanted: Filter, timeout: float, *, is_sure: bool) -> Outcome:
    status = anyio.run(partial(read_status, journal))
    selected = select(status, command.name, wanted)
    _ask(command.name, selected.calls, is_sure=is_sure)
    return Outcome(command.name, steer_all(journal, status, selected.calls, command, timeout=timeout), selected.more)


def _in_cluster(address: ClusterAddress, command: Command, wanted: Filter, *, is_sure: bool) -> Outcome:
    from adapters.nats.status import as_journal  # here: one machine does not need it
    from adapters.nats.steering import ClusterCommand, name_of

    asked = ClusterCommand(name=name_of(command.name), reason=command.reason)
    if command.call:
        return Outcome(command.name, [in_cluster(address, lambda cluster: cluster.steer(command.call, asked))])
    status, _ = in_cluster(address, lambda cluster: cluster.status(show_all=True))
    selected = select(as_journal(status), command.name, wanted)
    _ask(command.name, selected.calls, is_sure=is_sure)
    calls = [call.call for call in selected.calls]
    return Outcome(command.name, in_cluster(address, lambda cluster: cluster.steer_all(calls, asked)), selected.more)


def _ask(command: CommandName, calls: Sequence[CallStatus], *, is_sure: bool) -> None:
    """Ask whether *command* is to be carried out with so many *calls*, unless a person *is_sure*."""
    many = len(calls)
    if many > 1 and not is_sure:
        names = ", ".join(_told(one) for one in calls[:MOST_NAMED])
        others = f" and {many - MOST_NAMED} more" if many > MOST_NAMED else ""
        about = brief(f"{_in_words(command)} {many} calls: {names}{others}")
        if not sys.stdin.isatty():
            raise click.UsageError(f"{about}; add --yes to do that")
        click.confirm(about, abort=True, err=True)


def _told(call: CallStatus) -> str:
    """What tells *call* from others of its operation."""
    which = "" if call.name else f" ({call.which or call.call})"
    return f"{title(call)}{which}"


def tell(done: Outcome, source: Source, call: str | None, *, as_json: bool) -> None:
    """Print *done*, as JSON or for people; *source* is what commands name, and *call* what the person named."""
    if as_json:
        print_steered(done)
        return
    for one in done.calls:
        if one.is_done:
            then = shlex.join(("recovery", "unpause", *filter(None, (str(source), call or one.call))))
            also = f"; `{then}` continues it" if one.command == "pause" else ""
            click.echo(brief(f"{one.subject}: {one.said}{also}"))
        elif one.waits:
            click.echo(brief(f"{one.command} of {shown(one.subject, MOST_ARGUMENT)}: {one.said}"))
        else:
            print_error(f"cannot {_in_words(one.command)} {shown(one.subject, MOST_ARGUMENT)}: {one.said}")
    if not done.calls:
        click.echo(f"no call matches: there is nothing to {_in_words(done.command)}")
    elif len(done.calls) > 1:
        did = sum(one.is_done for one in done.calls)
        click.echo(f"{done.command}: done with {did} of {len(done.calls)} calls")
    if done.more:
        matches = "match" if done.more > 1 else "matches"
        click.echo(f"{counted(done.more, 'more call')} {matches}; --limit takes more at once", err=True)


def _in_words(command: SteeredBy) -> str:
    return "run again" if command == "again" else command


def _changes(settings: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``--set NAME=JSON``; what is no JSON is a text."""
    if not settings:
        raise click.UsageError("edit needs what to change: --set max_retries=20")
    changes = {}
    for setting in settings:
        name, is_given, value = setting.partition("=")
        if not (name and is_given):
            raise click.BadParameter(f"{setting!r} is not NAME=JSON, such as max_retries=20")
        try:
            changes[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            changes[name] = value
    return changes


VERBS = [_verb(command, description) for command, description in STEERING.items()]
