"""What to switch on where: the choices of the presets, each with the figure that says what it costs."""

from __future__ import annotations

from bench.report.found import Found, measured, table
from recovery.presets import PRESETS, Choice

MORE = """\
Journal mode is for what must be resumed after a crash (`resumable=True`), and for that alone: it adds {ten} to an
operation of 10 ms and {one} to one of 1 ms, so it suits downloads and launches, not what takes microseconds. Strict
mode takes {strict} for one call. With recovery off, as in development, the decorator returns the function untouched,
so it costs nothing; `import recovery` takes {imported} over a bare interpreter."""


def advice(found: Found) -> str:
    text = []
    for name, preset in PRESETS.items():
        lines = [(choice.what, choice.value, *_costs(found, choice), choice.why) for choice in preset.choices]
        head = ("what", "set to", "costs on success", "on one failure", "why")
        text.append(f"### {name.capitalize()}: `recovery.presets.{name}()`\n\n" + table(head, lines))
    text.append(
        MORE.format(
            ten=found.figure("overhead-10ms-journal"),
            one=found.figure("overhead-1ms-journal"),
            strict=found.figure("durable"),
            imported=found.figure("import"),
        )
    )
    return "\n\n".join(text)


def _costs(found: Found, choice: Choice) -> tuple[str, str]:
    if f"feature-{choice.row}" not in found.run.rows:
        return "-", "-"
    return measured(found.row(f"feature-{choice.row}")), measured(found.row(f"feature-{choice.row}-failure"))
