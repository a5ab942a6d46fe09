"""Updates that were killed are finished by the next one; locks are removed once their owner is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from adapters.git.calls import Calls
from adapters.git.destination import Repository
from adapters.git.locks import LockedError, free_locks
from adapters.git.update import ChangesError, LocalChanges, UpdateWish, update
from adapters.processes.identity import is_alive
from tests.adapters.git.repositories import Upstream, commit, git
from tests.until import wait_until

pytestmark = pytest.mark.anyio

PROGRAM = """
import sys
from pathlib import Path
import anyio
from adapters.git.calls import Calls
from adapters.git.update import UpdateWish, update

async def main():
    place = Path(sys.argv[1])
    await update(UpdateWish("here", sys.argv[2]), Calls("plug-in", place, place.parent / "logs"))

anyio.run(main)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


@contextmanager
def updating(upstream: Upstream, ref: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that updates the clone to *ref*. It and its processes are killed in the end."""
    program = [sys.executable, "-c", PROGRAM, str(upstream.here), ref]
    with subprocess.Popen(program, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
            wait_until(lambda: not kill_gits(upstream))


def kill_gits(upstream: Upstream) -> bool:
    """Kill what runs in the clone. Returns whether anything did: it may have started something in that moment."""
    found = gits_in(upstream)
    for one in found:
        with suppress(psutil.Error):  # it is over
            one.kill()
    return bool(found)


def gits_in(upstream: Upstream) -> list[psutil.Process]:
    found = psutil.process_iter(["cwd", "name"])
    return [
        one for one in found if one.info["cwd"] == str(upstream.here) and one.info["name"] in ("git", "sh", "sleep")
    ]


async def to(upstream: Upstream, ref: str, on_local_changes: LocalChanges = "ask") -> Repository:
    calls = Calls("plug-in", upstream.here, upstream.here.parent / "logs")
    return await update(UpdateWish("here", ref, on_local_changes), calls)


@pytest.fixture
def half(upstream: Upstream) -> Upstream:
    """The clone after ``kill -9`` of its update, and of git, in mid-checkout."""
    began = upstream.here.parent / "began"
    (upstream.here / ".git/info/attributes").write_text("new.txt filter=slow\n")
    git(upstream.here, "config", "filter.slow.smudge", f"touch {began}; sleep 60")
    with updating(upstream, upstream.second):
        wait_until(began.exists)
    git(upstream.here, "config", "--unset", "filter.slow.smudge")
    assert (upstream.here / ".git/index.lock").exists()
    assert (upstream.here / "a.txt").read_text() == "two"
    return upstream


async def test_a_checkout_that_was_killed_is_finished_and_is_no_change_of_a_person(half: Upstream) -> None:
    assert (await to(half, half.second)).commit == half.second
    assert (half.at(), half.changes()) == (("", half.second), "")
    assert (half.here / "new.txt").read_text() == "two"
    assert not list((half.here / ".git").rglob("*.lock"))


async def test_what_a_person_changed_meanwhile_is_not_lost(half: Upstream) -> None:
    for name in ("a", "b", "new"):
        (half.here / f"{name}.txt").write_text("mine")
    with pytest.raises(ChangesError) as caught:
        await to(half, half.second)
    assert caught.value.items == ("a.txt", "b.txt", "new.txt")
    await to(half, half.second, "stash")
    assert (half.at(), half.changes()) == (("", half.second), "")
    git(half.here, "checkout", "--quiet", half.first)
    for name, stashed in (("a", "stash@{0}"), ("b", "stash@{0}"), ("new", "stash@{0}^3")):
        assert git(half.here, "show", f"{stashed}:{name}.txt") == "mine"


@pytest.mark.slow
async def test_a_file_that_was_written_in_part_is_no_change_of_a_person(half: Upstream) -> None:
    (half.here / "a.txt").write_text("tw")
    (half.here / "new.txt").write_text("")
    await to(half, half.second)
    assert (half.at(), half.changes()) == (("", half.second), "")


@pytest.mark.slow
async def test_a_killed_update_is_finished_before_another_version_is_taken(half: Upstream) -> None:
    third = commit(half.server, "third", a="three")
    assert (await to(half, "main")).commit == third
    assert half.changes() == ""


@pytest.mark.slow
async def test_a_person_may_have_gone_on_with_a_killed_checkout(half: Upstream) -> None:
    (half.here / ".git/index.lock").unlink()
    git(half.here, "checkout", "--quiet", "--force", "-b", "mine", half.first)
    mine = commit(half.here, "mine", b="mine")
    await to(half, mine)
    assert half.at() == ("mine", mine)
    assert not list((half.here / ".git").glob("recovery-*"))


async def test_git_that_a_killed_launcher_left_is_ended_and_its_fetch_done_again(tmp_path: Path) -> None:
    upstream, began, stuck = Upstream(tmp_path), tmp_path / "began", tmp_path / "stuck"
    big = commit(upstream.server, "big", big=os.urandom(30_000).hex())
    stuck.write_text(f'#!/bin/sh\ngit upload-pack "$@" | (dd bs=1 count=20000; touch {began}; sleep 60) 2>/dev/null\n')
    stuck.chmod(0o755)
    git(upstream.here, "config", "remote.origin.uploadpack", str(stuck))
    git(upstream.here, "config", "fetch.unpackLimit", "1")
    with updating(upstream, big) as launcher:
        wait_until(began.exists)
        launcher.kill()
        orphans = [one for one in gits_in(upstream) if one.name() == "git"]
        assert orphans
        git(upstream.here, "config", "--unset", "remote.origin.uploadpack")
        (upstream.here / ".git/shallow.lock").touch()
        assert (await to(upstream, big)).commit == big
        assert not any(map(is_alive, orphans))


# locks


async def free(upstream: Upstream, *, before: float | None = None, wait: float = 0.0) -> None:
    git_dir = upstream.here / ".git"
    before = time.time() + 1 if before is None else before
    await free_locks("plug-in", upstream.here, git_dir, git_dir, before=before, wait=wait)


@pytest.fixture
def locks(upstream: Upstream) -> list[Path]:
    names = ("index.lock", "HEAD.lock", "shallow.lock", "config.lock", "packed-refs.lock", "refs/heads/x/y.lock")
    made = [upstream.here / ".git" / name for name in names]
    made[-1].parent.mkdir()
    for one in made:
        one.touch()
    return made


async def test_locks_without_an_owner_are_removed(upstream: Upstream, locks: list[Path]) -> None:
    await free(upstream)
    assert not any(one.exists() for one in locks)


async def test_a_lock_stays_while_git_works_in_the_repository(upstream: Upstream, locks: list[Path]) -> None:
    with subprocess.Popen(["git", "cat-file", "--batch"], cwd=upstream.here, stdin=subprocess.PIPE) as other:
        with pytest.raises(LockedError, match=rf"(?s)another git process.*index.lock is there and process {other.pid}"):
            await free(upstream, wait=0.1)
        assert other.stdin is not None
        other.stdin.close()
    assert all(one.exists() for one in locks)
    await free(upstream)


@pytest.mark.slow
async def test_git_in_a_repository_below_is_no_owner_and_one_named_by_a_path_is(
    upstream: Upstream, locks: list[Path]
) -> None:
    inner = upstream.here / "inner"
    git(upstream.here, "init", "--quiet", "inner")
    batch = ["cat-file", "--batch"]
    named = ["git", f"--git-dir={upstream.here / '.git'}", *batch]
    with subprocess.Popen(named, cwd="/", stdin=subprocess.PIPE) as other:
        with pytest.raises(LockedError, match=f"process {other.pid}"):
            await free(upstream)
        other.kill()
    with subprocess.Popen(["git", *batch], cwd=inner, stdin=subprocess.PIPE) as other:
        await free(upstream)
        other.kill()
    assert not locks[0].exists()


async def test_a_lock_that_any_program_has_open_or_that_is_new_stays(upstream: Upstream, locks: list[Path]) -> None:
    with pytest.raises(LockedError, match="is new, although no process of git is seen"):
        await free(upstream, before=time.time() - 60)
    held = f"import time; file = open({str(locks[0])!r}); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-S", "-c", held], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(LockedError, match=f"process {other.pid}.* has .*index.lock open"):
            await free(upstream)
        other.send_signal(signal.SIGKILL)
    assert locks[0].exists()
