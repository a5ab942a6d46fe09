"""Draw bars, goals and waterfalls as SVG, 400 pixels wide, so that a phone shows them at full size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.measure import Spread
from bench.row import Row, amount

OURS = "#0b5fa5"
OTHERS = "#b8bec6"
GOOD, UNSURE, BAD = "#1b7f4b", "#b7860b", "#c2410c"
INK = "#1c2024"
WIDTH = 400 / 96
"""Inches; SVG has 96 pixels per inch."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small files that can be searched
    "svg.hashsalt": "launcher-recovery",
    "font.family": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the widest first, so that the others fit too
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


class Bar:
    """One bar: its label, value and color."""

    __slots__ = ("color", "label", "value")

    def __init__(self, label: str, value: float, color: str = OTHERS) -> None:
        self.label = label
        self.value = value
        self.color = color


def bars(
    path: Path,
    title: str,
    unit: str,
    groups: Mapping[str, Sequence[Bar]],
    *,
    log: bool = False,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Horizontal bars, one block for each group; *scales* holds the upper limit of blocks with a scale of their own."""
    with mpl.rc_context(STYLE):
        count = sum(len(group) for group in groups.values())
        figure = Figure(figsize=(WIDTH, 0.55 + 0.36 * len(groups) + 0.2 * count), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        heights = [len(group) + 0.8 for group in groups.values()]
        every = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
        least = min(bar.value for group in groups.values() for bar in group if bar.value > 0) if log else 0.0
        greatest = max(bar.value for group in groups.values() for bar in group)
        for axes, (name, group) in zip(every, groups.items(), strict=True):
            _block(axes, name, unit, group, log=log, limits=(least, (scales or {}).get(name, greatest)))
        _save(figure, path)


def _block(axes: Any, name: str, unit: str, group: Sequence[Bar], *, log: bool, limits: tuple[float, float]) -> None:
    least, greatest = limits
    places = range(len(group))
    floor = min(1.0, least / 2.0) if log else 0.0
    values = [max(bar.value, floor) if log else bar.value for bar in group]
    axes.barh(places, values, color=[bar.color for bar in group], height=0.72)
    axes.set_yticks(list(places), [bar.label for bar in group])
    axes.invert_yaxis()
    if log:
        axes.set_xscale("log")
        axes.set_xlim(floor, greatest * (greatest / floor) ** 0.3)
    else:
        axes.set_xlim(min(0.0, *[bar.value for bar in group]), greatest * 1.25)
    for place, bar, value in zip(places, group, values, strict=True):
        axes.annotate(
            amount(bar.value, unit), (max(value, floor), place), xytext=(3, 0), textcoords="offset points", va="center"
        )
    if name:
        axes.set_title(name, fontsize=8.5)
    axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)


def goals(path: Path, title: str, rows: Sequence[tuple[str, Row]]) -> None:
    """The distance of each figure from its goal: 1 is the limit, and left of it is better."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.21 * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        axes = figure.subplots()
        colors = {"pass": GOOD, "within noise": UNSURE, "fail": BAD}
        for place, (_, row) in enumerate(rows):
            low, middle, high = distances(row)
            color = colors.get(row.verdict, OTHERS)
            axes.plot([low, high], [place, place], color=color, linewidth=2.0, solid_capstyle="butt")
            axes.plot([middle], [place], "o", color=color, markersize=5)
        axes.axvline(1.0, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlim(0.01, max(100.0, *[1.5 * distances(row)[2] for _, row in rows]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of the allowed value; left is better")
        axes.grid(axis="x", color="#e3e6ea", linewidth=0.6)
        axes.set_axisbelow(True)
        _save(figure, path)


def distances(row: Row) -> tuple[float, float, float]:
    """A figure and its spread in units of its goal, less is better. At least 0.01, for the log scale."""
    assert row.measured is not None
    assert row.goal is not None
    measured, limit = row.measured, row.goal.limit or 1.0
    values = (measured.low, measured.middle, measured.high)
    if row.goal.sense == "least":
        return tuple(sorted(limit / max(value, 1e-9) for value in values))  # type: ignore[return-value]
    return tuple(max(value / limit, 0.01) for value in values)  # type: ignore[return-value]


def steps(path: Path, title: str, groups: Mapping[str, tuple[str, Sequence[tuple[str, Spread]]]]) -> None:
    """Waterfalls: each step begins where the step before ends."""
    with mpl.rc_context(STYLE):
        count = sum(len(parts) for _, parts in groups.values())
        figure = Figure(figsize=(WIDTH, 0.6 + 0.4 * len(groups) + 0.22 * count), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        heights = [len(parts) + 0.8 for _, parts in groups.values()]
        every = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, (unit, parts)) in zip(every, groups.items(), strict=True):
            reached = 0.0
            for place, (_, part) in enumerate(parts):
                axes.barh(place, part.middle, left=reached, color=OURS, height=0.66)
                end = max(reached, reached + part.middle)
                axes.annotate(
                    amount(part.middle, unit), (end, place), xytext=(3, 0), textcoords="offset points", va="center"
                )
                reached += part.middle
            axes.set_xlim(0.0, max(reached, 1e-9) * 1.3)
            axes.set_yticks(range(len(parts)), [label for label, _ in parts])
            axes.invert_yaxis()
            axes.set_title(name, fontsize=8.5)
            axes.tick_params(axis="x", bottom=False, labelbottom=False)
            axes.tick_params(axis="y", length=0)
            axes.spines["bottom"].set_visible(False)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
