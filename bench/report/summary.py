"""Sections of the report: executive summary, requirement by requirement, and the criteria of the three phases."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

from bench.measure import judge
from bench.report.figures import Figures, goal, measured, table, verdict
from bench.row import Row, amount, in_words

MISSED_GOALS = Path(__file__).with_name("missed_goals.toml")


def executive(figures: Figures) -> str:
    verdicts = Counter(row.verdict for row in figures.judged)
    missed = [row for row in figures.judged if row.verdict == "fail"]
    unsure = [row for row in figures.judged if row.verdict == "within noise"]
    required = [row for row in figures.run.rows.values() if row.required is not None]
    kept = sum(judge(row.measured, row.required) == "pass" for row in required)
    parts = [
        f"Of {len(figures.judged)} goals {verdicts['pass']} are reached, {len(unsure)} cannot be told from their limit "
        f"(within noise), {len(missed)} are missed, and {verdicts['not measured']} could not be measured. The "
        f"predecessor's report had requirements for {len(required)} figures; {kept} of them are met.",
        f"- A call that succeeds costs {figures.figure('success-async')} of the smallest hand-written wrapper (async; "
        f"sync {figures.figure('success-sync')}), with classification, a circuit and a lazy SQLite journal attached. "
        f"tenacity takes {figures.peer('success-async', 'tenacity')}, hyx {figures.peer('success-async', 'hyx')} in "
        "this run (the column *as given* below has what the goals were set by). *Hand-written* wraps any function, "
        "with `*args, **kwargs`; a wrapper by hand with the parameters of one function is faster than both. A call "
        "with a `key`, a journal from its start (`resumable=True`) or a subscriber to starts costs more, as "
        "the rows of journal mode below show.",
        f"- Compared with the same bare operation, recovery adds {figures.figure('overhead-1ms-lazy')} to one of 1 ms "
        f'and {figures.figure("overhead-10ms-lazy")} to one of 10 ms. The predecessor\'s "705 %" compared different '
        "operations: "
        "measured in that way, no recovery at all has "
        f"{figures.peer('protocol-basic decorator-as published', 'nothing')} overhead.",
        f"- Of calls whose attempts fail with probability 0.3, {figures.figure('rescued')} succeed; 99.19 % is "
        "possible.",
        f"- One failure and its recovery take {figures.figure('failure')} (sync) and {figures.figure('failure-async')} "
        "(async) of the time of a hand-written retry, on the caller's thread with a lazy journal. tenacity takes "
        f"{figures.peer('failure', 'tenacity')} and {figures.peer('failure-async', 'tenacity')}, opnieuw "
        f"{figures.peer('failure', 'opnieuw')} and {figures.peer('failure-async', 'opnieuw')}, hyx (async) "
        f"{figures.peer('failure-async', 'hyx')}. With three observers of ours it is "
        f"{figures.figure('failure-observed')} (sync).",
        f"- Journal mode takes {figures.figure('caller-async-sqlite')} of the caller's processor time for a call of 1 "
        f"ms (async; sync {figures.figure('caller-sync-sqlite')}).",
        f"- The journal commits an event every {figures.figure('events-each')}, {figures.figure('events')} of the "
        "rate of plain `executemany`.",
    ]
    text = parts[0] + "\n\n" + "\n".join(parts[1:])
    if missed:
        lines = [f"- {row.what}: {measured(row)}, goal {goal(row)}.{_tried(row)}" for row in missed]
        text += "\n\n**Missed:**\n\n" + "\n".join(lines)
    return text


def _tried(row: Row) -> str:
    words = tomllib.loads(MISSED_GOALS.read_text(encoding="utf-8")).get(row.key, "")
    return f" Tried: {words}" if words else ""


def requirements(figures: Figures) -> str:
    lines = [
        (row.what, measured(row), goal(row), verdict(row), row.before or "-", row.best or "-") for row in figures.judged
    ]
    notes = [f"- {row.what}: {row.note}." for row in figures.judged if row.note]
    head = ("what", "measured (quartiles)", "goal", "result", "predecessor, as given", "best peer, as given")
    return table(head, lines) + "\n\nNotes on the figures:\n\n" + "\n".join(notes)


PHASES = {
    "Phase 1, the decorator: overhead below 5 %": (
        "overhead-1ms-lazy", "overhead-10ms-lazy", "overhead-1ms-journal", "overhead-10ms-journal", "overhead-average",
    ),
    "Phase 2, recovery: at least 90 % succeed, and the next attempt begins in less than 500 ms beyond its delay": (
        "rescued", "late-async", "late-sync",
    ),
    "Phase 3, the long run: less than 5 MB of memory": ("memory-all",),
}  # fmt: skip


def phases(figures: Figures) -> str:
    text = [
        "The predecessor's report set four criteria for its phases: overhead below 5 %, at least 90 % success, "
        "recovery in less than 500 ms, less than 5 MB of memory. The four figures are its own; they are assigned here "
        "to the phases by subject. Its own results were 355 % and 70 %, from the measurements that are examined below."
    ]
    for title, keys in PHASES.items():
        lines = []
        for key in keys:
            row = figures.row(key)
            lines.append((row.what, measured(row), in_words(row.required, row.unit), judge(row.measured, row.required)))
        text.append(f"### {title}\n\n" + table(("what", "measured (quartiles)", "required", "result"), lines))
    waiting = figures.row("memory-waiting").measured
    if waiting is not None:
        calls = int(5000.0 / waiting.middle)
        text.append(
            f"At {amount(waiting.middle, 'kB')} for each waiting call, {calls} calls can wait at once within 5 MB."
        )
    return "\n\n".join(text)
