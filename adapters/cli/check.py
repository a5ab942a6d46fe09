"""``recovery check``: what is in force, and what is wrong with it, before anything is run."""

from __future__ import annotations

import sys

from adapters.cli.output import JSON, print_json, usage_error
from adapters.inspection import InForce, Inspection, inspect
from adapters.launcher.plan import PlanError
from adapters.terminal.screen import make_console
from recovery.explain import counted, duration
from recovery.installation import extra
from recovery.redact import brief, redacted

with extra("launcher"):
    import click
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

MOST_NAMES = 3
"""Steps of a plan that are named in one row; more are counted."""


@click.command()
@click.argument("target", metavar="PLAN|MODULE:SERVICE")
@JSON
def check(target: str, as_json: bool) -> None:
    """Show what is in force for each operation, and what is wrong with its settings.

    PLAN is a launch plan or a configuration file (TOML); MODULE:SERVICE is a Recovery of a module, which is imported.
    Exit codes: 0 nothing is wrong, 1 there are findings, 2 wrong usage, a wrong file or module.
    """
    try:
        found = inspect(target)
    except (PlanError, ValueError) as error:
        usage_error(error)
    if as_json:
        print_json("check", redacted(found))
    else:
        make_console().print(inspection_table(found))
    sys.exit(1 if found.findings else 0)


def inspection_table(found: Inspection) -> Group:
    """What *found* says, for a console of any width from 80 columns on."""
    table = Table(
        Column("operation", overflow="fold", ratio=1),
        Column("retries", no_wrap=True, width=8),
        Column("delays", overflow="fold", width=10),
        Column("fails in", overflow="fold", width=12),
        Column("circuit", overflow="fold", width=16),
        Column("journal", no_wrap=True, width=7),
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
        expand=True,
    )
    for row in found.operations:
        first, last = row.delays
        table.add_row(
            Text("\n").join([Text(brief(_names(row))), *([Text(brief(f"key {row.key}"), "dim")] if row.key else [])]),
            "no limit" if row.retries is None else f"{row.retries}",
            "" if row.retries == 0 else f"{first:g} s" if first == last else f"{first:g}-{last:g} s",
            "no limit" if row.fails_within is None else duration(row.fails_within),
            "\n".join(row.circuit) or "none",
            row.durability,
        )
    lines: list[Text] = []
    for one in found.findings:
        about = [one.where, "" if one.operation in one.text else one.operation]
        where = "".join(f"{part}: " for part in about if part)
        lines.append(Text.assemble("\n", (brief(f"{where}{one.text}"), "yellow"), (f" [{one.rule}]", "dim")))
        lines.append(Text(f"  cure: {one.cure}"))
    end = "nothing is wrong" if not found.findings else counted(len(found.findings), "finding")
    return Group(table if found.operations else Text("no operations"), *lines, Text(f"\n{end}", style="bold"))


def _names(row: InForce) -> str:
    more = len(row.names) - MOST_NAMES
    names = ", ".join(row.names[:MOST_NAMES])
    return f"{names} and {more} more" if more > 0 else names
