"""Small real servers for tests: one program, whose faults are words of the command line."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

import anyio.to_thread

SERVER = """
import os, signal, socket, sys, time
port, *words = sys.argv[1:]
faults = dict(word.partition("=")[::2] for word in words)
with open("starts", "a") as file:
    print(os.getpid(), port, file=file, flush=True)
number = sum(1 for _ in open("starts"))
exec(faults.get("before", ""))
if number <= int(faults.get("crashes", 0)):
    print("it fell over,", number, flush=True)
    sys.exit(int(faults.get("exit", 1)))
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(port)))
server.listen()
while True:
    client = server.accept()[0]
    words = client.recv(65536).split()
    if not words:
        continue
    path = words[1].decode()
    with open("asked", "a") as file:
        print(path, file=file)
    status = open("status").read() if os.path.exists("status") else "200"
    if path == "/code":
        exec(faults["code"])
    client.sendall(f"HTTP/1.1 {status} X\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n".encode())
    client.close()
"""

READY = "http://127.0.0.1:{port}/health"


def small_server(folder: Path, **faults: object) -> list[str]:
    """The command line of a server that notes its starts in *folder*.

    Args:
        folder: Where it runs. It notes the paths of requests in ``asked``, and answers the status in ``status``.
        faults: ``before``: code that it runs before it listens. ``crashes``: how many starts end with exit code
            ``exit``. ``code``: code that a request to ``/code`` runs.
    """
    path = folder / "small_server.py"
    path.write_text(SERVER)
    return [sys.executable, "-I", "-S", str(path), "{port}", *(f"{name}={fault}" for name, fault in faults.items())]


def starts(folder: Path) -> list[tuple[int, int]]:
    """The process ids and ports of the starts."""
    path = folder / "starts"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(port)) for pid, port in map(str.split, lines)]


async def get(url: str) -> int:
    """The status of a GET. Raises OSError if there is no answer."""

    def ask() -> int:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await anyio.to_thread.run_sync(ask)
