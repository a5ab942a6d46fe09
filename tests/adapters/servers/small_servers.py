"""Small real servers for tests: one file, whose faults are words of the command line."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

import anyio.to_thread

SERVER = """
import http.server, os, sys, threading, time
port, *words = sys.argv[1:]
faults = dict(word.partition("=")[::2] for word in words)
with open("starts", "a") as file:
    print(os.getpid(), port, file=file, flush=True)
number = sum(1 for _ in open("starts"))
if "before" in faults:
    exec(faults["before"])
if number <= int(faults.get("crashes", 0)):
    print("Traceback: it fell over", number, flush=True)
    sys.exit(int(faults.get("code", 1)))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(open("status").read()) if os.path.exists("status") else 200
        self.send_response(status)
        self.end_headers()
        if self.path == "/die":
            self.wfile.flush()
            os._exit(int(faults.get("code", 3)))
    def log_message(self, *_): pass

http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def small_server(folder: Path, *faults: str) -> list[str]:
    """The command line of a server that notes its starts in *folder*."""
    path = folder / "small_server.py"
    path.write_text(SERVER)
    return [sys.executable, "-S", str(path), "{port}", *faults]


READY = "http://127.0.0.1:{port}/health"


def starts(folder: Path) -> list[tuple[int, int]]:
    """The process ids and ports of each start."""
    path = folder / "starts"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(port)) for pid, port in map(str.split, lines)]


async def get(url: str) -> int:
    """The status of a GET. Raises OSError if nothing listens."""

    def ask() -> int:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await anyio.to_thread.run_sync(ask)
