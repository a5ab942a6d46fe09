"""The terminal: tables of a launch and of a journal, drawn with rich, and warnings."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import IO, Any, cast

from msgspec.structs import replace

from adapters.journals.incidents import IncidentLine
from adapters.launcher.checkpoint_words import ServerNote, note_words
from adapters.launcher.progress import progress_words
from adapters.terminal.view import LaunchView, Line
from events.event import FOREVER
from recovery.explain import counted, duration, moment, waits_for
from recovery.installation import extra
from recovery.redact import brief

with extra("launcher"):
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Column, Table
    from rich.text import Text

STYLES = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "done": "green",
    "succeeded": "green",
    "failed": "bold red",
    "skipped": "magenta",
    "cancelled": "magenta",
    "left": "yellow",
    "starting": "cyan",
    "ready": "green",
    "busy": "cyan",
    "refused": "yellow",
    "restarting": "yellow",
    "parked": "yellow",
}
SIGNS = {"queued": "·", "running": "▶", "waiting": "…", "paused": "‖", "done": "✓", "failed": "✗"}

MOST_NAMED = 5
"""Operations that the last line names; more are counted."""

BLANKS = re.compile(r"[ ]+$", re.MULTILINE)

WIDE = 110
"""Columns of a terminal that has room for a bar beside the words."""


def launch_table(view: LaunchView, now: float, console: Console, *, is_cut: bool = False) -> Group:
    """The incidents and the state of every operation at *now*, on the clock of the events.

    Reasons are wrapped, or cut to a line where the table *is_cut*. Then, of the operations that wait for one incident
    or gave up with it, one is shown and the others are counted.
    """
    is_wide = console.width >= WIDE
    done = {line.name for line in view.lines.values() if line.state == "done" or line.is_serving}
    table = Table(
        Column("operation", no_wrap=True, overflow="ellipsis", min_width=12, max_width=24 if is_wide else 20),
        Column("state", no_wrap=True, width=12),
        Column("tries", no_wrap=True, justify="right"),
        *([Column("progress", no_wrap=True, width=12)] if is_wide else ()),
        Column("how it stands", no_wrap=is_cut, overflow="ellipsis" if is_cut else "fold", ratio=1),
        expand=True, box=None, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    lines = view.lines.values()
    for line in _folded(lines) if is_cut else lines:
        name, state, tries, bar, words = _cells(line, now, done, is_short=not is_wide)
        table.add_row(name, state, tries, *([bar] if is_wide else ()), words)
    return Group(*incident_lines(view.incidents.values(), now), table)


@contextmanager
def live_table(view: LaunchView, console: Console) -> Iterator[None]:
    """Redraw the table of *view* on *console*, if that can be, while this is entered; at the end print it whole.

    A table that is higher than the terminal has its reasons cut while it is redrawn.
    """

    def fitting() -> Group:
        now = monotonic()
        whole = launch_table(view, now, console)
        is_too_high = len(console.render_lines(whole)) >= console.height
        return launch_table(view, now, console, is_cut=True) if is_too_high else whole

    redrawn = Live(get_renderable=fitting, console=console, refresh_per_second=8, transient=True)
    try:
        with redrawn if is_redrawn(console) else nullcontext():
            yield
    finally:
        console.print(launch_table(view, monotonic(), console))
        if (words := last_words(view.lines.values())) is not None:
            console.print(words)


def incident_lines(incidents: Iterable[IncidentLine], now: float) -> Iterator[Text]:
    """A line for each incident, wrapped where the screen is narrow; it is redacted already."""
    for incident in incidents:
        if (line := incident.line(now)) is not None:
            yield Text(line, style=STYLES["waiting" if incident.is_open else "done"], overflow="fold")


def _folded(lines: Iterable[Line]) -> list[Line]:
    """*lines*, but of those that stand alike for one incident the first alone, and how many more there are."""
    alike: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        alike.setdefault((line.incident and line.state, line.incident or line.name), []).append(line)
    kept: list[Line] = []
    for first, *others in alike.values():
        kept.append(first)
        if others:
            kept.append(replace(first, name=f"{len(others)} more", attempts=0, resumed=0, size=None))
    return kept


def _cells(line: Line, now: float, done: set[str], *, is_short: bool) -> tuple[RenderableType, ...]:
    resumed = f" (+{counted(line.resumed, 'restart')})" if line.resumed else ""
    word = state_word(line)
    style = STYLES["skipped" if line.optional and line.state == "failed" else word]
    return (
        Text(brief(line.name)),
        Text(f"{SIGNS.get(line.state, ' ')} {word}", style=style),
        Text(str(line.attempts or "")),
        _bar(line),
        Text(
            f"{brief(detail(line, now, done, is_short=is_short))}{resumed}".strip(),
            style="dim" if line.state in ("done", "queued") else "",
        ),
    )


def state_word(line: Line) -> str:
    """The state of *line* in a word; a server starts, is ready, restarts, or is parked until a person answers."""
    if line.lasts and line.state == "running":
        return line.note.server if isinstance(line.note, ServerNote) else "starting"
    if line.lasts and line.state == "waiting":
        return "restarting" if line.bound == "in" else "parked"
    return line.state


def _bar(line: Line) -> RenderableType:
    whole, there = (line.size or 0, line.offset) if line.share is None else (1.0, line.share)
    return ProgressBar(total=whole, completed=whole if line.state == "done" else there, width=12) if whole else Text("")


def detail(line: Line, now: float, done: set[str], *, is_short: bool = False) -> str:
    """How far the operation of *line* is, what it waits for, or why it failed; *done* are the operations that are."""
    why = f": {line.why}" if line.why else ""
    match line.state:
        case "queued":
            missing = [need for need in line.needs if need not in done]
            return f"needs {', '.join(missing)}" if missing else ""
        case "running":
            return progress(line, now, is_short=is_short) or note_words(line.note) or running(line, now)
        case "waiting" | "paused" if line.incident:
            return f"waits for incident {line.incident}"
        case "waiting":
            return wait(line, now) + why
        case "paused":
            left = "" if line.left is None else f", with {duration(line.left)} left"
            return f"{line.waits_for}{left}{why}"
        case "done":
            after = (
                f"after {len(line.failures)} failure{'s' if len(line.failures) > 1 else ''}" if line.failures else ""
            )
            return ", ".join(filter(None, (progress(line, now), after)))
    return f"optional: {line.why}" if line.optional and line.why else line.why


def progress(line: Line, now: float, *, is_short: bool = False) -> str:
    """How far the transfer of *line* is at *now*, and how fast it goes; "" for an operation without bytes."""
    if line.state == "done":
        return progress_words(line.size or line.offset, None, line.start)
    return progress_words(line.offset, line.size, line.start, line.rate(now), is_short=is_short)


def running(line: Line, now: float) -> str:
    """For how long the attempt of *line* has run; "" in its first seconds."""
    return f"for {duration(now - line.began)}" if now - line.began >= 2.0 else ""


def wait(line: Line, now: float) -> str:
    """What *line* waits for and when that ends, or since when it has waited."""
    left = 0.0 if line.until is None else max(line.until - now, 0.0)
    within = FOREVER if line.deadline is None else max(line.deadline - now, 0.0)
    match line.bound:
        case "in":
            return f"{line.waits_for} {moment(left)}"
        case "asks":
            return f"{waits_for(line.waits_for, within=within)}; asks again {moment(left)} at the latest"
        case "causes":
            return (
                f"{waits_for(line.waits_for, within=within, after=left)}, since {duration(max(now - line.since, 0.0))}"
            )


def last_words(lines: Collection[Line]) -> str | None:
    """How the launch of *lines* ended, as its exit code says; None for one that was stopped before its end."""
    if not all(line.is_over for line in lines):
        return None
    by_state = {
        state: [line.name for line in lines if line.state == state and not line.optional]
        for state in ("failed", "cancelled", "skipped")
    }
    if any(by_state.values()):
        said = "; ".join(f"{state}: {named(names)}" for state, names in by_state.items() if names)
        return f"{sum(line.state == 'done' for line in lines)} of {counted(len(lines), 'operation')} done; {said}"
    left = [line.name for line in lines if line.state != "done"]
    return f"done, with {counted(len(left), 'optional operation')} failed: {named(left)}" if left else "done"


def named(names: Sequence[str]) -> str:
    """The first of *names*, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(brief(name) for name in names[:MOST_NAMED]) + more


class WithoutBlanks:
    """A file that is no terminal, which gets lines without the blanks that fill the columns of a table.

    Args:
        file: What is written to.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write *text*, which rich gives in whole lines."""
        return self._file.write(BLANKS.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def make_console(*, stderr: bool = False) -> Console:
    """A console on the real output; one that is no terminal is at least 160 columns wide, and fills none of them."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
        console.file = cast("IO[str]", WithoutBlanks(console.file))
    return console


def is_redrawn(console: Console) -> bool:
    """Whether *console* is a terminal that can move its cursor: one with ``TERM=dumb`` gets lines, as a pipe does."""
    return console.is_terminal and not console.is_dumb_terminal


class Warnings(logging.Handler):
    """Passes the text of each warning on: what no event says."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        """Pass *record* on."""
        self._warn(record.getMessage())
