"""The terminal: tables of a launch and of a journal, drawn with rich."""

from __future__ import annotations

import time

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adapters.launcher.view import CircuitLine, LaunchView, Line
from recovery.redact import printable

STYLES = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "done": "green",
    "failed": "bold red",
    "skipped": "magenta",
    "cancelled": "magenta",
    "left": "yellow",
}
SIGNS = {"queued": "·", "running": "▶", "waiting": "…", "done": "✓", "failed": "✗"}


class LaunchTable:
    """Draws the state of every operation and circuit at *now*, on the clock of the events."""

    def __init__(self, view: LaunchView, now: float) -> None:
        self._view = view
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw names, states and reasons; the bar and the bytes only where there is room."""
        has_bytes, has_bar = options.max_width >= 80, options.max_width >= 110
        table = Table(expand=True, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("operation", no_wrap=True, overflow="ellipsis", min_width=12, ratio=3)
        table.add_column("state", no_wrap=True, width=11)
        table.add_column("tries", justify="right", no_wrap=True)
        if has_bar:
            table.add_column("progress", no_wrap=True, width=12)
        if has_bytes:
            table.add_column("MB", justify="right", no_wrap=True, width=15)
        table.add_column("waits for, or why", no_wrap=True, overflow="ellipsis", ratio=6)
        done = {line.name for line in self._view.lines.values() if line.state == "done"}
        for line in self._view.lines.values():
            name, state, tries, bar, size, detail = _cells(line, self._now, done)
            table.add_row(name, state, tries, *[bar] * has_bar, *[size] * has_bytes, detail)
        yield table
        for circuit in self._view.circuits.values():
            yield circuit_line(circuit, self._now)


def live_table(view: LaunchView, console: Console) -> Live:
    """Redraws the table of *view* on *console* while it is entered."""
    return Live(get_renderable=lambda: LaunchTable(view, time.monotonic()), console=console, refresh_per_second=8)


def circuit_line(circuit: CircuitLine, now: float) -> RenderableType:
    """A line about one circuit."""
    left = "" if circuit.until is None else f" for another {max(0.0, circuit.until - now):.1f} s"
    often = f"opened {circuit.opened} time{'s' if circuit.opened > 1 else ''}"
    text = f"circuit {printable(circuit.name)}: {circuit.state}{left}, {often}"
    return Text(
        text, style=STYLES["done" if circuit.state == "closed" else "waiting"], overflow="ellipsis", no_wrap=True
    )


def _cells(line: Line, now: float, done: set[str]) -> tuple[RenderableType, ...]:
    style = STYLES[line.state]
    sign = SIGNS.get(line.state, " ")
    name = printable(line.name)
    resumed = f" (+{line.resumed} restart{'s' if line.resumed > 1 else ''})" if line.resumed else ""
    return (
        Text(name),
        Text(f"{sign} {line.state}", style=style),
        Text(str(line.attempts or "")),
        _bar(line),
        Text(_megabytes(line), style="dim"),
        Text(printable(_detail(line, now, done)) + resumed, style="dim" if line.state in ("done", "queued") else ""),
    )


def _bar(line: Line) -> RenderableType:
    if line.kind != "download" or not line.size:
        return Text("")
    return ProgressBar(total=line.size, completed=line.size if line.state == "done" else line.offset, width=12)


def _megabytes(line: Line) -> str:
    if line.kind != "download" or (not line.offset and not line.size):
        return ""
    total = "?" if line.size is None else f"{line.size / 1e6:.1f}"
    return f"{line.offset / 1e6:.1f} / {total}"


def _detail(line: Line, now: float, done: set[str]) -> str:
    match line.state:
        case "queued":
            missing = [need for need in line.needs if need not in done]
            return f"needs {', '.join(missing)}" if missing else ""
        case "waiting":
            left = "" if line.until is None else f" in {max(0.0, line.until - now):.1f} s"
            return f"{line.waits_for}{left}{': ' + line.why if line.why else ''}"
        case "done":
            return f"after {len(line.failures)} failure{'s' if len(line.failures) > 1 else ''}" if line.failures else ""
    return line.why


def make_console(*, stderr: bool = False) -> Console:
    """A console on the real output; one that is no terminal is at least 160 columns wide."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console
