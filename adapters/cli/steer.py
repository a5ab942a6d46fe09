"""``recovery retry``, ``pause``, ``unpause``, ``give-up``, ``cancel``, ``reset`` and ``edit``: steer one call."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from adapters.cli.output import FILE, JSON, journal_at, print_error, print_json, usage_error
from adapters.journals.steering import steer as steer_call
from events.errors import RecoveryError
from recovery.explain import MOST_ARGUMENT, shown
from recovery.installation import extra
from recovery.journal.store import Command, CommandName
from recovery.redact import brief, redacted

with extra("launcher"):
    import click

STEERING: dict[CommandName, str] = {
    "retry": "End the wait of CALL: its next attempt starts now. Resumes a quarantined call, too.",
    "pause": "Stop the clock of the waiting CALL, until `unpause` or its deadline.",
    "unpause": "Let the paused CALL wait for the rest of its delay.",
    "give up": "End CALL for good: one that waits gets its last error, and one that was left is not resumed.",
    "cancel": "Cancel CALL, which runs, waits or was left; a plain function that runs is asked to end.",
    "reset": "Give CALL, which runs or waits, all its retries and its time back.",
    "edit": "Change how CALL decides, which runs or waits, as in: --set max_retries=20 --set max_elapsed=null.",
}
SET = click.option("--set", "settings", multiple=True, metavar="NAME=JSON", callback=lambda *got: _changes(got[2]))
OF_A_CALL = (
    "JOURNAL is a journal's file or a launch plan; CALL is an id of `recovery status`, or the name of an operation. "
    "Exit codes: 0 done, 1 refused, 2 wrong usage."
)


def _verb(command: CommandName, description: str) -> click.Command:
    @click.command(command.replace(" ", "-"), help=f"{description} {OF_A_CALL}")
    @click.argument("journal", type=FILE)
    @click.argument("call")
    @click.option("--reason", default="", help="Why; it is written to the journal.")
    @click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the running process.")
    @JSON
    def steer(
        journal: Path, call: str, reason: str, timeout: float, as_json: bool, settings: dict[str, Any] | None = None
    ) -> None:
        try:
            asked = Command(command, call, reason, settings or {})
            steered = steer_call(journal_at(journal), asked, timeout=timeout)
        except (RecoveryError, OSError) as error:
            usage_error(error)
        if as_json:
            print_json("steered", redacted(steered))
        elif not steered.is_done:
            print_error(f"cannot {command} {shown(steered.subject, MOST_ARGUMENT)}: {steered.said}")
        else:
            then = shlex.join(("recovery", "unpause", str(journal), call))
            also = f"; `{then}` continues it" if command == "pause" else ""
            click.echo(brief(f"{steered.subject}: {steered.said}{also}"))
        sys.exit(0 if steered.is_done else 1)

    return SET(steer) if command == "edit" else steer


def _changes(settings: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``--set NAME=JSON``; what is no JSON is a text."""
    if not settings:
        raise click.UsageError("edit needs what to change: --set max_retries=20")
    changes = {}
    for setting in settings:
        name, is_given, value = setting.partition("=")
        if not is_given:
            raise click.BadParameter(f"{setting!r} is not NAME=JSON, such as max_retries=20")
        try:
            changes[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            changes[name] = value
    return changes


VERBS = [_verb(command, description) for command, description in STEERING.items()]
