"""The report's first pages: what came out, requirement by requirement, and the criteria of the three phases."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

from bench.measure import judge
from bench.report.found import Found, goal, measured, table, verdict
from bench.row import Row, amount, in_words

TRIED = Path(__file__).with_name("tried.toml")


def executive(found: Found) -> str:
    verdicts = Counter(row.verdict for row in found.judged)
    missed = [row for row in found.judged if row.verdict == "fail"]
    unsure = [row for row in found.judged if row.verdict == "within noise"]
    required = [row for row in found.run.rows.values() if row.required is not None]
    kept = sum(judge(row.measured, row.required) == "pass" for row in required)
    parts = [
        f"Of {len(found.judged)} goals {verdicts['pass']} are reached, {len(unsure)} cannot be told from their limit "
        f"(within noise), {len(missed)} are missed, and {verdicts['not measured']} could not be measured. Of the "
        f"{len(required)} figures that the predecessor's report had a requirement for, {kept} keep it.",
        f"- A call that succeeds costs {found.figure('success-async')} of the smallest hand-written wrapper (async; "
        f"sync {found.figure('success-sync')}), with classification, a circuit and a lazy SQLite journal attached. "
        f"tenacity takes {found.peer('success-async', 'tenacity')}, hyx {found.peer('success-async', 'hyx')}.",
        f"- Compared with the same operation, recovery adds {found.figure('overhead-1ms-lazy')} to one of 1 ms and "
        f'{found.figure("overhead-10ms-lazy")} to one of 10 ms. The predecessor\'s "705 %" compared different '
        "operations: "
        "measured that way, no recovery at all comes out at "
        f"{found.peer('protocol-basic decorator-as published', 'nothing')}.",
        f"- Of calls whose attempts fail with probability 0.3, {found.figure('rescued')} succeed; 99.19 % is possible.",
        f"- One failure and its recovery take {found.figure('failure')} (sync) and {found.figure('failure-async')} "
        "(async) of the caller's time, the whole cascade included.",
        f"- The journal commits an event every {found.figure('events-each')}, {found.figure('events')} of the pace of "
        "plain `executemany`.",
    ]
    text = parts[0] + "\n\n" + "\n".join(parts[1:])
    if missed:
        lines = [f"- {row.what}: {measured(row)}, asked for {goal(row)}.{_tried(row)}" for row in missed]
        text += "\n\n**Missed:**\n\n" + "\n".join(lines)
    return text


def _tried(row: Row) -> str:
    words = tomllib.loads(TRIED.read_text(encoding="utf-8")).get(row.key, "")
    return f" Tried: {words}" if words else ""


def requirements(found: Found) -> str:
    lines = [
        (row.what, measured(row), goal(row), verdict(row), row.before or "-", row.best or "-") for row in found.judged
    ]
    notes = [f"- {row.what}: {row.note}." for row in found.judged if row.note]
    head = ("what", "measured (quartiles)", "asked for", "result", "predecessor, as given", "best peer, as given")
    return table(head, lines) + "\n\nBeside the figures:\n\n" + "\n".join(notes)


PHASES = {
    "Phase 1, the decorator: overhead below 5 %": (
        "overhead-1ms-lazy", "overhead-10ms-lazy", "overhead-1ms-journal", "overhead-10ms-journal", "overhead-average",
    ),
    "Phase 2, recovery: at least 90 % succeed, and the next attempt begins in less than 500 ms beyond its delay": (
        "rescued", "late-async", "late-sync",
    ),
    "Phase 3, the long run: less than 5 MB of memory": ("memory-all",),
}  # fmt: skip


def phases(found: Found) -> str:
    text = [
        "The predecessor's report set four criteria for its phases: overhead below 5 %, at least 90 % success, "
        "recovery in less than 500 ms, less than 5 MB of memory. The four figures are its own; which phase named which "
        "is told here by what a phase was about. Its own result was 355 % and 70 %, by the measurements that are taken "
        "apart below."
    ]
    for title, keys in PHASES.items():
        lines = []
        for key in keys:
            row = found.row(key)
            lines.append((row.what, measured(row), in_words(row.required, row.unit), judge(row.measured, row.required)))
        text.append(f"### {title}\n\n" + table(("what", "measured (quartiles)", "required", "result"), lines))
    waiting = found.row("memory-waiting").measured
    if waiting is not None:
        calls = int(5000.0 / waiting.middle)
        text.append(
            f"At {amount(waiting.middle, 'kB')} for each waiting call, {calls} calls may wait at once before they take "
            "5 MB."
        )
    return "\n\n".join(text)
