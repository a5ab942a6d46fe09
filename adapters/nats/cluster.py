"""``Cluster``: the operations of a service on more than one machine, over NATS JetStream."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

from adapters.nats.engine import answered
from adapters.nats.errors import ClusterError, ClusterLimitError, StaleError, check_asyncio
from adapters.nats.handle import Handle
from adapters.nats.leases import Connect, Leases
from adapters.nats.names import Priority, Subjects, checked, parse
from adapters.nats.opening import opened
from adapters.nats.running import Session, log
from adapters.nats.submission import Wish, check_clash, new_call
from adapters.nats.worker import Worker
from recovery import leased, validation
from recovery.service import Recovery

NO_ARGUMENTS: Mapping[str, Any] = {}


class Cluster:
    """The operations of a service on more than one machine. Needs asyncio, and the extra ``nats``.

        async with Cluster(service, "nats://gpu-0:4222", node="gpu-a") as cluster:
            handle = await cluster.submit("render", "scene.blend", idempotency_key="order-17")
            print(await handle.result())

        async with Cluster(service, "nats://gpu-0:4222", node="gpu-b") as cluster:
            await cluster.work(["render"], concurrency=2)

    Every program that submits or runs calls defines their operations with the same names. Async functions run in the
    loop of ``work``, plain ones in threads. A program without a loop submits with ``asyncio.run``.

    Args:
        service: The service that defines the operations.
        url: Where the servers are, one address or several. A user and a password in it are shown nowhere.
        node: The name of this machine: unique in the cluster, and the same after a restart.
        prefix: The first token of the cluster's subjects; clusters with others do not see each other.
        timeout: Seconds for which servers are asked that do not answer, before UnreachableError.
        drain_timeout: Seconds that running calls get to end in when a worker is to stop; by default those of a lease.
        connect: For tests, what connects, in place of *url*: ``MemoryServers.link``.
        leases: For tests, what keeps leases.
        options: As of ``adapters.nats.connection.connect``: ``credentials``, ``user`` and ``password``, ``token``,
            ``nkey``, ``tls``, ``inbox``, ``replicas``.

    Raises:
        TypeError: Neither *url* nor *connect*, or both.
        ValueError: The name of the node or the prefix is empty, or too long.
    """

    def __init__(
        self,
        service: Recovery,
        url: str | Sequence[str] = "",
        *,
        node: str = "",
        prefix: str = "recovery",
        timeout: float = 30.0,
        drain_timeout: float | None = None,
        connect: Connect | None = None,
        leases: type[Leases] = Leases,
        **options: Any,  # checked by ``connect``
    ) -> None:
        if bool(url) is (connect is not None):
            raise TypeError("Cluster needs the url of its servers: Cluster(service, 'nats://host:4222')")
        validation.number("timeout", timeout, least=0.0)
        self.node = node or socket.gethostname()
        """The name of this machine."""
        checked("the name of the node", self.node)
        Subjects(prefix)
        self.refused: Counter[str] = Counter()
        """How often something was refused here, by what it was."""
        self._service, self._url, self._prefix, self._options = service, url, prefix, options
        self._timeout, self._drain_timeout = timeout, drain_timeout
        self._connect, self._make_leases = connect or self._link, leases
        self._stack = AsyncExitStack()
        self._open: Session | None = None
        self._workers: list[Worker] = []
        self._signalled: dict[signal.Signals, list[tuple[Worker, float]]] = {}

    @property
    def is_cut_off(self) -> bool:
        """Whether the servers do not answer: no calls are taken, those that run go on, and outcomes are kept."""
        return self._opened_now().leases.is_cut_off

    def __repr__(self) -> str:
        state = "open" if self._open is not None else "closed"
        return f"<Cluster {self._prefix!r}, node {self.node!r}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Cluster has a connection and perhaps a password, and is not pickled: open one in each process"
        )

    async def __aenter__(self) -> Self:
        check_asyncio()
        if self._open is not None:
            raise ClusterError("this cluster is open already")
        async with AsyncExitStack() as stack:
            self._open = await opened(
                stack, self._connect, self._make_leases, self._service, self.node, self.refused, self._timeout
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.drain(0.0)
        finally:
            self._open = None
            await self._stack.aclose()

    # submit

    async def submit(
        self,
        operation: str,
        /,
        *args: Any,
        idempotency_key: str | None = None,
        affinity: str | None = None,
        priority: Priority | None = None,
        **kwargs: Any,
    ) -> Handle:
        """Submit a call: some worker of the cluster runs it. It outlives this program.

        A key that was submitted before gives that call, which runs or has ended. The key belongs to it until
        seven days after its end. After UnreachableError, submit again with the same key.

        Args:
            operation: The name of the operation.
            args: The arguments of its function; at most 512 KiB of JSON.
            idempotency_key: Names the call; by default what the operation's ``idempotency_key`` makes of the arguments.
            affinity: The only node that may run it: where what it needs lies on one disk. None for any.
            priority: "high", "normal" or "low". Low is never starved.
            kwargs: Keyword arguments of the function.

        Raises:
            LookupError: The service does not define *operation*.
            TypeError: The arguments do not fit the function, or one has the name of an option: use ``submit_call``.
            ValueError: The arguments would not come back from JSON exactly as they are.
            ClusterLimitError: The arguments are too large, or the key or a name is too long.
            CallRejectedError: The key belongs to a call with other arguments, and ``on_conflict`` is "reject".
            UnreachableError: No server has answered for ``timeout`` seconds. It may be submitted all the same.
        """
        wish = Wish(idempotency_key=idempotency_key, affinity=affinity, priority=priority)
        of = leased.operation(self._service, operation)
        check_clash(of, wish)
        return await self._submit(of, args, kwargs, wish)

    async def submit_call(
        self,
        operation: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = NO_ARGUMENTS,
        *,
        idempotency_key: str | None = None,
        affinity: str | None = None,
        priority: Priority | None = None,
    ) -> Handle:
        """As ``submit``, with the arguments apart from the options: for functions with a parameter *priority*, say."""
        wish = Wish(idempotency_key=idempotency_key, affinity=affinity, priority=priority)
        of = leased.operation(self._service, operation)
        return await self._submit(of, tuple(args), dict(kwargs), wish)

    def handle(self, call: str) -> Handle:
        """The call with that id, whoever has submitted it.

        Raises:
            LookupError: The service does not define its operation.
            ValueError: *call* is no id of a call.
        """
        return self._handle(call, leased.operation(self._service, parse(call).operation))

    # work

    async def work(
        self, names: Sequence[str], concurrency: int = 1, *, drain_on: Sequence[signal.Signals] = ()
    ) -> None:
        """Run calls of the operations *names*, and of no others, until ``drain``: those for any node, and for this one.

        Where it is cancelled, the calls that run are handed back: another worker makes their attempt again, which uses
        no retry.

        Args:
            names: The names of operations that the service defines.
            concurrency: How many calls run at a time.
            drain_on: Signals that drain it, ``[signal.SIGTERM]`` say; in the main thread only, and not on Windows.

        Raises:
            LookupError: The service does not define one of them.
            TypeError: *names* is one text.
            ValueError: No names, or *concurrency* is below 1.
        """
        if isinstance(names, str):
            raise TypeError(f"names is a list of operations: work([{names!r}])")
        if not names:
            raise ValueError("a worker needs the names of operations: work(['render'])")
        validation.whole("concurrency", concurrency, least=1)
        at = self._opened_now()
        timeout = self._drain_time(None)
        worker = Worker(at, names, concurrency)
        self._workers.append(worker)
        try:
            async with at.reporter.telling(worker):
                try:
                    with self._drained_on(drain_on, worker, timeout):
                        await worker.run()
                finally:
                    self._workers.remove(worker)
        finally:
            worker.is_over.set()

    async def drain(self, timeout: float | None = None) -> None:
        """Let this node's workers end: they take no more calls, and ``work`` returns when those that run have ended.

        What has not ended in time is handed back.

        Args:
            timeout: Seconds for the calls that run; by default ``drain_timeout``.
        """
        workers = list(self._workers)
        for worker in workers:
            worker.drain(self._drain_time(timeout))
        for worker in workers:
            await worker.is_over.wait()

    # inside

    @contextmanager
    def _drained_on(self, numbers: Sequence[signal.Signals], worker: Worker, timeout: float) -> Iterator[None]:
        """Let the signals *numbers* drain *worker*, and the others that they drain already."""
        loop = asyncio.get_running_loop()
        for number in numbers:
            self._signalled.setdefault(number, []).append((worker, timeout))
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                left = [one for one in self._signalled.pop(number) if one[0] is not worker]
                if left:
                    self._signalled[number] = left
                else:
                    loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        for worker, timeout in self._signalled.get(number, ()):
            worker.drain(timeout)

    def _drain_time(self, timeout: float | None) -> float:
        given = self._drain_timeout if timeout is None else timeout
        return self._opened_now().engine.lease if given is None else given

    def _link(self) -> Any:
        from adapters.nats.connection import connect  # here: it needs the extra

        return connect(self._url, prefix=self._prefix, name=self.node, **self._options)

    def _opened_now(self) -> Session:
        if self._open is None:
            raise ClusterError("the cluster is not open: use it as `async with Cluster(...) as cluster:`")
        return self._open

    def _handle(self, call: str, operation: leased.LeasedOperation) -> Handle:
        at = self._opened_now()
        return Handle(call, at.engine, at.board, operation.decode_result, self._timeout, lambda: self._open is at)

    async def _submit(
        self, of: leased.LeasedOperation, args: tuple[Any, ...], kwargs: dict[str, Any], wish: Wish
    ) -> Handle:
        try:
            new = new_call(of, args, kwargs, wish)
        except ClusterLimitError:
            self.refused["a call beyond the limits"] += 1
            raise
        engine = self._opened_now().engine
        now = await answered(engine.now, self._timeout)
        change = new.change(now, self.node)

        async def written() -> None:
            while True:
                try:
                    await engine.write(change, 0)
                    return
                except StaleError:
                    stored = await engine.read(change.record.call)
                    if stored is not None:
                        if warning := new.check_same(stored.record):
                            log.warning("%s", warning)
                        return

        await answered(written, self._timeout)
        return self._handle(change.record.call, new.operation)
