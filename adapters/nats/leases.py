"""The leases of a process: a thread with a connection of its own extends them, whatever the bodies block."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from adapters.nats.engine import Engine
from adapters.nats.errors import ClusterError
from adapters.nats.heartbeat import Callbacks, Heartbeat, Kept, log
from adapters.nats.record import LEASE

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._heartbeat = Heartbeat(lease, Callbacks(on_lost, on_cancel, on_back), clock)
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether the servers do not answer: then no new calls are taken."""
        return self._heartbeat.is_cut_off

    def start(self) -> None:
        """Start the thread."""

    def close(self, timeout: float = 5.0) -> None:
        """End the thread, and wait for it *timeout* seconds at most. No lease is extended any more."""

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

    def drop(self, call: str) -> None:
        """Extend the lease of *call* no more; nothing if it is not kept."""

    def confirmed(self, call: str) -> float:
        """When the last extension of *call* was sent that a server has taken, in monotonic seconds.

        Raises:
            LookupError: Its lease is not kept (any more).
        """
        with self._lock:
            return self._kept[call].confirmed
