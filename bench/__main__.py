"""The command: ``python -m bench table``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from bench import table
from bench.measure import EFFORTS, FULL, QUICK
from bench.run import GROUPS, QUICK_GROUPS, measure_group, run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure launcher-recovery."""


@cli.command("table")
@click.option("--quick", is_flag=True, help="A minute instead of five.")
@click.option("--only", multiple=True, type=click.Choice(list(GROUPS)), help="Only this group; may be repeated.")
@click.option("--into", type=click.Path(path_type=Path), help="Write the run here, as JSON.")
def print_table(quick: bool, only: tuple[str, ...], into: Path | None) -> None:
    """Measure, and print the table."""
    names = only or (QUICK_GROUPS if quick else tuple(GROUPS))
    effort = QUICK if quick else FULL
    found = run(names, effort, lambda group: click.echo("\n".join(table.lines(group))))
    click.echo(table.summary(found))
    click.echo(table.heading(found.machine))
    if into is not None:
        into.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if any(group.error for group in found.groups):
        sys.exit(1)


@cli.command(hidden=True)
@click.argument("name", type=click.Choice(list(GROUPS)))
@click.option("--effort", type=click.Choice(list(EFFORTS)), default="full")
@click.option("--into", type=click.Path(path_type=Path), required=True)
def group(name: str, effort: str, into: Path) -> None:
    """Measure one group in this process."""
    into.write_bytes(msgspec.json.encode(measure_group(name, EFFORTS[effort])))


if __name__ == "__main__":
    cli()
