"""The terminal: tables of a launch and of a journal, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from time import monotonic

from adapters.launcher.view import CircuitLine, LaunchView, Line
from recovery.installation import extra
from recovery.redact import printable

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
    "done": "green",
    "succeeded": "green",
    "failed": "bold red",
    "skipped": "magenta",
    "cancelled": "magenta",
    "left": "yellow",
}
SIGNS = {"queued": "·", "running": "▶", "waiting": "…", "done": "✓", "failed": "✗"}


COLUMNS = (
    (0, Column("operation", no_wrap=True, overflow="ellipsis", min_width=12, ratio=3)),
    (0, Column("state", no_wrap=True, width=11)),
    (0, Column("tries", no_wrap=True, justify="right")),
    (110, Column("progress", no_wrap=True, width=12)),
    (80, Column("MB", no_wrap=True, width=15, justify="right")),
    (0, Column("waits for, or why", no_wrap=True, overflow="ellipsis", ratio=6)),
)


def table_of(
    rows: Iterable[Sequence[RenderableType]], columns: Iterable[tuple[int, Column]], console: Console
) -> Table:
    """A table of *rows* with those *columns* for which *console* is wide enough: each comes with the least width."""
    shown = [console.width >= least for least, _ in columns]
    headers = compress((column.copy() for _, column in columns), shown)
    table = Table(*headers, expand=True, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*compress(row, shown))
    return table


def launch_table(view: LaunchView, now: float, console: Console) -> Group:
    """The state of every operation and circuit at *now*, on the clock of the events."""
    done = {line.name for line in view.lines.values() if line.state == "done"}
    table = table_of((_cells(line, now, done) for line in view.lines.values()), COLUMNS, console)
    return Group(table, *(circuit_line(circuit, now) for circuit in view.circuits.values()))


def live_table(view: LaunchView, console: Console) -> Live:
    """Redraws the table of *view* on *console* while it is entered."""
    return Live(get_renderable=lambda: launch_table(view, monotonic(), console), console=console, refresh_per_second=8)


def circuit_line(circuit: CircuitLine, now: float) -> RenderableType:
    """A line about one circuit."""
    left = "" if circuit.until is None else f" for another {max(0.0, circuit.until - now):.1f} s"
    often = f"opened {circuit.opened} time{'s' if circuit.opened > 1 else ''}"
    text = f"circuit {printable(circuit.name)}: {circuit.state}{left}, {often}"
    style = STYLES["done" if circuit.state == "closed" else "waiting"]
    return Text(text, style=style, overflow="ellipsis", no_wrap=True)


def _cells(line: Line, now: float, done: set[str]) -> tuple[RenderableType, ...]:
    resumed = f" (+{line.resumed} restart{'s' if line.resumed > 1 else ''})" if line.resumed else ""
    return (
        Text(printable(line.name)),
        Text(f"{SIGNS.get(line.state, ' ')} {line.state}", style=STYLES[line.state]),
        Text(str(line.attempts or "")),
        _bar(line),
        Text(_megabytes(line), style="dim"),
        Text(printable(_detail(line, now, done)) + resumed, style="dim" if line.state in ("done", "queued") else ""),
    )


def _bar(line: Line) -> RenderableType:
    if not line.size:
        return Text("")
    return ProgressBar(total=line.size, completed=line.size if line.state == "done" else line.offset, width=12)


def _megabytes(line: Line) -> str:
    if not line.offset and not line.size:
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
