"""The demonstration: a launch fails in eleven ways, is killed with SIGKILL twice, and completes.

Nothing is simulated. The servers, git and pip are real, the launch is ``recovery run`` in a child process, and every
claim at the end is checked against the files, the logs of the servers, and the events that the child reported.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from adapters.demo.plugin import PROMPTS
from adapters.demo.report import AtKill, Report, judge, print_report, saved_bytes
from adapters.demo.stage import Child, Stage
from adapters.launcher.plan import load_plan
from adapters.terminal.screen import live_table
from adapters.terminal.view import LaunchView
from events.event import Event
from recovery.installation import extra

with extra("launcher"):
    from rich.console import Console
    from rich.text import Text

FIRST_KILL, SECOND_KILL = 25.0, 25.0
"""Seconds after which a launch is killed that has not come as far as it should."""

TIMEOUT = 90.0

FAST = 4_000_000.0
"""Bytes a second of the large file after the first kill."""


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

    def note(line: str) -> None:
        console.print(Text(f"        {line}", style="dim"))

    with stage.open(), live_table(view, console), ExitStack() as children:
        say(f"a launch of {len(view.lines)} operations begins; one host is down, one file never existed")
        at_kills: list[AtKill] = []
        for what, is_time, timeout in (
            ("pip installs", stage.is_installing, FIRST_KILL),
            ("the server answers prompts", lambda: len(stage.lines("prompts.log")) >= PROMPTS // 3, SECOND_KILL),
        ):
            child = children.enter_context(Child(stage.plan, take, note))
            if at_kills:
                say(f"started again as process {child.pid}")
            child.kill(is_time, timeout)
            at_kills.append(at_kill(stage, view))
            stage.checkpoint.rate = FAST
            files = f"{len(stage.whole())} files are whole, {len(at_kills[-1].broken)} broken"
            say(f"kill -9 {child.pid} while {what}: {files}")
        last = children.enter_context(Child(stage.plan, take, note))
        say(f"started again as process {last.pid}")
        code = last.end(TIMEOUT)
        view.end(last.outcomes)
        if code not in (0, 1):
            say(f"the launch ended with {code}")
    report = Report(
        claims=tuple(judge(stage, view, events, at_kills)),
        operations=tuple(view.lines.values()),
        bytes_served=sum(request.sent for request in stage.requests),
        bytes_saved=saved_bytes(stage.requests),
        seconds=round(time.monotonic() - began, 1),
    )
    print_report(report, console)
    return report


def at_kill(stage: Stage, view: LaunchView) -> AtKill:
    """How everything stands now."""
    return AtKill(
        broken=stage.broken(),
        requests=len(stage.server.requests),
        attempts={name: line.attempts for name, line in view.lines.items()},
        server=stage.lines("starts.log")[-1:],
    )
