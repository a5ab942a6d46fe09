"""``recovery export``: a bundle about a journal for a bug report."""

from __future__ import annotations

import time
from pathlib import Path

from adapters.cli.output import FILE, JSON, print_json, usage_error
from adapters.journals.export import export_journal
from adapters.launcher.progress import amount
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import brief, redacted

with extra("launcher"):
    import click


@click.command()
@click.argument("journal", type=FILE)
@click.option("--output", "-o", type=FILE, help="The zip file to write [recovery-NAME-TIME.zip here].")
@JSON
def export(journal: Path, output: Path | None, as_json: bool) -> None:
    """Write a zip file for a bug report: what failed and why, events, versions, the ends of logs; no secrets.

    JOURNAL is a journal's file or a launch plan. Arguments, checkpoints and results stay out; every text is redacted.
    What is in the file is listed: look at it before you give it away. A file that is there already is not overwritten.
    Exit codes: 0 written, 2 wrong usage, no journal, a file that is there, or no room.
    """
    target = output or Path(f"recovery-{journal.stem}-{time.strftime('%Y%m%dT%H%M%S')}.zip")
    try:
        exported = export_journal(journal, target)
    except FileExistsError:
        usage_error(FileExistsError(f"cannot write {target}: the file is there already; name another with --output"))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if as_json:
        print_json("exported", redacted(exported))
        return
    for one in exported.members:
        click.echo(brief(f"{one.name}: {one.about} ({amount(one.bytes)})"))
    click.echo(brief(f"written to {exported.path} ({amount(exported.bytes)}); look at it before you give it away"))
