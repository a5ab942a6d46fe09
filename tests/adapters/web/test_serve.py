"""``recovery web``: the link of this start admits; its file, which this user alone reads, ends with the command."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli
from adapters.disk import try_lock
from adapters.web.serve import AddressError, Opened, serve
from tests.adapters.web.serving import Served


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_page_of_a_plan_is_served_until_a_signal(tmp_path: Path, how: signal.Signals):
    plan = tmp_path / "launch.toml"
    plan.write_text('[[operation]]\nname = "hello"\nkind = "command"\nrun = ["true"]\n')
    as_json = how == signal.SIGTERM
    command = [sys.executable, "-m", "adapters", "web", str(plan), "--read-only", *(["--json"] if as_json else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        link = msgspec.json.decode(line)["link"] if as_json else line.split()[-1]
        [file] = (tmp_path / ".recovery").rglob("web-*.link")
        assert file.read_text() == f"{link}\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        address = urlsplit(link)
        assert address.port is not None
        served, token = Served(address.port), address.query.removeprefix("token=")
        answer = served.ask(f"/?{address.query}", {})
        assert answer.status == 303
        state = served.ask("/state", {"cookie": answer.headers["set-cookie"].partition(";")[0]}).json()
        assert (state["source"], state["headline"], state["may_change"]) == ("launch.toml", "no journal yet", False)
        with served_stream(served, token):
            process.send_signal(how)
            assert process.wait(10) == 128 + how
        assert not file.exists()


def served_stream(served: Served, token: str) -> socket.socket:
    """A page that stays open."""
    stream = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    stream.sendall(f"GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n".encode())
    assert b"200 OK" in stream.recv(100)
    return stream


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_no_browser_names_needs_a_name(tmp_path: Path, host: str):
    with pytest.raises(AddressError, match="--allowed-host NAME"):
        serve(tmp_path / "calls.db", host=host)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["pc.example:8000", "http://pc.example", "pc.example/", "a b", "b\xfccher.example", ""]
)
def test_an_allowed_host_is_a_name_alone(tmp_path: Path, name: str):
    result = CliRunner().invoke(cli, ["web", str(tmp_path / "calls.db"), "--allowed-host", name])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "an allowed host has no scheme, port or path" in result.output


@pytest.mark.skipif(os.name != "posix", reason="no file is locked there")
@pytest.mark.parametrize("is_killed", [False, True])
def test_links_of_killed_processes_are_removed_and_others_kept(tmp_path: Path, is_killed: bool):
    folder = tmp_path / "calls.db.d"
    folder.mkdir()
    other = folder / "web-1.link"
    other.write_text("http://127.0.0.1:1/?token=x\n")
    with other.open() as file:
        if not is_killed:
            assert try_lock(file.fileno())
        said: list[Opened] = []

        def say(opened: Opened) -> None:
            said.append(opened)
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            serve(tmp_path / "calls.db", say=say)
    assert said[0].link.startswith("http://127.0.0.1:")
    assert os.listdir(folder) == ([] if is_killed else ["web-1.link"])


def test_a_port_that_is_taken_is_an_error_of_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(cli, ["web", str(tmp_path / "calls.db"), "--port", str(port)])
    assert result.exit_code == 2
    assert result.output == (
        f"recovery: cannot listen at 127.0.0.1, port {port}: Address already in use; --port 0 takes a free one\n"
    )
    assert os.listdir(tmp_path) == []


def test_a_wrong_plan_is_an_error_of_one_line(tmp_path: Path):
    plan = tmp_path / "plan.toml"
    plan.write_text("[[operation]]\n")
    result = CliRunner().invoke(cli, ["web", str(plan)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
