"""``recovery web``: the page of a journal in a browser."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.cli.cluster import FILE_OR_CALL, of_journal_or_cluster, without_log
from adapters.cli.output import JSON, journal_at, print_json, usage_error
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress
    from adapters.web.cluster_source import ClusterSource


@click.command()
@click.argument("path", type=FILE_OR_CALL, required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address at which the page is served.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--allowed-host", multiple=True, metavar="NAME", help="A further name by which browsers reach the page.")
@click.option("--read-only", is_flag=True, help="Only show: the page has no buttons.")
@JSON
@of_journal_or_cluster("path")
def web(
    path: Path,
    host: str,
    port: int,
    allowed_host: tuple[str, ...],
    read_only: bool,
    as_json: bool,
    cluster: ClusterAddress | None = None,
) -> None:
    """Show the journal at PATH, which is a journal's file or a launch plan, as a page in the browser; with --cluster,
    a cluster.

    Prints a link with a token of this start, which admits to the page; Ctrl-C ends it. Calls are steered, and questions
    answered, through the process that runs, if one does. Scripts send the token as `Authorization: Bearer TOKEN`.
    Exit codes: 0 ended by Ctrl-C, 2 wrong usage, no journal, no server, or the port is taken, 129 SIGHUP, 143 SIGTERM.
    """
    try:
        from adapters.web.serve import serve  # here: it needs an extra, and takes long to import

        with ExitStack() as entered:
            source, name = _source(path, cluster, entered)
            serve(
                source,
                name=name,
                host=host,
                port=port,
                allowed_hosts=allowed_host,
                is_read_only=read_only,
                say=(lambda opened: print_json("web", opened)) if as_json else click.echo,
            )
    except (RecoveryError, OSError, ValueError, ModuleNotFoundError) as error:
        usage_error(error)


def _source(path: Path, cluster: ClusterAddress | None, entered: ExitStack) -> tuple[Path | ClusterSource, str]:
    """What is shown, and what the page calls it."""
    if cluster is None:
        return journal_at(path), path.name
    from adapters.web.cluster_source import ClusterSource  # here: one machine does not need it

    without_log()
    return entered.enter_context(ClusterSource(cluster)), cluster.shown
