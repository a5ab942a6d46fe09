"""A call of a cluster, as the program sees it that submitted it, or that knows its id."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import msgspec

from adapters.nats.board import Board
from adapters.nats.engine import AGAIN, Engine, answered, sought
from adapters.nats.errors import ChangeRefusedError, ClusterError, RemoteCallError, UnreachableError
from adapters.nats.record import CallRecord
from adapters.nats.status import next_in_cluster, state_of
from adapters.nats.steering import cancel, gone, is_abandoned
from recovery.redact import brief, redact

R = TypeVar("R")

READ_EVERY = 5.0
"""Seconds after which a handle reads again: a change may have been missed."""


class HandleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call of a cluster stands. Times are seconds since the epoch by the servers' clock.

    Args:
        call: Its id.
        state: "queued", "running", "waiting", "paused", "quarantined", "succeeded", "gave up" or "cancelled".
        node: The node that runs it, or ran it last; "" for none.
        attempt: The number of the attempt that runs or comes next.
        retries: Retries used up, on all nodes.
        due: When its next attempt may begin; None for now, or never.
        why: What happens next with it, in words: "waits for gpu-a, last seen 14:02:11".
        is_over: Whether it has ended.
    """

    call: str
    state: str
    node: str
    attempt: int
    retries: int
    due: float | None
    why: str
    is_over: bool


class Handle:
    """A call of a cluster. It may run on any machine, and outlives this process. Made by ``Cluster``.

    Args:
        call: Its id.
        engine: The servers.
        board: What the nodes tell of themselves.
        decode: Makes the result of its bytes.
        timeout: Seconds for which servers are asked that do not answer.
        is_open: Whether the cluster is still open there.
    """

    def __init__(
        self,
        call: str,
        engine: Engine,
        board: Board,
        decode: Callable[[bytes], Any],
        timeout: float,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self._call, self._engine, self._board, self._decode, self._timeout = call, engine, board, decode, timeout
        self._is_open = is_open

    def __repr__(self) -> str:
        return f"<Handle {self._call}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Handle has a connection, and is not pickled: pass handle.call, and use cluster.handle(call)")

    @property
    def call(self) -> str:
        """The id of the call, for ``Cluster.handle`` and for ``recovery why``."""
        return self._call

    async def result(self, timeout: float | None = None) -> Any:
        """What the call returns, when it has ended. While no server answers, it waits until one does.

        Args:
            timeout: Seconds to wait at most; None for no end. The call goes on after that.

        Raises:
            RemoteCallError: It gave up, or was cancelled.
            TimeoutError: It has not ended in time; the message says where it stands.
            UnknownCallError: Its record is gone.
            ValueError: Its result does not fit the function of this program.
            ClusterError: The cluster was closed here: the call goes on without this program.
        """
        record: list[CallRecord] = []
        try:
            async with asyncio.timeout(timeout):
                ended = await self._ended(record)
                data = await self._answered(lambda: self._result(ended), math.inf)
        except TimeoutError:
            stands = f"it is {state_of(record[-1])}" if record else "no server has told of it"
            raise TimeoutError(f"{self._call} has not ended within {timeout:g} s: {stands}") from None
        if ended.state != "succeeded":
            kind, text = ended.error
            error = brief(kind), redact(text)
            raise RemoteCallError(self._call, ended.state, redact(ended.reason), error, ended.node)
        if data is None:
            raise gone(self._call)
        return self._decode(data)

    async def status(self) -> HandleStatus:
        """Where the call stands now.

        Raises:
            UnknownCallError: Its record is gone.
            UnreachableError: No server answers.
        """
        record = await self._answered(self._read)
        now = await self._answered(self._engine.now)
        nodes = {one.node: one for one in await self._answered(self._board.nodes)}
        return HandleStatus(
            call=self._call,
            state=state_of(record),
            node=record.node,
            attempt=record.standing.attempt,
            retries=record.standing.retries,
            due=record.due,
            why=next_in_cluster(record, nodes, now).text,
            is_over=record.is_over,
        )

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the call: at once where no node runs it, or that node is gone, otherwise as soon as its node sees it.

        Returns whether it was not over: it may still succeed before its node sees it.

        Raises:
            UnknownCallError: Its record is gone.
            UnreachableError: No server answers.
        """
        try:
            await self._answered(lambda: cancel(self._engine, self._board, self._call, redact(reason)))
        except ChangeRefusedError:
            return False
        return True

    async def _ended(self, seen: list[CallRecord]) -> CallRecord:
        while True:
            self._check_open()
            try:
                async with self._engine.watch(self._call) as changes:
                    while not (record := await self._read()).is_over:
                        seen[:] = [record]
                        if record.cancel is not None and await is_abandoned(self._engine, self._board, record):
                            with suppress(ChangeRefusedError):  # it has ended since
                                await cancel(self._engine, self._board, self._call, record.cancel)
                            continue
                        await changes.next(READ_EVERY)
                    return record
            except UnreachableError:
                await asyncio.sleep(AGAIN)

    async def _result(self, ended: CallRecord) -> bytes | None:
        if ended.state != "succeeded":
            return None
        return await sought(lambda: self._engine.payload(self._call, "result"))

    def _check_open(self) -> None:
        if not self._is_open():
            raise ClusterError(f"{self._call}: the cluster is closed here, so what becomes of the call is not seen")

    async def _read(self) -> CallRecord:
        self._check_open()
        stored = await sought(lambda: self._engine.read(self._call))
        if stored is None:
            raise gone(self._call)
        return stored.record

    async def _answered(self, ask: Callable[[], Awaitable[R]], timeout: float | None = None) -> R:
        async def asked() -> R:
            self._check_open()
            return await ask()

        return await answered(asked, self._timeout if timeout is None else timeout)
