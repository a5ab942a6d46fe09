"""``Link``: what is asked of the servers over one connection, with the errors of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from adapters.nats.board import Board
from adapters.nats.engine import Engine
from adapters.nats.errors import ClusterError, NotSentError, TooLargeError, UnreachableError
from recovery.installation import extra

with extra("nats"):
    from nats import errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg

ANSWERED_WITHIN = 5.0
"""Seconds in which a server answers a request; an election takes longer now and then."""


class Link:
    """A connection to the servers of a cluster. Made by ``connect``.

    Args:
        connection: The connection of nats-py.
        prefix: The first token of the cluster's subjects.
        shown: The addresses of the servers, without a password.

    Attributes:
        connection: The connection itself, for other uses of the same servers.
        engine: The calls of the cluster.
        board: What its nodes tell of themselves.
        prefix: The first token of the cluster's subjects.
        refusals: What the servers did not permit to this user, in their words.
        shown: The addresses of the servers, without a password.
    """

    engine: Engine
    board: Board

    def __init__(self, connection: Client, prefix: str, shown: str) -> None:
        self.connection = connection
        self.prefix = prefix
        self.refusals: list[str] = []
        self.shown = shown
        self._came_back: list[Callable[[], None]] = []
        self._is_up = asyncio.Event()

    def __repr__(self) -> str:
        return f"<link to {self.shown}>"

    @property
    def is_connected(self) -> bool:
        """Whether a server is connected now."""
        return self.connection.is_connected

    @contextmanager
    def on_return(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call *tell* each time that the connection has been made again, within the block."""
        self._came_back.append(tell)
        try:
            yield
        finally:
            self._came_back.remove(tell)

    async def ask(
        self, subject: str, data: bytes = b"", headers: dict[str, str] | None = None, within: float = ANSWERED_WITHIN
    ) -> Msg:
        """What the servers answer.

        Raises:
            UnreachableError: No answer came *within* so many seconds. The request may have been carried out.
            TooLargeError: The servers take no message of that size.
        """
        await self._up(within)
        try:
            return await self.connection.request(subject, data, timeout=within, headers=headers)
        except (errors.Error, OSError, TimeoutError) as error:
            raise self.translated(error) from error

    async def tell(self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Send a message, without a word whether it has arrived. Raises as ``ask``."""
        await self._up(ANSWERED_WITHIN)
        try:
            await self.connection.publish(subject, data, reply=reply, headers=headers)
        except (errors.Error, OSError, TimeoutError) as error:
            raise self.translated(error) from error

    async def ask_many(self, subject: str, data: bytes) -> AsyncGenerator[Msg, None]:
        """The answers of the servers, without an end; leave the loop after the last. Raises as ``ask``."""
        inbox, answers = self.connection.new_inbox(), asyncio.Queue[Msg]()
        async with self.subscribed(inbox, answers.put):
            await self.tell(subject, data, reply=inbox)
            while True:
                try:
                    yield answers.get_nowait()
                except asyncio.QueueEmpty:
                    try:
                        yield await asyncio.wait_for(answers.get(), ANSWERED_WITHIN)
                    except TimeoutError as error:
                        raise self.translated(error) from error

    @asynccontextmanager
    async def subscribed(self, subject: str, got: Callable[[Msg], Awaitable[None]]) -> AsyncIterator[None]:
        """Call *got* with each message on *subject*. Raises as ``ask``."""
        try:
            subscription = await self.connection.subscribe(subject, cb=got)
        except (errors.Error, OSError) as error:
            raise self.translated(error) from error
        try:
            yield
        finally:
            with suppress(errors.Error):
                await subscription.unsubscribe()

    def translated(self, error: Exception) -> ClusterError:
        """*error* of the connection as one of ours."""
        match error:
            case errors.MaxPayloadError():
                return TooLargeError(f"{self.shown} takes no message of more than {self.connection.max_payload} bytes")
            case errors.NoRespondersError():
                return NotSentError(
                    f"no server behind {self.shown} decides now: they elect a leader, or JetStream is off"
                )
            case errors.ConnectionClosedError() | errors.ConnectionDrainingError():
                return NotSentError(f"the connection to {self.shown} is closed")
        if not self.is_connected:
            return UnreachableError(
                f"not connected to {self.shown}: {text_of(error)}; it is tried again until it comes back"
            )
        return UnreachableError(f"{self.shown} does not answer: {text_of(error)}")

    async def _up(self, within: float) -> None:
        """Wait for the connection to come back: what is sent meanwhile would be written late."""
        if self.connection.is_connected:
            return
        try:
            async with asyncio.timeout(within):
                while not self.connection.is_connected:
                    if self.connection.is_closed:
                        raise NotSentError(f"the connection to {self.shown} is closed")
                    self._is_up.clear()
                    await self._is_up.wait()
        except TimeoutError as error:
            raise NotSentError(f"not connected to {self.shown}; it is tried again until it comes back") from error

    def returned(self) -> None:
        """The connection has been made again."""
        self._is_up.set()
        for tell in list(self._came_back):
            tell()


def text_of(error: Exception) -> str:
    """What *error* of nats-py says."""
    text = "" if isinstance(error, TimeoutError) else str(error).removeprefix("nats: ")
    return text or "no answer in time"
