"""``Link``: what is asked of the servers over one connection, with the errors of a cluster."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NoReturn

from adapters.nats.board import Board
from adapters.nats.engine import Engine
from adapters.nats.errors import ClusterError, ForbiddenError, NotSentError, TooLargeError, UnreachableError
from adapters.nats.permissions import roles_of
from events.own_log import own_log
from recovery.installation import extra
from recovery.redact import brief

with extra("nats"):
    from nats import errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg

log = own_log("recovery.cluster")

ANSWERED_WITHIN = 5.0
"""Seconds in which a server answers a request; an election takes longer now and then."""

REFUSAL = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)
"""What the servers say of a subject that this user may not use; nats-py puts it into small letters."""


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
        is_viewer: Whether this user may read alone.
        is_deaf: Whether this user may not listen to answers.
        shown: The addresses of the servers, without a password.
    """

    engine: Engine
    board: Board

    def __init__(self, connection: Client, prefix: str, shown: str) -> None:
        self.connection = connection
        self.prefix = prefix
        self.is_viewer = False
        self.shown = shown
        self._came_back: list[Callable[[], None]] = []
        self._is_up = asyncio.Event()
        self._asked: defaultdict[str, list[asyncio.Timeout]] = defaultdict(list)  # by subject, in small letters
        self.is_deaf = self._has_said = False

    def __repr__(self) -> str:
        return f"<link to {self.shown}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a link has a connection and perhaps a password, and is not pickled: connect in each process")

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
            ForbiddenError: This user may not ask that, or may not listen to the answer.
        """
        await self._up(within)
        if self.is_deaf:
            raise self._deaf()
        waiting = self._asked[subject.lower()]
        waiting.append(refused := asyncio.timeout(None))
        try:
            async with refused:
                return await self.connection.request(subject, data, timeout=within, headers=headers)
        except (errors.Error, OSError, TimeoutError) as error:
            if refused.expired():
                raise (self._deaf() if self.is_deaf else self._forbidden(subject)) from None
            raise self.translated(error) from error
        finally:
            waiting.remove(refused)
            if not waiting:
                self._asked.pop(subject.lower(), None)

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
            case _ if self.is_deaf:
                return self._deaf()
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
        """The connection has been made again: the servers may permit more now."""
        self.is_deaf = self._has_said = False
        self._is_up.set()
        for tell in list(self._came_back):
            tell()

    def refused(self, text: str) -> None:
        """The servers do not permit something to this user: *text* is what they say. What was asked ends with an error.

        The first time that nothing waits for it, it is logged.
        """
        found = REFUSAL.search(text)
        verb, subject = (found[1].lower(), found[2]) if found else ("", text)
        if verb == "subscription" and subject.lower().startswith(f"{self._inbox}.".lower()):
            self.is_deaf = True
        over = list(self._asked.get(subject.lower(), ()))
        if self.is_deaf:
            over = [one for waiting in self._asked.values() for one in waiting]
        for one in over:
            one.reschedule(asyncio.get_running_loop().time())
        if not over and not self._has_said:
            self._has_said = True
            log.warning("%s", self._forbidden(subject, "listen" if verb == "subscription" else "publish"))

    @property
    def _inbox(self) -> str:
        """How the subjects of answers begin."""
        return self.connection.new_inbox().rpartition(".")[0]

    def _deaf(self) -> ForbiddenError:
        return ForbiddenError(
            f"the servers at {self.shown} do not let this user listen to answers that begin with {self._inbox}: pass "
            "the inbox that its permissions name, inbox=... (a command: --inbox NAME)"
        )

    def _forbidden(self, subject: str, verb: str = "publish") -> ForbiddenError:
        roles = roles_of(subject, verb, self.prefix)
        cure = f"it needs the role {' or '.join(roles)}" if roles else "no role of a cluster may"
        return ForbiddenError(f"the servers at {self.shown} do not let this user {verb} to {brief(subject)}: {cure}")


def text_of(error: Exception) -> str:
    """What *error* of nats-py says."""
    text = "" if isinstance(error, TimeoutError) else str(error).removeprefix("nats: ")
    return text or "no answer in time"
