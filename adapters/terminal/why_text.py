"""Why a call stands as it does, and its history, for a terminal of any width or, without one, as plain lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from adapters.journals.answering import Question
from adapters.journals.find import title
from adapters.journals.history import HistoryLine, kind_words
from adapters.journals.next_step import Source, when
from adapters.journals.proof import Proof
from adapters.journals.status import CallStatus
from adapters.journals.story import Passage
from adapters.journals.why import Why
from adapters.terminal.screen import STYLES
from recovery.explain import counted, duration, shown
from recovery.installation import extra
from recovery.redact import brief, printable

with extra("launcher"):
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

MOST_FIRST, MOST_LAST = 4, 16
"""Parts of a story that are shown of its beginning and of its end."""

SHORT = ("why", "it said", "steps", "next", "advice")
"""The labels that are printed of each of many calls."""

LABEL = 10
"""Columns of the labels."""


def print_why(why: Why, console: Console, now: float, *, source: Source | None = None) -> None:
    """Print *why* on *console*: a table, or a line ``label: text`` for each of its lines where there is no terminal.

    Args:
        why: What to print.
        console: Where.
        now: The Unix time.
        source: What to name in commands; then only the beginning is printed, and the command that prints the rest.
    """
    told = list(why_lines(why, now))
    if source is not None:
        told = [one for one in told if one[0] in SHORT]
        told.append(("more", [shlex.join(("recovery", "why", *filter(None, (str(source), why.call))))]))
    headline = f"{why.name} {why.phrase}"
    if not console.is_terminal:
        console.print(Text(printable(headline)), soft_wrap=True)
        for label, lines in told:
            for line in lines:
                console.print(Text(f"{label}: {printable(line)}"), soft_wrap=True)
        return
    table = Table.grid(
        Column(no_wrap=True, width=LABEL, style="dim"), Column(overflow="fold", ratio=1), padding=(0, 1, 0, 0)
    )
    for label, lines in told:
        style = "bold" if label in ("why", "next") else ""
        table.add_row(label, Text("\n").join(Text(printable(line), style) for line in lines))
    console.print(Text.assemble((printable(why.name), "bold"), " ", (why.phrase, STYLES.get(why.state, "red"))))
    console.print(table)


def why_lines(why: Why, now: float) -> Iterator[tuple[str, list[str]]]:
    """What *why* tells, as labels with their lines; what is unknown is left out."""
    is_done = why.state == "succeeded"
    told = (
        ("why", [why.sentence]),
        ("it said", [why.said] if not is_done else []),
        ("error", [why.error] if not is_done else []),
        ("incident", [why.incident]),
        ("steps", list(why.outcomes)),
        ("progress", [why.progress]),
        ("next", [why.next_line]),
        ("question", [line for one in why.questions for line in _question(one, why.remedy)]),
        ("advice", [why.remedy]),
        ("you can", [f"{one.command or 'run the program again'}   ({one.effect})" for one in why.commands]),
        ("story", list(_story(why, now))),
        ("evidence", [] if why.proof is None else list(_proof(why.proof, why.error))),
        ("rule", [f"{why.rule}; category: {why.category}" if why.rule.lower() != why.category else why.rule]),
        ("policy", list(why.policy)),
        ("call", [_identity(why, now)]),
    )
    for label, lines in told:
        if known := [line for line in lines if line]:
            yield label, known


def _question(question: Question, remedy: str) -> tuple[str, ...]:
    """*question*, without its text where the *remedy*, which follows, says that; with its choices."""
    told = (question.text, question.link)
    choices = f"answers: {', '.join(question.choices)}" if question.choices else ""
    return (question.name, *(one for one in told if shown(one).rstrip(".") not in remedy), choices, question.reason)


def _story(why: Why, now: float) -> Iterator[str]:
    parts: Sequence[Passage] = why.story
    more = len(parts) - MOST_FIRST - MOST_LAST
    told = parts if more <= 0 else (*parts[:MOST_FIRST], *parts[-MOST_LAST:])
    for number, part in enumerate(told):
        if more > 0 and number == MOST_FIRST:
            yield f"... {more} more; `recovery history` lists every event"
        yield f"{when(part.at, now)} {part.line(now)}"


def _proof(proof: Proof, error: str) -> Iterator[str]:
    named = (
        ("errno", proof.errno),
        ("HTTP status", "" if proof.status is None else str(proof.status)),
        ("code", proof.code),
        ("exit code", proof.exit_code),
        ("asked to wait", "" if proof.retry_after is None else duration(proof.retry_after)),
        ("bytes done", "" if proof.bytes_done is None else str(proof.bytes_done)),
        ("room missing", proof.room),
    )
    yield ", ".join([proof.type, *(f"{name} {value}" for name, value in named if value)])
    yield from (f"caused by {cause}" for cause in proof.causes)
    if len(proof.output) > 1:
        yield from (f"  {line}" for line in proof.output)


def _identity(why: Why, now: float) -> str:
    parts = (
        why.call,
        f"of {why.operation}" + (f"[{why.key}]" if why.key not in ("", why.operation) else ""),
        why.which if why.which != f"{why.operation} {why.key}" else "",
        f"attempt {why.attempt}{' comes next' if why.state in ('waiting', 'paused') else ''}",
        counted(why.failures, "failure"),
        counted(why.restarts, "restart") if why.restarts else "",
        f"seen {when(why.seen, now)}",
        why.where or ("a running process writes the journal" if why.is_written else "no process writes the journal"),
    )
    return ", ".join(filter(None, parts))


def print_history(lines: Sequence[HistoryLine], console: Console, now: float) -> None:
    """Print *lines* on *console*, one for each event."""
    if not console.is_terminal:
        for line in lines:
            console.print(Text("  ".join(_cells(line, now))), soft_wrap=True)
        return
    table = Table.grid(
        Column(no_wrap=True), Column(overflow="fold", max_width=22), Column(overflow="fold", ratio=1),
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    for line in lines:
        table.add_row(*(Text(cell) for cell in _cells(line, now)))
    console.print(table)


def print_calls(calls: Sequence[CallStatus], console: Console, now: float) -> None:
    """Print a line for each of *calls*: when it was seen last, its state, its id, its name and its failure."""
    table = Table.grid(
        Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold", no_wrap=False), Column(overflow="fold"),
        Column(overflow="fold", ratio=1), padding=(0, 1, 0, 0),
    )  # fmt: skip
    for call in calls:
        cells = (when(call.seen, now), call.state, call.call, title(call), call.cause or call.which)
        if console.is_terminal:
            table.add_row(*(Text(brief(cell)) for cell in cells))
        else:
            console.print(Text("  ".join(brief(cell) for cell in cells if cell)), soft_wrap=True)
    if console.is_terminal:
        console.print(table)


def _cells(line: HistoryLine, now: float) -> tuple[str, str, str]:
    at = "unknown" if line.at is None else when(line.at, now)
    return at, brief(kind_words(line.event)), brief(line.text)
