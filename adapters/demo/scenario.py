"""The demonstration: a launch fails in seven ways, is killed with SIGKILL, and completes.

Nothing is simulated. The server is real, the launch is ``recovery run`` in a child process, and every claim at the end
is checked against the files, the servers' logs and the events that the child reported.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from adapters.demo.report import AtKill, Report, judge, print_report, saved_bytes
from adapters.demo.stage import Child, Stage
from adapters.launcher.plan import load_plan
from adapters.launcher.screen import live_table
from adapters.launcher.view import LaunchView
from events.event import Event
from recovery.installation import extra

with extra("launcher"):
    from rich.console import Console
    from rich.text import Text

KILL_AFTER = 9.0
TIMEOUT = 90.0


def run_demo(keep: Path | None, *, console: Console) -> Report:
    """Run the demonstration in *keep* (else in a temporary folder), show it on *console*, and judge it."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recovery-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        return _run(Stage(folder), console)


def _run(stage: Stage, console: Console) -> Report:
    began = time.monotonic()
    view = LaunchView(load_plan(stage.plan).steps)
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        view.feed(event)

    def say(text: str) -> None:
        console.print(Text(f"{time.monotonic() - began:5.1f} s  {text}", style="bold"))

    with stage.open(), live_table(view, console), ExitStack() as children:
        say(f"a launch of {len(view.lines)} operations begins; one host is down, one file never existed")
        first = children.enter_context(Child(stage.plan, take))
        first.end(KILL_AFTER - (time.monotonic() - began))
        at_kill = AtKill(
            broken=stage.broken(),
            requests=len(stage.server.requests),
            attempts={name: line.attempts for name, line in view.lines.items()},
        )
        say(f"kill -9 {first.pid}: {len(stage.whole())} files are whole, {len(at_kill.broken)} broken")
        second = children.enter_context(Child(stage.plan, take))
        say(f"started again as process {second.pid}")
        code = second.end(TIMEOUT)
        view.end(second.outcomes)
        if code not in (0, 1) or second.noise:
            say(f"the launch ended with {code}: {b''.join(second.noise).decode('utf-8', 'replace')}")
    report = Report(
        claims=tuple(judge(stage, view, events, at_kill)),
        operations=tuple(view.lines.values()),
        bytes_served=sum(request.sent for request in stage.requests),
        bytes_saved=saved_bytes(stage.requests),
        seconds=round(time.monotonic() - began, 1),
    )
    print_report(report, console)
    return report
