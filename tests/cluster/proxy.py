"""A TCP proxy on the loopback between clients and a server: it cuts, goes silent, heals and delays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

from tests.cluster.servers import free_ports

PIECE = 64 * 1024


class Proxy:
    """Forwards what comes to ``port`` to *target*, both ways; a context manager.

    Args:
        target: The port of the server.
        scheme: How its address begins: "nats" or "tls".

    Attributes:
        port: Where clients connect.
        url: The same as an address.
    """

    def __init__(self, target: int, scheme: str = "nats") -> None:
        self.target = target
        [self.port] = free_ports(1)
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._state: Literal["open", "cut", "silent"] = "open"
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name=f"proxy of {target}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._writers) // 2

    def cut(self, how: Literal["cut", "silent"] = "cut") -> None:
        """Part the clients from the server.

        Args:
            how: "cut" resets every connection, and each new one; "silent" keeps them, accepts new ones, and lets no
                byte through, as a network that drops packets does.
        """
        self._do(lambda: self._set(how))

    def heal(self) -> None:
        """Forward again: silent connections go on with what they held back."""
        self._do(lambda: self._set("open"))

    def delay(self, seconds: float) -> None:
        """Let each byte take *seconds* longer from now on, each way."""
        self._delay = seconds

    def _run(self) -> None:
        self._loop.run_forever()

    def _do(self, change: Callable[[], None]) -> None:
        async def changed() -> None:
            change()

        asyncio.run_coroutine_threadsafe(changed(), self._loop).result(10)

    def _set(self, state: Literal["open", "cut", "silent"]) -> None:
        self._state = state
        self._flows.set() if state == "open" else self._flows.clear()
        if state == "cut":
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self) -> None:
        self._flows.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        self._set("cut")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        self._writers.add(writer)
        beyond: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            answers, beyond = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(beyond)
            await asyncio.gather(self._pump(reader, beyond), self._pump(answers, writer))
        except OSError:  # the server is gone, or the client
            pass
        finally:
            for one in (writer, beyond):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until one side ends the connection; raises ConnectionError then."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

        async def write() -> None:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(due - self._loop.time(), 0.0))
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()

        writing = asyncio.ensure_future(write())
        try:
            while piece := await reader.read(PIECE):
                await pieces.put((self._loop.time() + self._delay, piece))
            raise ConnectionError("ended")
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await writing
