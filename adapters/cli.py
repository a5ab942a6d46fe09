"""The command ``recovery``: run a launch plan, show its journal, steer its calls, watch the demonstration.

Exit codes: 0 everything is done, 1 something failed, 2 the command or the plan is wrong (then nothing was started),
130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio
import msgspec

from adapters.demo.scenario import run_demo
from adapters.downloads.client import EnvironmentVariableError
from adapters.launcher.launch import Launch, Outcome, name_in_arguments
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.progress_lines import ProgressLines
from adapters.launcher.screen import Warnings, live_table, make_console
from adapters.launcher.status import read_status
from adapters.launcher.status_table import status_table
from adapters.launcher.steering import steer as steer_call
from adapters.launcher.view import SEEN, LaunchView
from adapters.sqlite.store import SQLiteStore
from events.codec import encode
from events.errors import RecoveryError, StaysPendingError
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from events.operation_events import OperationFailed, OperationResumed, OperationStarted
from recovery.explain import MOST_ARGUMENT, shown
from recovery.installation import extra
from recovery.journal.store import Command, CommandName
from recovery.redact import brief, redacted
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


class FilePath(click.Path):
    """A file, which need not be there yet."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path that *value* names; fails for a folder, also for "", and for what the system does not take."""
        path = Path(value)
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            return path
        except OSError as error:
            self.fail(f"{path}: {error.strerror}", param, ctx)
        return self.fail(f"{path} is a folder", param, ctx) if is_folder else path


FILE = FilePath()
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
@click.argument("plan", type=FILE)
@click.option("--journal", type=FILE, help="The journal's file [.recovery/PLAN.db beside the plan].")
@JSON
def run(plan: Path, journal: Path | None, as_json: bool) -> None:
    """Execute the launch plan PLAN, or resume what an earlier run of it left.

    With --json, every event is a line of JSON as it happens, with the name of its operation in the plan instead of all
    arguments; the last line holds the outcomes.
    """
    try:
        loaded = load_plan(plan)
        try:
            store = SQLiteStore(journal or loaded.journal)
        except ValueError as error:
            _usage_error(error)
        for name in ("recovery", "asyncio"):  # the screen says it already; after Ctrl-C, asyncio says what it gave up
            logging.getLogger(name).addHandler(logging.NullHandler())
        outcomes = _run_launch(loaded, store, as_json=as_json)
    except (PlanError, EnvironmentVariableError) as error:
        _usage_error(error)
    failed = any(outcome.state != "done" for outcome in outcomes.values())
    if as_json:
        _print_json({"outcomes": outcomes})
    sys.exit(1 if failed else 0)


def _run_launch(plan: LaunchPlan, store: SQLiteStore, *, as_json: bool) -> dict[str, Outcome]:
    view = LaunchView(plan.steps)
    console, warnings = _console(as_json=as_json), make_console(stderr=True)

    def warn(text: str) -> None:
        warnings.print(f"warning: {brief(text)}", soft_wrap=True)

    logging.getLogger("recovery.launch").addHandler(Warnings(warn))
    service = Recovery(store=store)
    degraded = f"the journal {store.path} cannot be written; the launch goes on in memory"
    service.bus.subscribe(JournalDegraded, lambda event: warn(f"{degraded}: {event.reason}"))
    service.bus.subscribe(JournalQuarantined, lambda event: warn(f"a new journal was begun: {event.reason}"))
    launch = Launch(plan, service, logs=store.path.parent / "logs")
    shows = [service.bus.subscribe(SEEN, view.feed)]
    with ExitStack() as shown:
        shown.enter_context(live_table(view, console))
        if as_json:
            shows.append(service.bus.subscribe(SEEN, _print_event))
        elif not console.is_terminal:
            lines = ProgressLines(view, click.echo)
            shows.append(service.bus.subscribe(SEEN, lines.feed))
            shown.enter_context(lines.heartbeat())
        outcomes = anyio.run(_run_until_signal, launch, [seen.close for seen in shows])
        view.end(outcomes)
    return outcomes


async def _run_until_signal(launch: Launch, hide: Iterable[Callable[[], object]]) -> dict[str, Outcome]:
    """Run *launch*; SIGTERM and SIGHUP end it and its processes, and leave its calls to the next run.

    What happens to it from then on is not for the screen: *hide* is called first.
    """
    caught: list[signal.Signals] = []
    outcomes: dict[str, Outcome] = {}
    is_over = anyio.Event()

    async def stop_at_signal() -> None:
        # ``nohup`` ignores SIGHUP, and so does what it starts.
        numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
        with anyio.open_signal_receiver(*numbers) as signals:
            caught.append(await anext(signals))
            await launch.stop()
            for each in hide:
                each()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):  # a second signal must not end it before its processes
                await is_over.wait()

    async with anyio.create_task_group() as group:
        if os.name == "posix":
            group.start_soon(stop_at_signal)
        try:
            outcomes = await launch.run()
        except StaysPendingError:
            if not caught:
                raise
        finally:
            is_over.set()
            group.cancel_scope.cancel()
    if caught:
        _print_error(f"ended by {caught[0].name}; run it again, and it goes on from here")
        sys.exit(128 + caught[0])
    return outcomes


@cli.command()
@click.argument("path", type=FILE)
@click.option("--all", "show_all", is_flag=True, help="Show every call, those that are done included.")
@JSON
def status(path: Path, show_all: bool, as_json: bool) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan.

    Calls that wait, were left or failed come first, each with what failed, why, what happens next, and its id.
    """
    try:
        found = anyio.run(partial(read_status, _journal_at(path), show_all=show_all))
    except (RecoveryError, OSError) as error:
        _usage_error(error)
    if as_json:
        _print_json(found)
    else:
        make_console().print(status_table(found, path, now=time.time(), show_all=show_all))


def _add_steering(command: CommandName, description: str) -> None:
    @cli.command(command.replace(" ", "-"), help=f"{description} {OF_A_CALL}")
    @click.argument("journal", type=FILE)
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
            _print_json(redacted(steered))
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
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this folder, and keep it.")
@JSON
def demo(keep: Path | None, as_json: bool) -> None:
    """Watch a launch recover: seven kinds of failure and a kill -9, in about half a minute."""
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            if any(keep.iterdir()):
                raise FileExistsError(
                    f"{keep} is not empty: --keep wants a new folder, or what is there would be shown"
                )
    except OSError as error:
        _usage_error(error)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # its launch ends with it
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
    if isinstance(event, OperationFailed):
        return
    if isinstance(event, OperationStarted | OperationResumed):
        name = name_in_arguments(event.operation, bytes(event.arguments))
        if name is not None:  # the other arguments may hold secrets: a URL, a command line
            event = msgspec.structs.replace(event, arguments=msgspec.Raw(msgspec.json.encode([[name], {}])))
    sys.stdout.buffer.write(encode(redacted(event)) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the signs of a table are not in every encoding
    try:
        cli()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _print_error(
            f"there is no room for what is printed: {error.strerror}; `recovery status` shows how a launch stands"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
