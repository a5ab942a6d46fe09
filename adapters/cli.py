"""The command ``recovery``: run a launch plan, show its journal, steer its calls, watch the demonstration.

Exit codes: 0 everything is done, 1 something failed, 2 the command or the plan is wrong (then nothing was started).
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import NoReturn

import anyio
import msgspec

from adapters.demo.scenario import run_demo
from adapters.launcher.launch import Launch, Outcome
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.screen import live_table, make_console
from adapters.launcher.status import read_status, status_table
from adapters.launcher.view import SEEN, LaunchView
from adapters.sqlite.command_inbox import submit_command
from adapters.sqlite.store import SQLiteStore
from events.codec import encode
from events.errors import RecoveryError
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from events.operation_events import OperationFailed
from recovery.installation import extra
from recovery.journal.store import Command, CommandName
from recovery.redact import printable, redact, redacted
from recovery.service import Recovery
from recovery.subscribers.log import describe

with extra("launcher"):
    import click
    from rich.console import Console

STEERING: dict[CommandName, str] = {
    "retry": "End the wait of CALL: its next attempt starts now. Resumes a quarantined call, too.",
    "pause": "Stop the clock of the waiting CALL, until `unpause` or its deadline.",
    "unpause": "Let the paused CALL wait for the rest of its delay.",
    "give up": "End the waiting CALL for good: its caller gets its last error.",
}
POLL_INTERVAL = 0.02

PATH = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="launcher-recovery")
def cli() -> None:
    """Run launches that recover by themselves.

    Exit codes: 0 done, 1 something failed, 2 wrong usage or a wrong plan.
    """


@cli.command()
@click.argument("plan", type=PATH)
@click.option("--journal", type=PATH, help="The journal's file [.recovery/PLAN.db beside the plan].")
@JSON
def run(plan: Path, journal: Path | None, as_json: bool) -> None:
    """Execute the launch plan PLAN, or resume what an earlier run of it left.

    With --json, every event is a line of JSON as it happens; the last line holds the outcomes.
    """
    try:
        loaded = load_plan(plan)
    except PlanError as error:
        _usage_error(error)
    logging.getLogger("recovery").addHandler(logging.NullHandler())  # the screen says it already
    outcomes = _run_launch(loaded, journal or loaded.journal, as_json=as_json)
    failed = any(outcome.state != "done" for outcome in outcomes.values())
    if as_json:
        _print_json({"outcomes": outcomes})
    sys.exit(1 if failed else 0)


def _run_launch(plan: LaunchPlan, journal: Path, *, as_json: bool) -> dict[str, Outcome]:
    view = LaunchView(plan.steps)
    console, warnings = _console(as_json=as_json), make_console(stderr=True)

    def warn(text: str) -> None:
        warnings.print(f"warning: {redact(printable(text))}")

    def print_line(event: Event) -> None:
        if (line := describe(event)) is not None:
            name = view.name_of(event)
            click.echo(redact(printable(line if name is None else f"{name}: {line}")))

    service = Recovery(store=SQLiteStore(journal))
    degraded = f"the journal {journal} cannot be written; the launch goes on in memory"
    service.bus.subscribe(JournalDegraded, lambda event: warn(f"{degraded}: {event.reason}"))
    service.bus.subscribe(JournalQuarantined, lambda event: warn(f"a new journal was begun: {event.reason}"))
    launch = Launch(plan, service, logs=journal.parent / "logs")
    service.bus.subscribe(SEEN, view.feed)
    if as_json:
        service.bus.subscribe(SEEN, _print_event)
    elif not console.is_terminal:
        service.bus.subscribe(SEEN, print_line)
    with live_table(view, console):
        outcomes = anyio.run(launch.run)
        view.end(outcomes)
    return outcomes


@cli.command()
@click.argument("path", type=PATH)
@JSON
def status(path: Path, as_json: bool) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan."""
    try:
        found = anyio.run(read_status, _journal_at(path))
    except (RecoveryError, OSError) as error:
        _usage_error(error)
    if as_json:
        _print_json(found)
    else:
        console = make_console()
        console.print(status_table(found, console))


def _add_steering(command: CommandName, description: str) -> None:
    @cli.command(command.replace(" ", "-"), help=f"{description} JOURNAL is a journal's file or a launch plan.")
    @click.argument("journal", type=PATH)
    @click.argument("call")
    @click.option("--reason", default="", help="Why; it is written to the journal.")
    @click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the running process.")
    def steer(journal: Path, call: str, reason: str, timeout: float) -> None:
        try:
            path = _journal_at(journal)
            if not path.exists():
                raise FileNotFoundError(f"there is no journal at {path}")
            submitted = submit_command(path, Command(command, call, reason))
        except (RecoveryError, OSError) as error:
            _usage_error(error)
        end = time.monotonic() + timeout
        while submitted.exists():
            if time.monotonic() > end:
                submitted.unlink(missing_ok=True)
                problem = f"cannot {command} call {call!r:.100}: no running process that writes {path} has it waiting"
                click.echo(f"recovery: {problem}; `recovery status` shows the ids of calls", err=True)
                sys.exit(1)
            time.sleep(POLL_INTERVAL)


for _command, _description in STEERING.items():
    _add_steering(_command, _description)


@cli.command()
@click.option("--keep", type=PATH, help="Work in this folder, and keep it.")
@JSON
def demo(keep: Path | None, as_json: bool) -> None:
    """Watch a launch recover: seven kinds of failure and a kill -9, in about half a minute."""
    report = run_demo(keep, console=_console(as_json=as_json))
    if as_json:
        _print_json(report)
    sys.exit(0 if report.is_proven else 1)


def _console(*, as_json: bool) -> Console:
    return Console(quiet=True) if as_json else make_console()


def _journal_at(path: Path) -> Path:
    return load_plan(path).journal if path.suffix == ".toml" else path


def _usage_error(error: Exception) -> NoReturn:
    click.echo(f"recovery: {redact(printable(str(error)))}", err=True)
    sys.exit(2)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.encode(value))


def _print_event(event: Event) -> None:
    if not isinstance(event, OperationFailed):
        sys.stdout.buffer.write(encode(redacted(event)) + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """The console script."""
    cli()


if __name__ == "__main__":
    main()
