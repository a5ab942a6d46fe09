"""The practice server fails in the same way each time, and says what it answers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli
from adapters.demo.git_server import git
from adapters.demo.practice import TOKEN, PracticeServer


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def server(tmp_path: Path, said: list[str]) -> Iterator[PracticeServer]:
    with PracticeServer(tmp_path / "served", 0, said.append) as server:
        yield server


def test_flaky_and_busy_begin_again_after_the_last_answer(server: PracticeServer):
    assert [httpx2.get(f"{server.url}/flaky").status_code for _ in range(6)] == [503, 503, 200] * 2
    busy = [httpx2.get(f"{server.url}/busy") for _ in range(4)]
    assert [one.status_code for one in busy] == [429, 200] * 2
    assert busy[0].headers["Retry-After"] == "1"


def test_a_model_breaks_off_from_the_start_and_is_served_in_ranges(server: PracticeServer):
    for _ in range(2):
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{server.url}/model.safetensors")
    rest = httpx2.get(f"{server.url}/model.safetensors", headers={"Range": "bytes=1000000-"})
    assert rest.status_code == 206


def test_a_reset_comes_when_half_of_the_model_has_arrived(server: PracticeServer):
    for _ in range(5):
        got = 0
        with httpx2.stream("GET", f"{server.url}/model.safetensors") as answer, pytest.raises(httpx2.TransportError):
            for piece in answer.iter_raw():
                got += len(piece)
        assert got >= 1_000_000


def test_a_private_file_wants_its_token(server: PracticeServer):
    url = f"{server.url}/private.safetensors"
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_repository_can_be_cloned(server: PracticeServer, tmp_path: Path, said: list[str]):
    git(tmp_path, "clone", "--quiet", f"{server.url}/app.git", "app")
    assert (tmp_path / "app/app.py").exists()
    assert said[0] == "GET /app.git/info/refs?service=git-upload-pack 200"


def test_an_index_says_how_large_its_package_is(server: PracticeServer):
    [path] = re.findall(r'href="(.+?)#', httpx2.get(f"{server.url}/simple/brush/").text)
    size = httpx2.head(f"{server.url}{path}").headers["Content-Length"]
    assert int(size) == len(httpx2.get(f"{server.url}{path}").content)
    assert httpx2.head(f"{server.url}/simple/pencil/").status_code == 404


def test_a_port_that_is_taken_is_named_with_the_command_that_takes_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = CliRunner().invoke(cli, ["demo", "--serve", "--port", str(port)])
    other = f"take another one (`recovery demo --serve --port {port + 1}`), and write it in the programs, too"
    told = f"recovery: cannot listen at port {port}: Address already in use; {other}"
    assert (said.exit_code, " ".join(said.stderr.split())) == (2, told)
