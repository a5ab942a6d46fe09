"""``recovery move``: let another node of a cluster run a call."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from adapters.cli.cluster import in_cluster, of_cluster
from adapters.cli.output import JSON
from adapters.cli.steer import Outcome, tell
from recovery.installation import extra

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress

ANY = "any"


@click.command()
@click.argument("call")
@click.option("--to", required=True, metavar="NODE", help=f"The node that is to run it; `{ANY}` for any.")
@click.option("--reason", default="", help="Why; it is written to the record of the call.")
@JSON
@of_cluster
def move(call: str, to: str, reason: str, as_json: bool, cluster: ClusterAddress) -> None:
    """Let the node NODE of a cluster run CALL, or any node.

    For a call that is bound to a node which is gone. Its checkpoint is dropped, as it may speak of files of that node;
    the call itself, its arguments and its retries are kept. A worker that runs it has lost it. CALL is an id of
    `recovery status --cluster URL`, or a part of one. Exit codes: 0 done, 1 refused, 2 wrong usage, or no server.
    """
    from adapters.nats.steering import ClusterCommand  # here: one machine does not need it

    command = ClusterCommand(name="move", reason=reason, to="" if to == ANY else to)
    done = in_cluster(cluster, lambda found: found.steer(call, command))
    tell(Outcome("move", [done]), cluster.source, call, as_json=as_json)
    sys.exit(0 if done.is_done else 1)
