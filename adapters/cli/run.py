"""``recovery run``: execute a launch plan, or resume it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import anyio
import msgspec

from adapters.cli.output import FILE, JSON, console, print_error, print_json, usage_error
from adapters.downloads.client import EnvironmentVariableError
from adapters.launcher.launch import Launch, Outcome, name_in_arguments
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.progress_lines import ProgressLines
from adapters.launcher.screen import Warnings, live_table, make_console
from adapters.launcher.view import SEEN, LaunchView
from adapters.sqlite.store import SQLiteStore
from events.codec import encode
from events.errors import StaysPendingError
from events.event import Event
from events.journal_events import JournalDegraded, JournalQuarantined
from events.operation_events import OperationFailed, OperationResumed, OperationStarted
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
    arguments; the last line holds the outcomes.
    """
    try:
        loaded = load_plan(plan)
        try:
            store = SQLiteStore(journal or loaded.journal)
        except ValueError as error:
            usage_error(error)
        for name in ("recovery", "asyncio"):  # the screen says it already; after Ctrl-C, asyncio says what it gave up
            logging.getLogger(name).addHandler(logging.NullHandler())
        outcomes = _run_launch(loaded, store, as_json=as_json)
    except (PlanError, EnvironmentVariableError) as error:
        usage_error(error)
    failed = not all(outcome.is_fine for outcome in outcomes.values())
    if as_json:
        print_json({"outcomes": outcomes})
    sys.exit(1 if failed else 0)


def _run_launch(plan: LaunchPlan, store: SQLiteStore, *, as_json: bool) -> dict[str, Outcome]:
    view = LaunchView(plan.steps)
    screen, warnings = console(as_json=as_json), make_console(stderr=True)

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
        shown.enter_context(live_table(view, screen))
        if as_json:
            shows.append(service.bus.subscribe(SEEN, _print_event))
        elif not screen.is_terminal:
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
        print_error(f"ended by {caught[0].name}; run it again, and it goes on from here")
        sys.exit(128 + caught[0])
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
