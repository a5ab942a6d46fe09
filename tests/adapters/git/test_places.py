"""What stands where a repository is cloned to: a clone, a husk, leftovers of a killed launcher, a person's files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from adapters.git.clone import MARK, CloneWish, staging_of
from adapters.git.commands import UnusablePlaceError
from adapters.git.destination import OccupiedError
from events.errors import Retryable
from recovery import RetryPolicy
from tests.adapters.git.conftest import MakeLauncher, Served
from tests.adapters.git.servers import Fault, GitServer, git
from tests.slow import few
from tests.until import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root" / "x"


@pytest.fixture
def server(served: Served) -> Iterator[GitServer]:
    with GitServer(served.folder) as server:
        yield server


async def test_what_is_there_already_costs_no_request_and_keeps_what_was_changed(
    served: Served, server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    await make_launcher().clone(server.url(), "x", "main")
    (place / "node.py").write_text("mine")
    before = len(server.requests)
    for ref in ("main", served.commits["main"], served.commits["main"][:8], None):
        assert (await make_launcher().clone(f"{server.url()}.git", "x", ref)).commit == served.commits["main"]
    assert await make_launcher().clone("https://example.org/r", "x", mirrors=[server.url()])
    assert (len(server.requests), (place / "node.py").read_text()) == (before, "mine")


async def test_another_commit_than_the_wished_one_is_named_with_the_way_to_move_it(
    served: Served, server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    await make_launcher().clone(server.url(), "x")
    with pytest.raises(
        OccupiedError, match=rf"x is at {served.commits['main'][:12]}, and not at v1: launcher.update\('x', 'v1'\)"
    ):
        await make_launcher().clone(server.url(), "x", "v1")
    with pytest.raises(
        OccupiedError, match=r"x is a clone of http://.*/plugin, and not of https://example.org/o/r: move it"
    ):
        await make_launcher().clone("https://example.org/o/r", "x")


def folder_of_a_person(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")


def file_of_a_person(place: Path) -> None:
    place.write_text("mine")


def repository_without_commits(place: Path) -> None:
    folder_of_a_person(place)
    git(place, "init", "--quiet")


def repository_of_a_person(place: Path) -> None:
    repository_without_commits(place)
    git(place, "add", "-A")
    git(place, "commit", "--quiet", "-m", "mine")


def staged_files_without_a_commit(place: Path) -> None:
    repository_without_commits(place)
    git(place, "add", "-A")
    (place / "notes.txt").unlink()


def branch_without_files(place: Path) -> None:
    repository_of_a_person(place)
    (place / "notes.txt").unlink()
    (place / ".git/index").unlink()
    git(place, "symbolic-ref", "HEAD", "refs/heads/other")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (folder_of_a_person, "x holds notes.txt, and is no repository: move it away"),
        (file_of_a_person, "x is a file, and no folder"),
        (repository_without_commits, "x has a .git without a commit, beside notes.txt"),
        (repository_of_a_person, "x is a repository of its own, and not of http"),
        (staged_files_without_a_commit, "x has a .git without a commit"),
        (branch_without_files, "x has a .git without a commit, with branches"),
    ],
)
async def test_what_is_a_persons_is_named_and_left_as_it_is(
    make: Any, said: str, server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    make(place)
    before = sorted((str(one), one.read_bytes()) for one in [place, *place.rglob("*")] if one.is_file())
    with pytest.raises(OccupiedError, match=said):
        await make_launcher().clone(server.url(), "x")
    assert before == sorted((str(one), one.read_bytes()) for one in [place, *place.rglob("*")] if one.is_file())
    assert server.requests == []


# husks


def husk(server: GitServer, place: Path) -> None:
    """What SIGKILL leaves of a plain ``git clone`` in mid-transfer."""
    server.faults = [Fault(cut=3000, silent=60)]
    environment = {name: value for name, value in os.environ.items() if name != "GIT_DIR"}
    process = subprocess.Popen(
        ["git", "clone", "-q", server.url(), str(place)], env=environment, start_new_session=True
    )
    wait_until(lambda: list(place.glob(".git/objects/pack/tmp_pack_*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    server.faults = []


async def test_a_husk_of_a_killed_clone_is_healed(
    server: GitServer, place: Path, make_launcher: MakeLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    husk(server, place)
    assert os.listdir(place) == [".git"]
    await make_launcher().clone(server.url(), "x")
    assert git(place, "status", "--porcelain") == ""
    assert "x holds what a killed git clone left, and no commit: it is cloned again" in caplog.text


@contextmanager
def other_git(folder: Path, *words: str) -> Iterator[None]:
    """``git WORDS`` of another program, which runs in *folder* meanwhile."""
    other = subprocess.Popen(["git", *words], cwd=folder, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait(10)


async def test_a_clone_by_another_program_is_not_taken_for_a_husk(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    server.faults = [Fault(cut=3000, silent=60)]
    with other_git(place.parent, "clone", "-q", server.url(), "x"):
        wait_until(lambda: list(place.glob(".git/objects/pack/tmp_pack_*")))
        with pytest.raises(Retryable, match=r"git works on x for another program, process [0-9]+"):
            await make_launcher(policy=RetryPolicy(max_retries=0)).clone(server.url(), "x")


async def test_a_checkout_that_was_killed_is_completed_and_no_file_overwritten(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    git(place.parent, "clone", "-q", "--no-checkout", server.url(), "x")
    (place / ".git/index.lock").touch()
    (place / "node.py").write_text(git(place, "show", "HEAD:node.py") + "\n")
    at_once = RetryPolicy(max_retries=0)
    await make_launcher(policy=at_once).clone(server.url(), "x")
    assert git(place, "status", "--porcelain") == ""
    (place / ".git/recovery-checkout").touch()  # a launcher was killed that was completing it
    (place / "data.bin").unlink()
    await make_launcher(policy=at_once).clone(server.url(), "x")
    assert git(place, "status", "--porcelain") == ""
    (place / ".git/index").unlink()
    (place / "node.py").write_text("mine")
    with pytest.raises(OccupiedError, match=r"x was left half checked out, and differs in node\.py"):
        await make_launcher().clone(server.url(), "x")
    assert (place / "node.py").read_text() == "mine"


# launchers that were killed, and others that work at the same time


def leftover(place: Path, url: str, ref: str | None = None) -> Path:
    """What a launcher leaves that is killed after the transfer for this wish."""
    staging, wish = staging_of(place), CloneWish(place, "x", (url,), ref)
    git(place.parent, "clone", "-q", "--no-checkout", f"--config={MARK}={wish.mark}", url, str(staging))
    return staging


async def test_a_whole_transfer_of_a_killed_launcher_is_not_made_again(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    staging = leftover(place, server.url())
    (staging / ".git/index.lock").touch()
    before = len(server.requests)
    await make_launcher().clone(server.url(), "x")
    assert (len(server.requests), os.listdir(place.parent).count("x")) == (before, 1)
    assert not staging.exists()


async def test_a_broken_transfer_of_a_killed_launcher_is_made_again(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    staging = leftover(place, server.url())
    objects = staging / ".git/objects"
    [pack] = [one.rename(place.parent / "pack") for one in (objects / "pack").glob("*.pack")]
    subprocess.run(["git", "unpack-objects", "-q"], cwd=staging, input=pack.read_bytes(), check=True)
    blob = git(staging, "rev-parse", "HEAD:data.bin")
    (objects / blob[:2] / blob[2:]).unlink()
    await make_launcher().clone(server.url(), "x")
    assert git(place, "fsck") == ""


@pytest.mark.parametrize("change", few(["url", "ref"], "url"))
async def test_what_another_wish_has_left_is_not_taken(
    change: str, served: Served, server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    left = leftover(place, str(served.folder / "plugin") if change == "url" else server.url(), "dev")
    git(left, "commit", "-q", "--allow-empty", "-m", "of another repository")
    assert (await make_launcher().clone(server.url(), "x")).commit == served.commits["main"]
    assert git(place, "config", "--get", "remote.origin.url") == server.url()
    assert MARK.partition(".")[0] not in (place / ".git/config").read_text()


async def test_a_transfer_of_a_launcher_of_another_root_is_not_removed(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    server.faults = [Fault(cut=3000, silent=60)]
    staging = staging_of(place)
    with other_git(place.parent, "clone", "-q", server.url(), str(staging)):
        wait_until(lambda: list(staging.glob(".git/objects/pack/tmp_pack_*")))
        with pytest.raises(Retryable, match=r"git works on x for another program, process [0-9]+"):
            await make_launcher(policy=RetryPolicy(max_retries=0)).clone(server.url(), "x")
        assert staging.exists()


async def test_a_tag_newer_than_a_transfer_that_was_left_is_fetched(
    served: Served, server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    git(leftover(place, server.url(), "v1"), "tag", "--delete", "v1")
    assert (await make_launcher().clone(server.url(), "x", "v1")).commit == served.commits["first"]


async def test_a_path_that_git_cannot_be_bounded_by_is_refused(
    server: GitServer, place: Path, make_launcher: MakeLauncher
) -> None:
    with pytest.raises(UnusablePlaceError, match=r"git is not run in .*; choose a folder without ':' in its path"):
        await make_launcher().clone(server.url(), "a:b/x")


async def test_a_repository_of_another_user_is_no_husk(
    server: GitServer, place: Path, make_launcher: MakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(place.parent, "clone", "-q", "--no-checkout", server.url(), "x")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(OccupiedError, match=r"x belongs to another user, .*: git config --global --add safe.directory"):
        await make_launcher().clone(server.url(), "x")
    assert (place / ".git/HEAD").exists()


async def test_two_launchers_clone_once(server: GitServer, place: Path, make_launcher: MakeLauncher) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(make_launcher().clone, server.url(), "x")
    assert server.asked_for("info/refs") == 1


LAUNCHER = """
import sys, anyio
from adapters.launcher.launcher import Launcher
from adapters.sqlite import SQLiteStore
from recovery.service import Recovery
async def main():
    async with Launcher(Recovery(store=SQLiteStore(sys.argv[1] + "/journal.db")), sys.argv[1]) as launcher:
        if len(sys.argv) > 2:
            await launcher.clone(sys.argv[2], "x")
        else:
            await launcher.resume()
anyio.run(main)
"""


@contextmanager
def launcher(place: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(place.parent), *words])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def gits_of(place: Path) -> list[psutil.Process]:
    return [
        one for one in psutil.process_iter(["cmdline"]) if str(staging_of(place)) in " ".join(one.info["cmdline"] or ())
    ]


async def test_a_launcher_killed_in_mid_clone_is_gone_on_with_without_a_person(server: GitServer, place: Path) -> None:
    server.faults = [Fault(rate=20_000)]
    with launcher(place, server.url()):
        wait_until(lambda: list(staging_of(place).glob(".git/objects/pack/tmp_pack_*")))
    orphans = gits_of(place)
    assert orphans
    server.faults = []
    with launcher(place) as second:
        assert second.wait(30) == 0
    assert not [one for one in orphans if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert git(place, "status", "--porcelain", "--branch") == "## main...origin/main"
    assert [one for one in os.listdir(place.parent) if "cloning" in one] == []
