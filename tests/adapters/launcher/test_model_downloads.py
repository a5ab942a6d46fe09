"""Downloads of models on real servers: what earlier launchers did wrong."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import httpx2
import pytest

from adapters.demo.server import FileServer, Hosted, Reset
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from recovery import RetryPolicy, Secret
from recovery.policies.backoff import Constant
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, SHA256, Target

pytestmark = pytest.mark.anyio

OTHER = CONTENT[::-1]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # nothing here depends on the loop; the tests of ``download`` run on both


async def test_models_whose_names_differ_in_their_ending_share_no_partial_file(tmp_path: Path) -> None:
    models = {"model.ckpt": CONTENT, "model.safetensors": OTHER}
    hosted = {f"/{name}": Hosted(content, faults=[Reset(0.5)], rate=5e6) for name, content in models.items()}
    policy = RetryPolicy(backoff=Constant(0.1))
    with FileServer(hosted) as server:
        async with (
            Launcher(Recovery(store=MemoryStore()), tmp_path, policy=policy) as launcher,
            anyio.create_task_group() as group,
        ):
            for name, content in models.items():
                sha256 = hashlib.sha256(content).hexdigest()
                group.start_soon(launcher.download, f"{server.url}/{name}", name, sha256)
        # Both break off half-way at about the same time, and go on: neither waits for the other.
        assert [request.start > 0 for request in server.requests] == [False, False, True, True]
    assert {name: (tmp_path / name).read_bytes() for name in models} == models


class Host(ThreadingHTTPServer):
    """A server that answers each request with the next of *statuses*, and with the last one from then on."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.name}/model.bin"


class Handler(BaseHTTPRequestHandler):
    server: Host  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing."""

    def do_GET(self) -> None:
        statuses = self.server.statuses
        self.server.got.append(self.headers.get("Authorization"))
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        body = CONTENT if status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def mirror() -> Iterator[Host]:
    with Host(200) as server:
        yield serving(server)
        server.shutdown()


def serving(server: Host) -> Host:
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Secret:
    monkeypatch.setenv("TOKEN_OF_THE_FIRST", "first")
    return Secret("env:TOKEN_OF_THE_FIRST")


async def download(folder: Path, first: Host, mirror: Host, token: Secret, *answers: str) -> None:
    """Download from *first*, or its *mirror*, with a token for *first* alone; *answers* are given when it asks."""
    launcher = Launcher(Recovery(store=MemoryStore()), folder, tokens={first.name: token})
    calls = launcher.service.calls

    async def answer() -> None:
        for one in answers:
            while not (questions := calls.questions()):
                await anyio.sleep(0.002)
            calls.answer(questions[0].name, one)

    with serving(first), anyio.fail_after(10.0):
        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            try:
                await launcher.download([first.url, mirror.url], "model.bin", SHA256)
            finally:
                first.shutdown()


@pytest.mark.parametrize("status", [404, 410])
async def test_a_missing_file_is_asked_for_once_and_no_mirror_is_tried(
    tmp_path: Path, mirror: Host, token: Secret, status: int
) -> None:
    first = Host(status)
    with pytest.raises(ExceptionGroup) as raised:
        await download(tmp_path, first, mirror, token)
    assert raised.group_contains(httpx2.HTTPStatusError, match=str(status))
    assert (first.got, mirror.got) == (["Bearer first"], [])


async def test_a_refused_token_is_asked_for_and_no_mirror_is_tried(tmp_path: Path, mirror: Host, token: Secret) -> None:
    first = Host(401, 200)
    await download(tmp_path, first, mirror, token, "second")
    assert (first.got, mirror.got) == (["Bearer first", "Bearer second"], [])
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


async def test_a_mirror_gets_no_token_of_the_first_host(tmp_path: Path, mirror: Host, token: Secret) -> None:
    first = Host(503)
    await download(tmp_path, first, mirror, token)
    assert (first.got, mirror.got) == (["Bearer first"], [None])


async def test_a_download_reads_no_other_model_of_its_folder(tmp_path: Path) -> None:
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    models = tmp_path / "models"
    models.mkdir()
    for name in ("other.bin", "other.safetensors"):
        (models / name).touch()
        os.truncate(models / name, 64_000_000)
    with Target(tmp_path) as target:
        before = bytes_read()
        for _ in range(2):
            await target.attempt(sha256=SHA256)
    assert bytes_read() - before < 10_000_000
