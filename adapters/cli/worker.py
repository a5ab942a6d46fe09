"""``recovery worker``: run calls of a cluster with the operations of a program, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from adapters.cli.cluster import of_cluster
from adapters.cli.output import JSON, print_json, usage_error
from adapters.named_service import TargetError, import_service
from events.errors import RecoveryError
from events.event import CallEvent
from events.lease_events import CallHandedBack
from events.operation_events import GaveUp, OperationCancelled, OperationRecovered, OperationSucceeded
from recovery import leased
from recovery.explain import counted
from recovery.installation import extra
from recovery.redact import brief
from recovery.service import Recovery

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.cluster import Cluster
    from adapters.nats.view import ClusterAddress

ENDS = (OperationSucceeded, OperationRecovered, GaveUp, OperationCancelled)
"""The events of a call that a worker has brought to its end."""


class WorkerStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that takes calls.

    Args:
        node: The name of its node.
        cluster: The address of the cluster, without a password.
        operations: The operations whose calls it runs.
        concurrency: How many calls it runs at a time.
    """

    node: str
    cluster: str
    operations: list[str]
    concurrency: int


class WorkerEnded(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has done.

    Args:
        node: The name of its node.
        ended: Calls that ended on it, well or badly.
        later: Calls that it left to a later attempt.
        lost: Calls whose lease it lost: the cluster goes on with them, or a person has moved them.
        handed_back: Calls that it stopped, since its time was over: another worker makes their attempt again.
    """

    node: str
    ended: int
    later: int
    lost: int
    handed_back: int


@click.command()
@click.argument("target", metavar="MODULE:SERVICE")
@click.option("--only", multiple=True, metavar="NAME", help="Run calls of this operation; can be repeated [all].")
@click.option(
    "--concurrency", default=1, show_default=True, type=click.IntRange(1), help="How many calls run at a time."
)
@click.option("--node", metavar="NAME", help="The name of this machine in the cluster [the name of the host].")
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long running calls may go on after the first signal [the time of a lease, 30].",
)
@JSON
@of_cluster
def worker(
    target: str,
    only: tuple[str, ...],
    concurrency: int,
    node: str | None,
    drain: float | None,
    as_json: bool,
    cluster: ClusterAddress,
) -> None:
    """Run calls of a cluster with the operations of SERVICE, a Recovery of the module MODULE, which is imported.

    It takes calls of the operations that it lists, and no others. SIGTERM and Ctrl-C drain it: it takes no more calls,
    and ends when those that run have ended. After --drain seconds, or at a second signal, they are handed back, and
    another worker makes their attempt again. Exit codes: 0 drained, 1 calls were handed back, 2 wrong usage, a wrong
    module or no server, 130 Ctrl-C.
    """
    try:
        service = import_service(target)
        names = list(only) or leased.names(service)
        if not names:
            raise TargetError(f"{target} defines no operation that a cluster can run")
        with service:
            run = _Run(service, cluster, names, concurrency, node or "", drain, as_json=as_json)
            asyncio.run(run.until_signal())
    except (LookupError, ValueError, ModuleNotFoundError) as error:
        usage_error(ValueError(str(error.args[0]).removeprefix("recovery ")))
    except (RecoveryError, OSError) as error:
        usage_error(error)
    if run.signals[:1] == [signal.SIGINT]:
        raise KeyboardInterrupt
    sys.exit(1 if run.ended.handed_back else 0)


class _Run:
    """One worker, until it has ended; ``signals`` are those that came."""

    def __init__(
        self,
        service: Recovery,
        cluster: ClusterAddress,
        names: Sequence[str],
        concurrency: int,
        node: str,
        drain: float | None,
        *,
        as_json: bool,
    ) -> None:
        self._service, self._address, self._names = service, cluster, list(names)
        self._concurrency, self._node, self._drain, self._as_json = concurrency, node, drain, as_json
        self._draining: set[asyncio.Task[None]] = set()
        self._tally = Counter[str]()
        self._is_open = False
        self.signals: list[int] = []

    @property
    def ended(self) -> WorkerEnded:
        """What it has done."""
        told = self._tally
        ended, later, lost = told["ended"], told["later"], told["lost"]
        return WorkerEnded(node=self._node, ended=ended, later=later, lost=lost, handed_back=told["handed back"])

    async def until_signal(self) -> None:
        """Work until a signal, or an error. Raises LookupError, UnreachableError and ClusterError."""
        cluster = self._cluster()
        self._node = cluster.node
        with self._counted(), self._on_signals(cluster):
            try:
                async with cluster:
                    for name in self._names:
                        leased.operation(self._service, name)
                    if not self.signals:  # where an answer comes at that moment, asyncio drops the cancellation
                        self._is_open = True
                        self._say_start()
                        await cluster.work(self._names, self._concurrency)
            except asyncio.CancelledError:
                if self._is_open or not self.signals:
                    raise
        self._say_end()

    def _cluster(self) -> Cluster:
        from adapters.nats.cluster import Cluster  # here: one machine does not need it

        at = self._address
        urls = [one.strip() for one in at.url.split(",")]
        return Cluster(
            self._service,
            urls,
            node=self._node,
            prefix=at.prefix,
            drain_timeout=self._drain,
            credentials=at.creds or None,
            inbox=at.inbox,
            tls=at.trusted(),
        )

    @contextmanager
    def _on_signals(self, cluster: Cluster) -> Iterator[None]:
        loop, opening = asyncio.get_running_loop(), asyncio.current_task()
        assert opening is not None

        def stop(number: int) -> None:
            self.signals.append(number)
            if not self._is_open:
                opening.cancel()
                return
            draining = loop.create_task(cluster.drain(None if len(self.signals) == 1 else 0.0))
            self._draining.add(draining)

        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count how the calls of the cluster end here."""
        bus = self._service.bus
        subscriptions = [bus.subscribe((*ENDS, CallHandedBack), self._count, operation=name) for name in self._names]
        try:
            yield
        finally:
            for one in subscriptions:
                one.close()

    def _count(self, event: CallEvent) -> None:
        from adapters.nats.heartbeat import LOST
        from adapters.nats.names import claim_of
        from adapters.nats.worker import STOPS

        if not claim_of(event.call)[0]:
            return
        if not isinstance(event, CallHandedBack):
            self._tally["ended"] += 1
        else:
            is_lost = event.reason.startswith(LOST)
            self._tally["lost" if is_lost else "handed back" if event.reason == STOPS else "later"] += 1

    def _say_start(self) -> None:
        at, names = self._address.shown, self._names
        if self._as_json:
            started = WorkerStarted(node=self._node, cluster=at, operations=names, concurrency=self._concurrency)
            print_json("worker", started)
        else:
            most = f"{counted(self._concurrency, 'call')} at a time"
            click.echo(brief(f"{self._node} runs calls of {', '.join(names)} for {at}, {most}"))

    def _say_end(self) -> None:
        done = self.ended
        if self._as_json:
            print_json("worker-ended", done)
            return
        parts = [f"{counted(done.ended, 'call')} ended here"]
        parts += [f"{counted(done.later, 'call')} left to a later attempt"] if done.later else []
        parts += [f"{counted(done.lost, 'call')} lost to the cluster"] if done.lost else []
        parts += [f"{counted(done.handed_back, 'call')} handed back"] if done.handed_back else []
        click.echo(brief(f"{done.node} has stopped: {', '.join(parts)}"))
