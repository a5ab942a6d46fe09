"""A file server in a process of its own, for figures of downloads: it sends bytes at full speed, or at a given rate.

``GET /<bytes>/<rate>/<name>`` is answered with that many bytes, at *rate* bytes per second (0: as fast as they go).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = bytes(range(256)) * 256


@contextmanager
def file_server() -> Iterator[str]:
    """Serve in another process; yields the server's URL."""
    with subprocess.Popen([sys.executable, "-m", "bench.file_server"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            size, rate = (int(part) for part in head.split(b" ", 2)[1].split(b"/")[1:3])
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "bench-%d"\r\n\r\n' % (size, size))
            await _send(writer, size, rate)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is done
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, size: int, rate: int) -> None:
    clock = asyncio.get_running_loop().time
    began, sent = clock(), 0
    while sent < size:
        piece = PIECE[: size - sent]
        writer.write(piece)
        sent += len(piece)
        await writer.drain()
        if rate and (ahead := sent / rate - (clock() - began)) > 0.002:
            await asyncio.sleep(ahead)


async def _serve() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
