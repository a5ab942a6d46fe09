"""The recommended settings: each choice of the presets, with the figure of its cost."""

from __future__ import annotations

import msgspec

from bench.report.figures import Figures, measured, table


class Choice(msgspec.Struct, frozen=True):
    """One choice of a preset.

    Args:
        what: What is chosen.
        value: The choice in words.
        why: The reason.
        row: The row of ``make bench`` that shows the cost.
    """

    what: str
    value: str
    why: str
    row: str


LAZY = Choice(
    "persistence",
    "lazy, where a store is given",
    "failures, retries, circuits and the outcomes of calls that failed once are written, nothing of a call that "
    "succeeds at once; the journal's thread writes in batches",
    "persistence",
)
CLASSIFIED = Choice(
    "classification",
    "on",
    "a failure that cannot pass is not retried; only failures are classified, so that a healthy call costs nothing",
    "classification",
)
BREAKER = Choice(
    "circuit breaker",
    "on: five calls in a row that gave up",
    "a failing host gets no more calls; a closed circuit does not subscribe to starts and successes",
    "breaker",
)

PRESETS: dict[str, tuple[Choice, ...]] = {
    "launcher": (
        Choice(
            "retries, keys and waits, together",
            "ten retries in 2.5 to 5 minutes, given back by progress; a circuit for each host; waits for disk, network "
            "and persons",
            "a launcher fails for minutes, and each call takes longer than a millisecond: its calls run through the "
            "runner from the start, for their key and their progress",
            "launcher",
        ),
        CLASSIFIED,
        LAZY,
    ),
    "production": (
        CLASSIFIED,
        LAZY,
        BREAKER,
        Choice(
            "logging",
            "the default: retries at INFO",
            "it tells of long waits, open circuits and calls that gave up; a retry costs no line unless INFO is wanted",
            "logging",
        ),
        Choice(
            "monitoring",
            "when asked for: service.monitor()",
            "it needs the extra `monitor`, which production need not install; successes are read from counters",
            "monitoring",
        ),
    ),
    "staging": (
        CLASSIFIED,
        LAZY,
        BREAKER,
        Choice("logging", "on", "people read the log, and it is quiet while calls succeed", "logging"),
        Choice("monitoring", "on", "a problem raises its alert here before it does in production", "monitoring"),
    ),
    "development": (
        Choice(
            "recovery",
            "off unless asked for: enabled=True",
            "a bug shows at once, where it is, not after three retries; functions stay untouched",
            "wrapper",
        ),
        Choice("logging", "on, once recovery is", "recovery that was asked for should be seen at work", "logging"),
        Choice("monitoring", "off", "nothing is recovered, so there is nothing to count", "monitoring"),
    ),
}
"""The choices of each preset, by its name in ``recovery.presets``."""

MORE = """\
Journal mode is only for calls that must be resumed after a crash (`resumable=True`). It adds {ten} to an operation of
10 ms and {one} to one of 1 ms, and takes {caller} of the caller's processor time each. So it suits downloads and
launches, not operations of microseconds. Strict mode takes {strict} for one call. With recovery off, as in development,
the decorator returns the function unchanged and costs nothing. `import recovery` takes {imported} over a bare
interpreter; with asyncio it takes {ratio} of the time of importing asyncio alone."""


def recommendations(figures: Figures) -> str:
    text = []
    for name, choices in PRESETS.items():
        lines = [(choice.what, choice.value, *_costs(figures, choice), choice.why) for choice in choices]
        head = ("what", "set to", "costs on success", "on one failure", "why")
        text.append(f"### {name.capitalize()}: `recovery.presets.{name}()`\n\n" + table(head, lines))
    text.append(
        MORE.format(
            ten=figures.figure("overhead-10ms-journal"),
            one=figures.figure("overhead-1ms-journal"),
            strict=figures.figure("durable"),
            caller=figures.figure("caller-async-sqlite"),
            imported=figures.figure("import"),
            ratio=figures.figure("import-ratio"),
        )
    )
    return "\n\n".join(text)


def _costs(figures: Figures, choice: Choice) -> tuple[str, str]:
    if f"feature-{choice.row}" not in figures.run.rows:
        return "-", "-"
    return measured(figures.row(f"feature-{choice.row}")), measured(figures.row(f"feature-{choice.row}-failure"))
