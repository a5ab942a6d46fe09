from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.demo.server import FileServer, Hosted
from adapters.downloads.sidecar import Sidecar
from events.codec import decode
from events.event import Event
from events.operation_events import OperationCancelled, OperationResumed
from tests.slow import few

CONTENT = random.Random("killed").randbytes(6_000_000)
DELAY = 2.4
TOUCH = "import pathlib; pathlib.Path('before').open('a').write('x')"

SCRIPT = """
import asyncio, json, sys, time
from adapters.sqlite.store import SQLiteStore
from recovery import context
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery

kind, journal, does_resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
service = Recovery(store=SQLiteStore(journal))
policy = RetryPolicy(backoff=(0.0, DELAY), jitter="none")

def work(scene):
    note = {"attempt": context.attempt(), "key": context.key(), "saved": context.saved(), "at": time.monotonic()}
    print(json.dumps({"scene": scene, **note}), flush=True)
    if context.attempt() < 3:
        context.checkpoint({"frame": context.attempt() * 100})
        raise ConnectionError("no")

if kind == "sync":
    @service.recoverable("render", policy=policy, resumable=True)
    def render(scene):
        work(scene)

    with service:
        service.resume().wait(20) if does_resume else render("tree")
else:
    @service.recoverable("render", policy=policy, resumable=True)
    async def render(scene):
        work(scene)

    async def main():
        async with service:
            await (service.resume() if does_resume else render("tree"))

    asyncio.run(main())
"""


def eventually(is_so: Callable[[], Any], within: float = 20.0) -> None:
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, f"not so within {within} s"
        time.sleep(0.01)


@contextmanager
def child(out: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Python in a process of its own that writes to *out*; killed with SIGKILL at the end, if not before."""
    with out.open("wb") as file:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


# A launch in mid-download


class Launch:
    """A launch of one command and one download that takes three seconds, from a server that records requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosted = Hosted(CONTENT, rate=2e6)
        self.server = FileServer({"/model": self.hosted})
        self.plan = folder / "launch.toml"
        self.destination = folder / "model"
        run = msgspec.json.encode([sys.executable, "-S", "-c", TOUCH]).decode()
        url = f"{self.server.url}/model"
        self.plan.write_text(
            f'[[operation]]\nname = "touch"\nkind = "command"\nrun = {run}\n'
            f'[[operation]]\nname = "model"\nkind = "download"\ndestination = "model"\nurl = "{url}"\n'
        )

    def sidecar(self) -> Sidecar | None:
        path = self.folder / "model.part.json"
        return msgspec.json.decode(path.read_bytes(), type=Sidecar) if path.exists() else None

    def kill_in_mid_download(self) -> int:
        """Run it and kill it; returns how many bytes it knew to be on the disk."""
        with child(self.folder / "first", "-m", "adapters", "run", self.plan, "--json"):
            eventually(lambda: (noted := self.sidecar()) is not None and noted.offset > 0)
        noted = self.sidecar()
        assert noted is not None
        assert not self.destination.exists()
        assert (self.folder / "model.part").stat().st_size < len(CONTENT)
        self.hosted.rate = None
        return noted.offset

    def run_again(self) -> list[Event]:
        """Run it to its end; returns the events it printed."""
        out = self.folder / "second"
        with child(out, "-m", "adapters", "run", self.plan, "--json") as process:
            assert process.wait(20) == 0, out.read_text()
        lines = [line for line in out.read_bytes().splitlines() if line.startswith(b"{")]  # besides warnings
        return [decode(line) for line in lines[:-1]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launch = Launch(tmp_path)
    with launch.server:
        yield launch


def test_a_killed_launch_resumes_its_download_where_it_stopped(launch: Launch) -> None:
    kept = launch.kill_in_mid_download()
    events = launch.run_again()
    assert launch.destination.read_bytes() == CONTENT
    assert [(request.status, request.start) for request in launch.server.requests] == [(200, 0), (206, kept)]
    assert launch.server.requests[1].sent == len(CONTENT) - kept
    assert {event.operation for event in events if isinstance(event, OperationResumed)} == {"launch", "download"}
    assert (launch.folder / "before").read_text() == "x"  # what was done before is not done again
    assert not list(launch.folder.glob("model.part*"))


@pytest.mark.slow
def test_a_step_edited_after_the_kill_starts_over_with_the_bytes_it_had(launch: Launch) -> None:
    kept = launch.kill_in_mid_download()
    launch.plan.write_text(launch.plan.read_text().replace('name = "model"', 'name = "renamed"'))
    events = launch.run_again()
    assert launch.destination.read_bytes() == CONTENT
    assert launch.server.requests[1].start == kept
    assert [event.operation for event in events if isinstance(event, OperationCancelled)] == ["download"]
    assert [event.operation for event in events if isinstance(event, OperationResumed)] == ["launch"]
    assert (launch.folder / "before").read_text() == "x"


# A call between two attempts


class Begun(msgspec.Struct):
    """An attempt, as the script prints it when it begins."""

    scene: str
    attempt: int
    key: str
    saved: dict[str, int] | None
    at: float


def begun(out: Path) -> list[Begun]:
    return [msgspec.json.decode(line, type=Begun) for line in out.read_bytes().splitlines()]


def count(journal: Path, kind: str) -> int:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        [(number,)] = connection.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,))
    return int(number)


@pytest.mark.parametrize("kind", few(["sync", "async"], "async"))
@pytest.mark.slow
def test_a_call_killed_between_two_attempts_makes_the_next_when_due(tmp_path: Path, kind: str) -> None:
    script, journal = tmp_path / "script.py", tmp_path / "journal" / "calls.db"
    script.write_text(SCRIPT.replace("DELAY", str(DELAY)))
    with child(tmp_path / "first", script, kind, journal, "begin"):
        eventually(lambda: len(begun(tmp_path / "first")) == 2)
        eventually(lambda: count(journal, "RetryScheduled") == 2)
        first, second = begun(tmp_path / "first")
        eventually(lambda: time.monotonic() > second.at + 1.8)
    with child(tmp_path / "second", script, kind, journal, "resume") as process:
        assert process.wait(20) == 0, (tmp_path / "second").read_text()
    [third] = begun(tmp_path / "second")
    assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
    assert [one.saved for one in (first, second, third)] == [None, {"frame": 100}, {"frame": 200}]
    assert {one.key for one in (first, second, third)} == {first.key}
    assert third.scene == "tree"
    assert DELAY <= third.at - second.at < DELAY + 1.6  # the whole delay again would end later
    assert count(journal, "OperationRecovered") == 1


# A command that outlives its launcher


def has_open(pid: int, path: Path) -> bool:
    with suppress(FileNotFoundError):  # it closes one at this moment
        return any(os.path.realpath(one) == str(path) for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


ORPHAN = """
import pathlib, time
with open("log", "a") as log:
    print("begin", file=log, flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    print("end", file=log, flush=True)
"""


def test_a_command_that_outlived_its_launcher_is_waited_for(tmp_path: Path) -> None:
    plan, log = tmp_path / "launch.toml", tmp_path / "log"
    run = msgspec.json.encode([sys.executable, "-S", "-c", ORPHAN]).decode()
    plan.write_text(f'[[operation]]\nname = "install"\nkind = "command"\nrun = {run}\n')
    with child(tmp_path / "first", "-m", "adapters", "run", plan):
        eventually(lambda: log.exists() and log.read_text() == "begin\n")
    with child(tmp_path / "second", "-m", "adapters", "run", plan, "--json") as process:
        eventually(lambda: has_open(process.pid, tmp_path / ".recovery" / "logs" / "install.log"))
        time.sleep(0.1)  # long enough for a second one to begin, if it did not wait
        assert log.read_text() == "begin\n"
        (tmp_path / "go").touch()
        assert process.wait(20) == 0
    assert log.read_text() == "begin\nend\n" * 2
