"""The leases of a process: a thread with a connection of its own extends them, whatever the bodies block."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from adapters.nats.boot_clock import boottime
from adapters.nats.engine import Engine
from adapters.nats.errors import ClusterError
from adapters.nats.heartbeat import Callbacks, Heartbeat, Kept, log
from adapters.nats.record import LEASE
from events.fork_locks import fork_safe
from recovery.waiting.daemon_threads import start

RECONNECT = 1.0
"""Seconds between two attempts to connect."""


class Link(Protocol):
    """A connection to the servers, as ``connection.connect`` makes it."""

    @property
    def engine(self) -> Engine:
        """What is asked of them."""
        ...


Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Link]]
"""Makes a new connection, in the loop that runs."""


class Leases:
    """Keeps the leases of this process while it lives, from a daemon thread with a loop and a connection of its own.

    A body that blocks its loop or its thread keeps its lease. One that holds the GIL in C for longer than a lease does
    not: no thread of the process runs then. Safe from any thread. A forked child has no such thread: there, ``keep``
    raises.

    Args:
        connect: Makes the connection of the thread.
        lease: Seconds after its last extension at which a lease ends.
        on_lost: Told in the thread that another worker may hold a call: its id, its fence, and why.
        on_cancel: Told in the thread that a call is to be cancelled: its id, and why.
        on_back: Told in the thread that the servers answer again, after a time in which they did not.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        connect: Connect,
        lease: float = LEASE,
        *,
        on_lost: Callable[[str, int, str], object],
        on_cancel: Callable[[str, str], object],
        on_back: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._connect = connect
        self.clock = clock
        self._heartbeat = Heartbeat(lease, Callbacks(on_lost, on_cancel, on_back), clock)
        self._kept: dict[tuple[str, int], Kept] = {}
        self._lock = fork_safe(threading.Lock())
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_cut_off(self) -> bool:
        """Whether the servers do not answer: then no new calls are taken."""
        return self._heartbeat.is_cut_off

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if no thread can be started (any more)."""
        thread = threading.Thread(target=self._run, name="recovery-leases", daemon=True)
        start(thread)
        self._thread = thread

    def close(self, timeout: float = 5.0) -> None:
        """Extend no lease any more, and end the thread; wait for it *timeout* seconds at most."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._is_closed = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def keep(
        self,
        lease: str,
        call: str,
        fence: int,
        token: str,
        *,
        is_required: bool = False,
        since: float | None = None,
    ) -> None:
        """Extend the lease of *call* from now on, and look whether it is still held under *fence* and *token*.

        Args:
            lease: What extends it: ``Delivery.lease``.
            call: The id of the call.
            fence: The fence of its claim.
            token: The token of its claim.
            is_required: Whether the call is lost when its lease ends unconfirmed (``cluster="required"``).
            since: When the lease began, by the clock; None for now.

        Raises:
            ClusterError: In a forked child, and after ``close``.
        """
        if os.getpid() != self._pid:
            raise ClusterError(
                "this process was forked from the one that opened the cluster, and has no thread that keeps leases: "
                "open a cluster of its own here"
            )
        confirmed = self.clock() if since is None else since
        kept = Kept(lease, call, fence, token, is_required, confirmed)
        with self._lock:
            if self._is_closed:
                raise ClusterError(f"the cluster is closed: the lease of {call} is not kept")
            self._kept[call, fence] = kept
            if self._loop is not None:  # otherwise the thread begins with it
                self._loop.call_soon_threadsafe(self._heartbeat.begin, kept)

    def drop(self, call: str, fence: int) -> None:
        """Extend the lease of *call* under *fence* no more; nothing if it is not kept."""
        with self._lock:
            kept = self._kept.pop((call, fence), None)
            if kept is not None:
                kept.is_over = True
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._heartbeat.end, kept)

    def confirmed(self, call: str, fence: int) -> float:
        """When the last extension of *call* under *fence* was sent that a server has taken, by the clock.

        Raises:
            LookupError: Its lease is not kept, or is lost.
        """
        with self._lock:
            kept = self._kept[call, fence]
            if kept.is_over:
                raise LookupError(call)
            return kept.confirmed

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("the leases of this process are not kept any more")

    async def _serve(self) -> None:
        connecting = asyncio.create_task(self._stay_connected())
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            if self._is_closed:
                self._stop.set()
            for kept in self._kept.values():
                self._heartbeat.begin(kept)
        try:
            await self._stop.wait()
        finally:
            with self._lock:
                self._loop = None
            connecting.cancel()
            await asyncio.wait([connecting])

    async def _stay_connected(self) -> None:
        while True:
            try:
                async with self._connect() as link:
                    await self._heartbeat.run(link.engine)
            except Exception as error:
                self._heartbeat.cut_off(f"{type(error).__name__}: {error}")
            await asyncio.sleep(RECONNECT)
