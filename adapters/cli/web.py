"""``recovery web``: the page of a journal in a browser."""

from __future__ import annotations

from pathlib import Path

from adapters.cli.output import FILE, JSON, journal_at, print_json, usage_error
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click


@click.command()
@click.argument("path", type=FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address at which the page is served.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--allowed-host", multiple=True, metavar="NAME", help="A further name by which browsers reach the page.")
@click.option("--read-only", is_flag=True, help="Only show: the page has no buttons.")
@JSON
def web(path: Path, host: str, port: int, allowed_host: tuple[str, ...], read_only: bool, as_json: bool) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan, as a page in the browser.

    Prints a link with a token of this start, which admits to the page; Ctrl-C ends it. Calls are steered, and questions
    answered, through the process that runs, if one does. Scripts send the token as `Authorization: Bearer TOKEN`.
    Exit codes: 0 ended by Ctrl-C, 2 wrong usage, no journal, or the port is taken, 129 SIGHUP, 143 SIGTERM.
    """
    try:
        from adapters.web.serve import serve  # here: it needs an extra, and takes long to import

        serve(
            journal_at(path),
            name=path.name,
            host=host,
            port=port,
            allowed_hosts=allowed_host,
            is_read_only=read_only,
            say=(lambda opened: print_json("web", opened)) if as_json else click.echo,
        )
    except (RecoveryError, OSError, ValueError, ModuleNotFoundError) as error:
        usage_error(error)
