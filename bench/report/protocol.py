"""Sections of the report: before and now, and the predecessor's tests as published and corrected."""

from __future__ import annotations

from bench.measure import Spread
from bench.report.figures import Figures, measured, table
from bench.row import Row, amount
from bench.table import with_spread

NAMES = ("nothing", "reconstruction", "launcher-recovery")

BEFORE_NOW = (
    "success-async", "success-sync", "overhead-1ms-lazy", "overhead-10ms-lazy", "failure", "tasks", "rescued", "users",
    "events", "memory-waiting", "memory-left", "import",
)  # fmt: skip


def before_and_now(figures: Figures) -> str:
    lines = []
    for key in BEFORE_NOW:
        row = figures.row(key)
        extra = figures.figure("events-each") + " each; " if key == "events" else ""
        lines.append((row.what, row.before or "-", extra + measured(row)))
    return (
        "The predecessor's figures were measured on another day and are quoted as given: its source is not part of "
        "this project, so this run could not measure it again. The figures of now are of this run.\n\n"
        + table(("what", "predecessor, as given", "now (quartiles)"), lines)
        + "\n\nTo compare before and now in one run, the protocol below has a *reconstruction* of the predecessor, "
        "written from its report: a connection, an insert and a commit for every event on the caller's thread; "
        "classification by words in messages; delays that double; lists for statistics. Its figures are its own, not "
        "the predecessor's. They show the kind of cost, and its cause."
    )


TESTS = (
    (
        'The basic decorator: "705 %"',
        ("protocol-basic decorator-as published", "protocol-basic decorator-corrected"),
        "The published test timed a bare operation of 1 ms and a decorated one of 10 ms, and called the difference "
        "overhead. Nine of its ten milliseconds are the operation's own. A function without any decorator gets the "
        "same figure, in the column *nothing*: the figure compares the lengths of two operations and tells nothing "
        "about decorators. Corrected, both sides run the same operation, in alternation.",
    ),
    (
        'Persistence: "708 %"',
        (
            "protocol-persistence-as published",
            "protocol-persistence-corrected, 1 ms",
            "protocol-persistence-corrected, 10 ms",
        ),
        "708 % is so close to 705 % that it is probably the same comparison, now with SQLite on the longer side. Its "
        "SQLite was expensive nevertheless: like for like it was measured at 525 % on 1 ms and 79 % on 10 ms, because "
        "it was written inline, while the operation waited. The published number cannot show that: it is as bad "
        "without any database, as the column *nothing* shows.",
    ),
    (
        'Recovery: "70 %"',
        ("protocol-recovery-as published", "protocol-recovery-corrected"),
        "The published test failed the same 30 % of the calls at every attempt. No retry can rescue a call that always "
        "fails, so 70 % is the share of calls that never failed: the test's input, not its result. *Nothing* gets the "
        "same figure. Corrected, each attempt fails with probability 0.3, and three retries can rescue 99.19 %. The "
        "predecessor rescued only 24 % of those calls, which the published number hid.",
    ),
    (
        "Recovery time",
        ("protocol-recovery time-as published", "protocol-recovery time-corrected"),
        "The published figure was the mean duration of all calls: those that never failed, those that waited for "
        "their delays, and those that gave up. It grows with the configured delay and shrinks with the share of calls "
        "that need no recovery. Recovery is responsible for the time from the first failure to success, beyond the "
        "configured delays. (With *nothing* no call recovers, so there is no such time.)",
    ),
    (
        "Memory",
        ("protocol-memory-as published", "memory-waiting", "memory-left"),
        "The published report does not describe its memory test. It is repeated here in the simplest way: the memory "
        "that remains after calls that ran one after another. Such a test does not show the memory of a waiting call, "
        "nor what remains of a cancelled one, and there the predecessor was weak: 2.2 kB for each waiting call, 2.4 "
        "kB leaked by each cancelled one. Corrected, all calls wait at once, over bare tasks, and are then cancelled.",
    ),
    (
        "20 concurrent users for 10 s",
        ("protocol-20 users-as published", "protocol-20 users-corrected", "users"),
        "The published figure is calls a second, presumably of an operation of 10 ms. 20 users cannot make more than "
        "2 000 such calls a second with any library, and a sleep returns a little late. The figure cannot show the "
        "cost of recovery unless the same load is measured without recovery. Corrected, it is a share of that load.",
    ),
)


def protocol(figures: Figures) -> str:
    text = []
    for title, keys, why in TESTS:
        lines = [_line(figures.row(key)) for key in keys]
        text.append(f"### {title}\n\n" + table(("test", "predecessor, as given", *NAMES), lines) + f"\n\n{why}")
    return "\n\n".join(text)


def _line(row: Row) -> tuple[str, ...]:
    every: dict[str, Spread | None] = {**row.peers, "launcher-recovery": row.measured}
    cells = [_cell(every.get(name), row.unit) for name in NAMES]
    return (row.what, row.before or "-", *cells)


def _cell(one: Spread | None, unit: str) -> str:
    if one is None:
        return "-"
    return with_spread(one, unit) if one.rounds > 1 else amount(one.middle, unit)
