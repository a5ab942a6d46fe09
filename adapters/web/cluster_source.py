"""A cluster of machines as the source of the page."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from msgspec.structs import replace

from adapters.journals.next_step import Action
from adapters.nats import view
from adapters.nats.errors import ClusterError
from adapters.nats.record import CallRecord
from adapters.nats.status import ClusterStatus, is_alive, last_seen, next_in_cluster
from adapters.nats.steering import ClusterCommand, name_of
from adapters.nats.view import ClusterAddress, ClusterView
from adapters.terminal.cluster_table import node_words
from adapters.web import cards
from adapters.web.headline import headline
from adapters.web.source import BY_THE_PAGE, Done, IncidentAction
from adapters.web.state import CallLine, PageState
from recovery.explain import shown

T = TypeVar("T")

EVERY = 2.0
"""Seconds between two looks at the servers."""

REST = 3.0
"""Seconds without a look for each second that the latest one took: many calls take a quarter of the time."""

NOT_KNOWN = (
    "This page reads what the servers of a cluster keep, every two seconds. It has no alerts, no charts, and no calls "
    "that run outside the cluster."
)
NOT_READ = "No server of the cluster answers at the moment: this is how it stood before."
NO_NODE = "No node works at the moment: nothing goes on until one does."
NOT_HERE = "a cluster has no such thing on this page"


class ClusterSource:
    """Shows and steers the cluster at *address*; enter it first.

    Args:
        address: Where the cluster is.
        every: Seconds between two looks at it; 0 looks at each call.
    """

    def __init__(self, address: ClusterAddress, *, every: float = EVERY) -> None:
        self._address, self._every = address, every
        self._exits = ExitStack()
        self._portal: BlockingPortal | None = None
        self._view: ClusterView | None = None
        self._state: PageState | None = None
        self._due = 0.0

    def __enter__(self) -> Self:
        """Connect. Raises UnreachableError, and ModuleNotFoundError without the extra ``nats``."""
        with ExitStack() as exits:
            self._portal = exits.enter_context(start_blocking_portal())
            opening = self._portal.wrap_async_context_manager(view.open_view(self._address))
            self._view = exits.enter_context(opening)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def read(self) -> PageState:
        """The cluster as it stands now, or stood at the latest look."""
        began = time.monotonic()
        if self._state is None or began >= self._due:
            try:
                self._state = page_of(*self._ask(lambda found: found.status()))
            except ClusterError:
                self._state = self._unreadable()
            ended = time.monotonic()
            self._due = ended + max(self._every, REST * (ended - began)) if self._every else 0.0
        return self._state

    def act(self, action: Action, call: str) -> Done:
        """Do *action* with the call of that id. Raises ClusterError, and ValueError for what a cluster does not do."""
        command = ClusterCommand(name=name_of(action), reason=BY_THE_PAGE)
        steered = self._ask(lambda found: found.steer(call, command, by_id=True))
        self._due = 0.0  # it shows at once
        return Done(is_done=steered.is_done, said=steered.said)

    def steer_incident(self, action: IncidentAction, incident: str) -> Done:
        """Raises LookupError: the page shows no incidents of a cluster."""
        raise LookupError(NOT_HERE)

    def answer(self, question: str, value: bool | str) -> Done:
        """Raises LookupError: a call without retries has buttons."""
        raise LookupError(NOT_HERE)

    def metrics(self, accept: str) -> None:
        """None: the servers have counters of their own."""

    def _ask(self, what: Callable[[ClusterView], Awaitable[T]]) -> T:
        assert self._portal is not None, "enter the source first"
        assert self._view is not None
        return self._portal.call(what, self._view)

    def _unreadable(self) -> PageState:
        if self._state is None:
            shown_as, said = self._address.shown, "the cluster cannot be reached"
            return PageState(at=time.time(), headline=said, source=shown_as, is_live=False, notes=(NOT_READ,))
        return replace(self._state, notes=tuple(dict.fromkeys((NOT_READ, *self._state.notes))))


def page_of(status: ClusterStatus, records: dict[str, CallRecord]) -> PageState:
    """What the page shows of the cluster with that *status*, whose calls have these *records*."""
    listed, more = cards.listed(status.calls, status.more)
    now, known = status.at, status.known
    calls: dict[str, CallLine] = {}
    for call in listed:
        step = next_in_cluster(records[call.call], known, now)
        line = cards.call_line(call, step)
        on = ""
        if call.node and call.state == "running":
            on = f"on {call.node if is_alive(known.get(call.node), now) else last_seen(call.node, known, now)}"
        calls[line.call] = replace(line, next=shown(step.text), remedy=call.remedy, note=on)
    is_live = any(is_alive(one, now) for one in status.nodes)
    return PageState(
        at=now,
        headline=headline(calls.values(), more=more, is_live=is_live),
        source=status.cluster,
        is_live=is_live,
        notes=(NOT_KNOWN, *(() if is_live else (NO_NODE,))),
        calls=calls,
        more=more,
        nodes={shown(one.node): "; ".join(filter(None, node_words(one, now))) for one in status.nodes},
    )
