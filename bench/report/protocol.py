"""Before and now, and the predecessor's protocol: as published, corrected, and why the one misleads."""

from __future__ import annotations

from bench.measure import Spread
from bench.report.found import Found, measured, table
from bench.row import Row, amount
from bench.table import with_spread

NAMES = ("nothing", "reconstruction", "launcher-recovery")

BEFORE_NOW = (
    "success-async", "success-sync", "overhead-1ms-lazy", "overhead-10ms-lazy", "failure", "tasks", "rescued", "users",
    "events", "memory-waiting", "memory-left", "import",
)  # fmt: skip


def before_and_now(found: Found) -> str:
    lines = []
    for key in BEFORE_NOW:
        row = found.row(key)
        extra = found.figure("events-each") + " each; " if key == "events" else ""
        lines.append((row.what, row.before or "-", extra + measured(row)))
    return (
        "The predecessor's figures are those that were measured of it, on another day and quoted as given: its source "
        "is not part of this project, and this run could not measure it again. Figures of now are of this run.\n\n"
        + table(("what", "predecessor, as given", "now (quartiles)"), lines)
        + "\n\nSo that before and now can be seen in one run all the same, the protocol below has a *reconstruction*: "
        "a small stand-in, written from what is known of the predecessor (a connection, an insert and a commit for "
        "every event on the caller's thread; words looked for in messages; delays that double; lists for statistics). "
        "Its figures are its own, not the predecessor's; they show the kind of cost, and where it comes from."
    )


TESTS = (
    (
        'The basic decorator: "705 %"',
        ("protocol-basic decorator-as published", "protocol-basic decorator-corrected"),
        "The published test timed a bare operation of 1 ms and a decorated one of 10 ms, and called the difference "
        "overhead. Nine of its ten milliseconds are the operation's own. A function without any decorator gets the "
        "same figure, in the column *nothing*: the figure says how long the two operations were, and nothing about "
        "decorators. Corrected, both sides run the same operation, turn by turn.",
    ),
    (
        'Persistence: "708 %"',
        (
            "protocol-persistence-as published",
            "protocol-persistence-corrected, 1 ms",
            "protocol-persistence-corrected, 10 ms",
        ),
        "708 % is so close to 705 % that we take it to be the same comparison again, now with SQLite on the longer "
        "side. That its SQLite was expensive is true all the same: like for like it was measured at 525 % on 1 ms and "
        "79 % on 10 ms, for it was written inline, while the operation waited. The published number could not show "
        "that: it would have looked as bad without any database, as the column *nothing* does.",
    ),
    (
        'Recovery: "70 %"',
        ("protocol-recovery-as published", "protocol-recovery-corrected"),
        "The published test failed the same calls, 30 % of them, at every attempt. No retry can rescue a call that is "
        "made to fail always, so 70 % is the share of calls that were let alone: the test's input, not its result, and "
        "*nothing* gets it, too. Corrected, each attempt fails with probability 0.3; three retries can then save 99.19 "
        "%. That the predecessor saved only 24 % of those stayed hidden behind a number that flattered it.",
    ),
    (
        "Recovery time",
        ("protocol-recovery time-as published", "protocol-recovery time-corrected"),
        "The published figure was a mean duration of calls: of those that never failed, those that waited as long as "
        "the policy asked, and those that were given up. It grows with the delay that one configures, and shrinks with "
        "the share of calls that need no recovery. What recovery answers for is the time from the first failure to "
        "success, beyond the delays that were asked for. (With nothing, nothing is recovered, and there is no such "
        "time.)",
    ),
    (
        "Memory",
        ("protocol-memory-as published", "memory-waiting", "memory-left"),
        "How the published test looked at memory has not come down to us; it is repeated here in the simplest way, as "
        "what calls leave behind that came one after the other. Such a test cannot see what a call takes while it "
        "waits, nor what stays of one that is cancelled, and there the predecessor was weak: 2.2 kB for each waiting "
        "call, 2.4 kB leaked by each cancelled one. Corrected, calls wait all at once, over bare tasks, and are "
        "cancelled.",
    ),
    (
        "20 concurrent users for 10 s",
        ("protocol-20 users-as published", "protocol-20 users-corrected", "users"),
        "The published figure is calls a second (of an operation of 10 ms, as we take it). 20 users cannot make more "
        "than 2 000 of those in a second with any library, and a sleep comes back a little late. Without the same load "
        "without recovery beside it, the figure cannot tell what recovery took. Corrected, it is a share of that.",
    ),
)


def protocol(found: Found) -> str:
    text = []
    for title, keys, why in TESTS:
        lines = [_line(found.row(key)) for key in keys]
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
