"""The messages of a ComfyUI server as they come, by its websocket: for progress alone.

A server tells the client id of a prompt, and no other, how it goes on, and forgets the messages of a connection that is
gone. So nothing is decided by what comes here, or does not.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from typing import Literal, TypeAlias
from uuid import uuid4

import anyio
from anyio.abc import ByteStream, SocketAttribute

from adapters.comfyui.address import Address
from adapters.comfyui.http import is_refused, tls_for
from adapters.comfyui.messages import Message, parse
from recovery.installation import extra

with extra("comfyui"):
    from websockets.client import ClientProtocol
    from websockets.frames import Frame, Opcode
    from websockets.uri import parse_uri

MAX_SIZE = 64 * 2**20
"""Bytes of a message: an output may hold a picture as text."""
FIRST_DELAY = 0.1
MAX_DELAY = 2.0
"""Seconds between two connections: doubled from the first, until one has lasted so long."""
IDLE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}
"""When the system looks whether the machine of a silent server is there. The server itself may be busy for minutes."""

FeedState: TypeAlias = Literal["open", "cut", "closed", "refused"]
"""A connection was made; broke off without a close frame (1006), as when the server dies; ended in another way; or
nothing listens. Other failures, as no route or a gateway's 502, are tried again in silence."""

_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # the handshake has the credentials of the URL


class Feed:
    """Listens to one server. Proxies are not used.

    Args:
        url: As ``Client`` takes it.
        timeout: Seconds for a connection, and again for its handshake.

    Attributes:
        client_id: To post prompts with, so that their messages come here. Another one after each connection: a server
            that ends the old connection would forget a new one of the same name. Of a prompt of the old one nothing
            more comes.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._address = Address.of(url)
        self._tls = tls_for(self._address)
        self._seconds = timeout
        self.client_id = uuid4().hex

    async def run(self, on_message: Callable[[Message], None], on_state: Callable[[FeedState], None]) -> None:
        """Connect, again and again, until it is cancelled. What a callback raises ends it."""
        delay = FIRST_DELAY
        while True:
            began = anyio.current_time()
            await self._connect(on_message, on_state)
            if anyio.current_time() - began >= MAX_DELAY:
                delay = FIRST_DELAY
            await anyio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)

    async def _connect(self, on_message: Callable[[Message], None], on_state: Callable[[FeedState], None]) -> None:
        try:
            stream = await self._stream()
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            if is_refused(error):
                on_state("refused")
            return
        try:
            await _Conversation(stream, self._protocol(), on_message, on_state).hold(self._seconds)
        finally:
            self.client_id = uuid4().hex
            await anyio.aclose_forcefully(stream)

    async def _stream(self) -> ByteStream:
        host, port = self._address.host, self._address.port
        with anyio.fail_after(self._seconds):
            if self._tls is None:
                plain = await anyio.connect_tcp(host, port)
                keep_alive(plain.extra(SocketAttribute.raw_socket))
                return plain
            # Without a farewell of TLS: a server that dies says none.
            secure = await anyio.connect_tcp(host, port, ssl_context=self._tls, tls_standard_compatible=False)
            keep_alive(secure.extra(SocketAttribute.raw_socket))
            return secure

    def _protocol(self) -> ClientProtocol:
        # Without compression: a picture is compressed, and the rest is small.
        protocol = ClientProtocol(parse_uri(self._address.websocket(self.client_id)), max_size=MAX_SIZE, logger=_SILENT)
        request = protocol.connect()
        request.headers.update(self._address.headers)
        protocol.send_request(request)
        return protocol


class _Conversation:
    """One connection, from its handshake to its end."""

    def __init__(
        self,
        stream: ByteStream,
        protocol: ClientProtocol,
        on_message: Callable[[Message], None],
        on_state: Callable[[FeedState], None],
    ) -> None:
        self._stream = stream
        self._protocol = protocol
        self._on_message = on_message
        self._on_state = on_state
        self._text: bytearray | None = None  # of a message in several frames, while it is none of bytes

    async def hold(self, handshake: float) -> None:
        is_open = False
        with anyio.CancelScope(deadline=anyio.current_time() + handshake) as limit:
            while await self._exchange():
                for event in self._protocol.events_received():
                    if isinstance(event, Frame):
                        self._take(event)
                    elif self._protocol.handshake_exc is None:  # the answer to the handshake
                        is_open, limit.deadline = True, math.inf
                        self._on_state("open")
        if is_open:
            was_told = self._protocol.close_rcvd is not None or self._protocol.close_sent is not None
            self._on_state("closed" if was_told else "cut")

    async def _exchange(self) -> bool:
        """Send what is due, and receive something. Whether the connection is still there."""
        try:
            for data in self._protocol.data_to_send():
                if data:  # nothing is the end of what is sent: the caller closes
                    await self._stream.send(data)
            if self._protocol.handshake_exc is not None or self._protocol.close_expected():
                return False
            self._protocol.receive_data(await self._stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            return False
        return True

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT:
                self._text = bytearray(frame.data)
            case Opcode.BINARY:  # a preview
                self._text = None
            case Opcode.CONT if self._text is not None:
                self._text += frame.data
            case _:
                return
        if frame.fin and self._text is not None:
            message, self._text = parse(bytes(self._text)), None
            if message is not None:
                self._on_message(message)


def keep_alive(connection: socket.socket) -> None:
    """Let the system find out that the machine at the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in IDLE.items():
        if (option := getattr(socket, name, None)) is not None:  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
