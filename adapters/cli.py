"""The command ``recovery``: run a launch plan, show its journal, steer its calls, watch the demonstration.

Exit codes: 0 everything is done, 1 something failed, 2 the command or the plan is wrong (then nothing was started),
130 Ctrl-C.
"""

from __future__ import annotations

import io
import logging
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import anyio
import msgspec

from adapters.demo.scenario import run_demo
from adapters.launcher.launch import Launch, Outcome
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.progress_lines import ProgressLines
from adapters.launcher.screen import live_table, make_console
from adapters.launcher.status import read_status
from adapters.launcher.status_table import status_table
from adapters.launcher.steering import steer as steer_call
from adapters.launcher.view import SEEN, LaunchView
from adapters.sqlite.store import SQLiteStore
from events.codec import encode
from events.errors import RecoveryError
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from events.operation_events import OperationFailed
from recovery.explain import MOST_ARGUMENT, shown
from recovery.installation import extra
from recovery.journal.store import Command, CommandName
from recovery.redact import brief, redacted, redacted_json
from recovery.service import Recovery

with extra("launcher"):
    import click
    from rich.console import Console

STEERING: dict[CommandName, str] = {
    "retry": "End the wait of CALL: its next attempt starts now. Resumes a quarantined call, too.",
    "pause": "Stop the clock of the waiting CALL, until `unpause` or its deadline.",
    "unpause": "Let the paused CALL wait for the rest of its delay.",
    "give up": "End CALL for good: one that waits gets its last error, and one that was left is not resumed.",
}
OF_A_CALL = (
    "JOURNAL is a journal's file or a launch plan; CALL is an id of `recovery status`, or the name of an operation. "
    "Exit codes: 0 done, 1 refused, 2 wrong usage."
)

AFTER_INTERRUPT = "cancelled; run it again to begin a new launch: downloads go on from the bytes that are there"

PATH = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Interruptible(click.Group):
    """Commands that say after Ctrl-C what happens next, and exit with 130."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was chosen."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _print_error(AFTER_INTERRUPT if ctx.invoked_subcommand == "run" else "interrupted")
            sys.exit(130)


@click.group(cls=Interruptible, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="launcher-recovery")
def cli() -> None:
    """Run launches that recover by themselves.

    Exit codes: 0 done, 1 something failed, 2 wrong usage or a wrong plan, 130 cancelled with Ctrl-C.
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


class Warnings(logging.Handler):
    """Passes the text of each warning on: what no event says."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        """Pass *record* on."""
        self._warn(record.getMessage())


def _run_launch(plan: LaunchPlan, journal: Path, *, as_json: bool) -> dict[str, Outcome]:
    view = LaunchView(plan.steps)
    console, warnings = _console(as_json=as_json), make_console(stderr=True)

    def warn(text: str) -> None:
        warnings.print(f"warning: {brief(text)}", soft_wrap=True)

    logging.getLogger("recovery.launch").addHandler(Warnings(warn))
    service = Recovery(store=SQLiteStore(journal))
    degraded = f"the journal {journal} cannot be written; the launch goes on in memory"
    service.bus.subscribe(JournalDegraded, lambda event: warn(f"{degraded}: {event.reason}"))
    service.bus.subscribe(JournalQuarantined, lambda event: warn(f"a new journal was begun: {event.reason}"))
    launch = Launch(plan, service, logs=journal.parent / "logs")
    service.bus.subscribe(SEEN, view.feed)
    with ExitStack() as shown:
        shown.enter_context(live_table(view, console))
        if as_json:
            service.bus.subscribe(SEEN, _print_event)
        elif not console.is_terminal:
            lines = ProgressLines(view, click.echo)
            service.bus.subscribe(SEEN, lines.feed)
            shown.enter_context(lines.heartbeat())
        outcomes = anyio.run(launch.run)
        view.end(outcomes)
    return outcomes


@cli.command()
@click.argument("path", type=PATH)
@click.option("--all", "show_all", is_flag=True, help="Show every call, those that are done included.")
@JSON
def status(path: Path, show_all: bool, as_json: bool) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan.

    Calls that wait, were left or failed come first, each with what failed, why, what happens next, and its id.
    """
    try:
        found = anyio.run(read_status, _journal_at(path))
    except (RecoveryError, OSError) as error:
        _usage_error(error)
    if as_json:
        _print_json(found)
    else:
        make_console().print(status_table(found, path, now=time.time(), show_all=show_all))


def _add_steering(command: CommandName, description: str) -> None:
    @cli.command(command.replace(" ", "-"), help=f"{description} {OF_A_CALL}")
    @click.argument("journal", type=PATH)
    @click.argument("call")
    @click.option("--reason", default="", help="Why; it is written to the journal.")
    @click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the running process.")
    @JSON
    def steer(journal: Path, call: str, reason: str, timeout: float, as_json: bool) -> None:
        try:
            steered = steer_call(_journal_at(journal), Command(command, call, reason), timeout=timeout)
        except (RecoveryError, OSError) as error:
            _usage_error(error)
        if as_json:
            _print_json(msgspec.Raw(redacted_json(msgspec.json.encode(steered))))
        elif not steered.is_done:
            _print_error(f"cannot {command} {shown(steered.subject, MOST_ARGUMENT)}: {steered.said}")
        else:
            then = shlex.join(("recovery", "unpause", str(journal), call))
            also = f"; `{then}` continues it" if command == "pause" else ""
            click.echo(brief(f"{steered.subject}: {steered.said}{also}"))
        sys.exit(0 if steered.is_done else 1)


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


def _print_error(problem: str) -> None:
    click.echo(f"recovery: {brief(problem)}", err=True)


def _usage_error(error: Exception) -> NoReturn:
    _print_error(str(error))
    sys.exit(2)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.encode(value))


def _print_event(event: Event) -> None:
    if not isinstance(event, OperationFailed):
        event = redacted(event)
        raw = {name: getattr(event, name) for name in event.__struct_fields__}  # arguments, results, checkpoints
        changes = {
            name: msgspec.Raw(redacted_json(bytes(value)))
            for name, value in raw.items()
            if isinstance(value, msgspec.Raw) and bytes(value)
        }
        sys.stdout.buffer.write(encode(msgspec.structs.replace(event, **changes)) + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the signs of a table are not in every encoding
    cli()


if __name__ == "__main__":
    main()
