"""What docs/how-to/fastapi.md says of calls that end early, with a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.docs.examples import ROOT

pytestmark = pytest.mark.docs

SERVER = """
import sys
from contextlib import asynccontextmanager
import uvicorn
from fastapi import FastAPI
from adapters.sqlite import SQLiteStore
from recovery import Recovery, context

service = Recovery(store=SQLiteStore("journal.db"), enable_logging=False)

@asynccontextmanager
async def lifespan(app):
    async with service:
        service.resume()
        yield

app = FastAPI(lifespan=lifespan)

def work(name):
    open(f"{name} {context.attempt()}", "w").close()
    if context.attempt() == 1:
        raise ConnectionError("reset")
    return name

waits = service.recoverable("waits", initial_delay=2.5, jitter="none")

@app.get("/async")
@waits
async def in_a_task():
    return work("async")

@app.get("/plain")
@service.recoverable("waits too", resumable=True, initial_delay=2.5, jitter="none")
def in_a_thread():
    return work("plain")

uvicorn.run(app, port=int(sys.argv[1]), timeout_graceful_shutdown=int(sys.argv[2]) or None, log_level="error")
"""


@contextmanager
def serving(folder: Path, *, graceful: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(graceful)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: is_open(port))
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


def is_open(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask_and_go(url: str) -> None:
    """Ask, and close the connection before there is an answer."""
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.get(url, timeout=0.4)


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_call_goes_on_when_its_client_has_gone(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path) as (url, _):
        ask_and_go(f"{url}/{kind}")
        eventually((tmp_path / f"{kind} 2").exists)


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_server_that_is_told_to_end_waits_for_its_calls(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path) as (url, server):
        ask_and_go(f"{url}/{kind}")
        server.send_signal(signal.SIGTERM)
        server.wait(20.0)
        assert (tmp_path / f"{kind} 2").exists()


def end_after_the_graceful_time(folder: Path, kind: str) -> None:
    with serving(folder, graceful=1) as (url, server):
        ask_and_go(f"{url}/{kind}")
        server.send_signal(signal.SIGTERM)
        server.wait(20.0)
    assert [path.name for path in folder.glob(f"{kind} *")] == [f"{kind} 1"]


def test_an_async_call_is_cancelled_after_the_graceful_time(tmp_path: Path) -> None:
    end_after_the_graceful_time(tmp_path, "async")


def test_a_plain_call_is_left_to_the_next_process_after_the_graceful_time(tmp_path: Path) -> None:
    end_after_the_graceful_time(tmp_path, "plain")
    with serving(tmp_path):
        eventually((tmp_path / "plain 2").exists)
