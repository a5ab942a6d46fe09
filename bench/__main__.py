"""The command ``python -m bench``: ``table``, ``report``, ``page``, ``check``, ``quiet``, ``baseline``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from bench import regression_gate, table
from bench.busy_cores import busy_cores
from bench.measure import EFFORTS, FULL, GATE, QUICK, Spread
from bench.run import GATED_GROUPS, GROUPS, QUICK_GROUPS, Run, measure_group, run, run_group


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure launcher-recovery."""


@cli.command("table")
@click.option("--quick", is_flag=True, help="A minute instead of five.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(GROUPS)), help="Measure only this group; may be repeated."
)
@click.option("--into", type=click.Path(path_type=Path), help="Write the run to this file, as JSON.")
def print_table(quick: bool, only: tuple[str, ...], into: Path | None) -> None:
    """Measure, and print the table of figures."""
    names = only or (QUICK_GROUPS if quick else tuple(GROUPS))
    effort = QUICK if quick else FULL
    found = run(names, effort, lambda group: click.echo("\n".join(table.lines(group))))
    click.echo(table.summary(found))
    click.echo(table.heading(found.machine))
    if into is not None:
        into.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if any(group.error for group in found.groups):
        sys.exit(1)


@cli.command()
@click.option(
    "--from", "source", type=click.Path(exists=True, path_type=Path), help="Do not measure; use the run in this file."
)
def report(source: Path | None) -> None:
    """Measure everything, and write the report to docs/."""
    from bench.report.write import write_report  # imported here: only the report needs matplotlib

    if source is None:
        found = run(GROUPS, FULL, lambda group: click.echo("\n".join(table.lines(group))))
        click.echo(table.summary(found))
    else:
        found = msgspec.json.decode(source.read_bytes(), type=Run)
    for path in write_report(found):
        click.echo(path)


@cli.command()
def page() -> None:
    """Write docs/explanation/performance.md again, from the figures beside it; nothing is measured."""
    from bench.report.write import write_page

    click.echo(write_page())


@cli.command()
def check() -> None:
    """Fail if a ratio is more than 20 % worse than the baseline, in three tries, or if a count has grown."""
    try:
        findings = regression_gate.check(regression_gate.read(), _gated)
    except regression_gate.StaleBaselineError as error:
        raise click.ClickException(str(error)) from error
    for finding in findings:
        click.echo(finding.line)
    if any(finding.is_worse for finding in findings):
        sys.exit(1)


@cli.command()
@click.option("--checks", default=20, help="Number of checks.")
def quiet(checks: int) -> None:
    """Test the gate for false alarms: repeat the check while a spinning process runs on each core."""
    baseline = regression_gate.read()
    with busy_cores():
        for number in range(1, checks + 1):
            findings = regression_gate.check(baseline, _gated)
            worst = max(finding.now.middle / finding.before for finding in findings)
            worse = [finding.key for finding in findings if finding.is_worse]
            click.echo(f"{number:3}  {'WORSE: ' + ', '.join(worse) if worse else 'ok'}  (greatest ratio {worst:.2f})")
            if worse:
                sys.exit(1)


@cli.command()
def baseline() -> None:
    """Make the figures of this tree the baseline: the median of three runs, for ratios differ between processes."""
    regression_gate.write([_gated([]) for _ in range(regression_gate.TRIES)])
    click.echo(regression_gate.BASELINE.read_text(encoding="utf-8"), nl=False)


def _gated(keys: Iterable[str]) -> dict[str, Spread]:
    """Measure the gate's figures: the groups that have these *keys*, or all groups if *keys* is empty."""
    wanted = {group for group, of_group in GATED_GROUPS.items() if set(keys) & set(of_group)} or set(GATED_GROUPS)
    found: dict[str, Spread] = {}
    for name in sorted(wanted):
        group = run_group(name, GATE)
        if group.error:
            raise click.ClickException(f"{name} could not be measured: {group.error}")
        costs = {row.key: regression_gate.cost(row) for row in group.rows if row.key in GATED_GROUPS[name]}
        found |= {key: one for key, one in costs.items() if one is not None}
    return found


@cli.command(hidden=True)
@click.argument("name", type=click.Choice(list(GROUPS)))
@click.option("--effort", type=click.Choice(list(EFFORTS)), default="full")
@click.option("--into", type=click.Path(path_type=Path), required=True)
def group(name: str, effort: str, into: Path) -> None:
    """Measure one group in this process (``bench.run`` starts it)."""
    into.write_bytes(msgspec.json.encode(measure_group(name, EFFORTS[effort])))


if __name__ == "__main__":
    cli()
