"""The recommended settings: each choice of the presets, with the figure of its cost."""

from __future__ import annotations

from bench.report.figures import Figures, measured, table
from recovery.presets import PRESETS, Choice

MORE = """\
Journal mode is only for calls that must be resumed after a crash (`resumable=True`). It adds {ten} to an operation of
10 ms and {one} to one of 1 ms, so it suits downloads and launches, not operations of microseconds. Strict mode takes
{strict} for one call. With recovery off, as in development, the decorator returns the function unchanged and costs
nothing; `import recovery` takes {imported} over a bare interpreter."""


def recommendations(figures: Figures) -> str:
    text = []
    for name, preset in PRESETS.items():
        lines = [(choice.what, choice.value, *_costs(figures, choice), choice.why) for choice in preset.choices]
        head = ("what", "set to", "costs on success", "on one failure", "why")
        text.append(f"### {name.capitalize()}: `recovery.presets.{name}()`\n\n" + table(head, lines))
    text.append(
        MORE.format(
            ten=figures.figure("overhead-10ms-journal"),
            one=figures.figure("overhead-1ms-journal"),
            strict=figures.figure("durable"),
            imported=figures.figure("import"),
        )
    )
    return "\n\n".join(text)


def _costs(figures: Figures, choice: Choice) -> tuple[str, str]:
    if f"feature-{choice.row}" not in figures.run.rows:
        return "-", "-"
    return measured(figures.row(f"feature-{choice.row}")), measured(figures.row(f"feature-{choice.row}-failure"))
