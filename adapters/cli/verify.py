"""``recovery verify``: check the files of a journal."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio

from adapters.cli.output import FILE, JSON, journal_at, print_json, usage_error
from adapters.journals.verify import FileCheck, Verified, verify_journal
from adapters.launcher.progress import amount
from adapters.terminal.screen import make_console
from events.errors import RecoveryError
from recovery.explain import counted
from recovery.installation import extra
from recovery.redact import brief, redacted

with extra("launcher"):
    import click
    from rich.console import Group
    from rich.text import Text


@click.command()
@click.argument("journal", type=FILE)
@JSON
def verify(journal: Path, as_json: bool) -> None:
    """Check the files of JOURNAL, a journal's file or a launch plan, and change nothing.

    Every row is read and its checksum compared, also while a process writes the journal. Exit codes: 0 sound, 1 there
    are problems, 2 wrong usage or no journal.
    """
    try:
        found = anyio.run(partial(verify_journal, journal_at(journal)))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("verified", redacted(found))
    else:
        make_console().print(verification(found))
    sys.exit(0 if found.is_sound else 1)


def verification(found: Verified) -> Group:
    """What the check has *found*, for a console of any width."""
    lines = [Text(brief(_line(file))) for file in found.files]
    for one in found.findings:
        style = "bold red" if one.kind == "problem" else "dim"
        lines.append(Text.assemble((f"{one.kind}: ", style), brief(f"{one.path}: {one.text}")))
        lines.append(Text(brief(f"  {one.cure}"), style="dim"))
    problems = sum(one.kind == "problem" for one in found.findings)
    end = Text("the journal is sound", "green") if found.is_sound else Text(counted(problems, "problem"), "bold red")
    return Group(*lines, end)


def _line(file: FileCheck) -> str:
    if not file.is_sound:
        return f"{file.path}: not sound, {amount(file.bytes)}"
    writer = "a running process writes it" if file.is_being_written else "no process writes it"
    rows = f"{counted(file.rows, 'row')}, {counted(file.pending, 'call')} not over"
    return f"{file.path}: sound, {rows}, {amount(file.bytes)}, {writer}"
