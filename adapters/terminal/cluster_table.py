"""The state of a cluster for people: its nodes, then each call with what failed, what happens next, and its id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from adapters.journals.find import title
from adapters.journals.next_step import NextStep, Source, said, when
from adapters.journals.status import CallStatus
from adapters.nats.board import Node
from adapters.nats.record import CallRecord
from adapters.nats.status import ClusterStatus, is_alive, next_in_cluster
from adapters.terminal.status_table import call_lines, calls_table, in_order, step_line
from recovery.explain import counted
from recovery.installation import DISTRIBUTION, extra
from recovery.redact import brief

with extra("launcher"):
    from rich.console import Console, Group
    from rich.table import Column, Table
    from rich.text import Text

MOST_ALIKE = 10
"""Calls of one state that are shown; more are counted."""

ENDED = ("succeeded", "cancelled")


def fitting_cluster(
    status: ClusterStatus,
    records: Mapping[str, CallRecord],
    source: Source,
    *,
    now: float,
    show_all: bool = False,
    console: Console,
) -> Group:
    """The same as ``cluster_table``, of as many calls of each state as *console* has lines for."""
    most = console.height
    while True:
        table = cluster_table(status, records, source, now=now, show_all=show_all, most=most)
        if len(console.render_lines(table)) < console.height or most <= 1:
            return table
        most //= 2


def cluster_table(
    status: ClusterStatus,
    records: Mapping[str, CallRecord],
    source: Source,
    *,
    now: float,
    show_all: bool = False,
    most: int | None = None,
) -> Group:
    """What *status* says, for a console of any width: the nodes, how many calls there are, and the calls.

    Args:
        status: A cluster.
        records: The records of its calls, by their ids.
        source: What to name in commands.
        now: The time of the servers.
        show_all: Show every call, not a few of each state alone.
        most: How many calls of each state are shown at most.
    """
    most = MOST_ALIKE if most is None else min(most, MOST_ALIKE)
    shown, more, known = [], Counter(status.more), status.known
    seen = Counter[str]()
    for call in in_order(status.calls):
        seen[call.state] += 1
        if show_all or seen[call.state] <= most:
            shown.append(call)
        else:
            more[call.state] += 1
    steps = {call.call: next_in_cluster(records[call.call], known, now) for call in shown}
    table = calls_table((call, _lines(call, steps[call.call], source, now)) for call in shown)
    return Group(
        _nodes_table(status.nodes, now) if status.nodes else Text("no node has worked yet"),
        Text(brief(f"calls: {counts_words(status.counts)}"), style="bold"),
        *([table] if shown else []),
        *(Text(f"and {count} more: {state}; --all shows them", style="dim") for state, count in sorted(more.items())),
        Text(brief(f"cluster {status.cluster}"), style="dim"),
    )


def counts_words(counts: Mapping[str, int]) -> str:
    """How many calls there are: ``3 queued, 1 running``."""
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"


def node_words(node: Node, now: float) -> tuple[str, str, str]:
    """Whether *node* is there, what it runs, and its operations with the version of the library."""
    if node.is_stopped:
        stands = f"stopped {when(node.seen, now)}"
    else:
        stands = f"{'seen' if is_alive(node, now) else 'last seen'} {when(node.seen, now)}"
    runs = f"{node.running} of {node.concurrency}" if node.concurrency else counted(node.running, "call")
    about = ", ".join(node.operations) + (f"; {DISTRIBUTION} {node.version}" if node.version else "")
    return stands, f"runs {runs}" if is_alive(node, now) else "", brief(about)


def cluster_line(call: CallStatus, step: NextStep, source: Source, now: float) -> str:
    """Since when and how *call* stands, why, and what happens next, in one line."""
    parts = [f"{call.state}, attempt {call.attempt}"]
    if call.state not in ENDED and call.cause:
        parts.append(call.cause)
    if call.state not in ENDED:
        parts += [step.line(now), *(said(offer, source, call) for offer in step.offers[: step.foremost])]
    return brief(f"{when(call.seen, now)} {title(call)} {call.call}: {'; '.join(parts)}")


def _nodes_table(nodes: tuple[Node, ...], now: float) -> Table:
    table = Table.grid(
        Column(overflow="fold", max_width=24), Column(no_wrap=True), Column(no_wrap=True),
        Column(overflow="fold", ratio=1), padding=(0, 2, 0, 0), expand=True,
    )  # fmt: skip
    for node in nodes:
        style = "green" if is_alive(node, now) else "dim" if node.is_stopped else "yellow"
        stands, runs, about = node_words(node, now)
        table.add_row(Text(brief(node.node), "bold"), Text(stands, style), Text(runs), Text(about))
    return table


def _lines(call: CallStatus, step: NextStep, source: Source, now: float) -> Iterator[Text]:
    yield from call_lines(call, now)
    if call.state not in ENDED:
        yield step_line(step, source, call, now)
