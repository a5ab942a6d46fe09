"""``recovery status --cluster``: how a cluster stands, once or for as long as it is watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import anyio

from adapters.cli.cluster import in_cluster
from adapters.cli.output import print_json
from adapters.nats.errors import UnreachableError
from adapters.nats.record import CallRecord
from adapters.nats.status import ClusterStatus, next_in_cluster, only_failed
from adapters.nats.view import ClusterAddress, ClusterView
from adapters.terminal.cluster_table import cluster_line, cluster_table, fitting_cluster
from adapters.terminal.screen import is_redrawn, make_console
from recovery.installation import extra

with extra("launcher"):
    import click
    from rich.live import Live

LOOKS_EVERY = 2.0
"""Seconds between two looks at a cluster that is watched."""

Seen = tuple[ClusterStatus, dict[str, CallRecord]]


def show_cluster(address: ClusterAddress, *, show_all: bool, failed: bool, watch: bool, as_json: bool) -> int:
    """Print how the cluster at *address* stands; see ``recovery status``. Returns the exit code."""

    async def look(view: ClusterView) -> Seen:
        status, records = await view.status(show_all=show_all)
        return (only_failed(status) if failed else status), records

    if watch:
        in_cluster(address, partial(_watch, look, address, show_all=show_all, as_json=as_json))
    status, records = in_cluster(address, look)
    if as_json:
        print_json("cluster", status)
    else:
        make_console().print(cluster_table(status, records, address.source, now=status.at, show_all=show_all))
    return 1 if failed and (status.calls or status.more) else 0


async def _watch(
    look: Callable[[ClusterView], Awaitable[Seen]],
    address: ClusterAddress,
    view: ClusterView,
    *,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show the cluster again and again, until Ctrl-C. The first look may raise UnreachableError."""
    console, source = make_console(), address.source
    latest = await look(view)
    if not as_json and is_redrawn(console):
        with Live(
            get_renderable=lambda: fitting_cluster(
                *latest, source, now=latest[0].at, show_all=show_all, console=console
            ),
            console=console,
            refresh_per_second=1,
        ):
            while True:
                await anyio.sleep(LOOKS_EVERY)
                latest = await _again(look, view, latest)
    known: dict[str, tuple[object, ...]] = {}
    while True:
        if as_json:
            print_json("cluster", latest[0])
        else:
            known = _tell(*latest, known, source)
        await anyio.sleep(LOOKS_EVERY)
        latest = await _again(look, view, latest)


async def _again(look: Callable[[ClusterView], Awaitable[Seen]], view: ClusterView, before: Seen) -> Seen:
    try:
        return await look(view)
    except UnreachableError:
        return before


def _tell(
    status: ClusterStatus, records: Mapping[str, CallRecord], known: dict[str, tuple[object, ...]], source: str
) -> dict[str, tuple[object, ...]]:
    """Print a line for each call that stands otherwise than as *known*. Returns how they stand."""
    standing: dict[str, tuple[object, ...]] = {
        call.call: (call.state, call.attempt, call.waits_for, call.cause, call.node, call.reason)
        for call in status.calls
        if known or not call.is_over or call.state == "gave up"
    }
    for call in status.calls:
        if call.call in standing and known.get(call.call) != standing[call.call]:
            step = next_in_cluster(records[call.call], status.known, status.at)
            click.echo(cluster_line(call, step, source, status.at))
    return standing
