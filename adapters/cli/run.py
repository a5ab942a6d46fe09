"""``recovery run``: execute a launch plan, or resume it."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import msgspec

from adapters.cli.output import FILE, JSON, console, print_error, print_json, usage_error
from adapters.downloads.client import EnvironmentVariableError
from adapters.journals.next_step import answer_command
from adapters.launcher.launch import Launch, Outcome, name_in_arguments
from adapters.launcher.notifying import notifying
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.stopping import StoppedBySignal
from adapters.sqlite.store import SQLiteStore
from adapters.terminal.progress_lines import ProgressLines
from adapters.terminal.screen import Warnings, is_redrawn, live_table, make_console
from adapters.terminal.view import SEEN, LaunchView
from events.codec import encode
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from events.operation_events import OperationFailed, OperationResumed, OperationStarted
from events.question_events import QuestionAsked
from recovery.installation import extra
from recovery.redact import brief, redacted
from recovery.service import Recovery

with extra("launcher"):
    import click


@click.command()
@click.argument("plan", type=FILE)
@click.option("--journal", type=FILE, help="The journal's file [.recovery/PLAN.db beside the plan].")
@JSON
def run(plan: Path, journal: Path | None, as_json: bool) -> None:
    """Execute the launch plan PLAN, or resume what an earlier run of it left.

    With --json, every event is a line of JSON as it happens, with the name of its operation in the plan instead of all
    arguments; the last line holds the outcomes. Exit codes: 0 everything is done, 1 something failed, 2 wrong usage or
    a wrong plan (then nothing was begun), 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
    """
    try:
        loaded = load_plan(plan)
        try:
            store = SQLiteStore(journal or loaded.journal)
        except ValueError as error:
            usage_error(error)
        for name in ("recovery", "asyncio"):  # the screen says it already; after Ctrl-C, asyncio says what it gave up
            logging.getLogger(name).addHandler(logging.NullHandler())
        outcomes = _run_launch(loaded, store, journal or plan, as_json=as_json)
    except (PlanError, EnvironmentVariableError) as error:
        usage_error(error)
    except StoppedBySignal as stopped:
        print_error(str(stopped))
        raise
    failed = not all(outcome.is_fine for outcome in outcomes.values())
    if as_json:
        print_json("outcomes", {"outcomes": outcomes})
    sys.exit(1 if failed else 0)


def _run_launch(plan: LaunchPlan, store: SQLiteStore, journal: Path, *, as_json: bool) -> dict[str, Outcome]:
    view = LaunchView(plan.steps)
    screen, warnings = console(as_json=as_json), make_console(stderr=True)

    def warn(text: str) -> None:
        warnings.print(f"warning: {brief(text)}", soft_wrap=True)

    for name in ("recovery.launch", "recovery.notifications"):
        logging.getLogger(name).addHandler(Warnings(warn))
    service = Recovery(store=store)
    degraded = f"the journal {store.path} cannot be written; the launch goes on in memory"
    service.bus.subscribe(JournalDegraded, lambda event: warn(f"{degraded}: {event.reason}"))
    service.bus.subscribe(JournalQuarantined, lambda event: warn(f"a new journal was begun: {event.reason}"))
    launch = Launch(plan, service, logs=store.path.parent / "logs")
    launch.check_environment()  # before anything is shown
    shows = [service.bus.subscribe(SEEN, view.feed)]
    notifier = notifying(plan, service, target=str(journal), name_of=view.name_of)

    def how_to_answer(event: QuestionAsked) -> str:
        return f"answer it with: {answer_command(journal, event.name, event.kind)}"

    with ExitStack() as shown:
        shown.enter_context(live_table(view, screen))
        if as_json:
            shows.append(service.bus.subscribe(SEEN, _print_event))
        elif not is_redrawn(screen):
            lines = ProgressLines(view, click.echo)
            shows.append(service.bus.subscribe(SEEN, lines.feed))
            shown.enter_context(lines.heartbeat())
        how = service.bus.subscribe(QuestionAsked, lambda event: screen.print(how_to_answer(event), soft_wrap=True))
        launch.on_stop.append(how.close)
        shown.enter_context(notifier)
        launch.on_stop += [seen.close for seen in shows]  # what is cancelled from then on is not for the screen
        outcomes = anyio.run(launch.run)
        view.end(outcomes)
    return outcomes


def _print_event(event: Event) -> None:
    if isinstance(event, OperationFailed):
        return
    if isinstance(event, OperationStarted | OperationResumed):
        name = name_in_arguments(event.operation, bytes(event.arguments))
        if name is not None:  # the other arguments may hold secrets: a URL, a command line
            event = msgspec.structs.replace(event, arguments=msgspec.Raw(msgspec.json.encode([[name], {}])))
    sys.stdout.buffer.write(encode(redacted(event)) + b"\n")
    sys.stdout.buffer.flush()
