"""The terminal: tables of a launch and of a journal, drawn with rich."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adapters.view import CircuitLine, LaunchView, Line
from recovery.evidence import printable

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


def launch_table(view: LaunchView, now: float, *, title: str | None = None) -> RenderableType:
    """What every operation is doing at *now* on the clock of the facts, and what happened to the circuits."""
    table = Table(title=title, title_justify="left", expand=True, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("operation", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("state", no_wrap=True, width=9)
    table.add_column("tries", justify="right", no_wrap=True)
    table.add_column("progress", no_wrap=True, width=12)
    table.add_column("MB", justify="right", no_wrap=True, width=13)
    table.add_column("what it waits for, or why", no_wrap=True, overflow="ellipsis", ratio=7)
    done = {line.name for line in view.lines.values() if line.state == "done"}
    for line in view.lines.values():
        table.add_row(*_cells(line, now, done))
    return Group(table, *(circuit_line(circuit, now) for circuit in view.circuits.values()))


def circuit_line(circuit: CircuitLine, now: float) -> RenderableType:
    """One circuit in one line."""
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
    """A console on the real output; where it is no terminal, wide enough not to cut anything."""
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console
