"""Updates by the launcher: each change is asked about once; equal updates are one, and a killed one is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from adapters.git.update import ChangesError
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from events.errors import CallRejectedError
from recovery import Constant, RetryPolicy, presets
from tests.adapters.git.repositories import Upstream, commit, git
from tests.adapters.git.servers import Fault, GitServer
from tests.slow import few
from tests.until import wait_until

pytestmark = pytest.mark.anyio

PROGRAM = """
import sys
from adapters.launcher.launcher import Launcher
from adapters.sqlite import SQLiteStore
from recovery import presets

with Launcher.blocking(presets.launcher(store=SQLiteStore(sys.argv[1] + "/journal.db")), sys.argv[1]) as launcher:
    print(launcher.update("here", "main", "stash").commit)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


async def asked(launcher: Launcher, name: str) -> None:
    with anyio.fail_after(10):
        while name not in [one.name for one in launcher.service.calls.questions()]:
            await anyio.sleep(0.005)


@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_an_update_waits_for_an_answer_which_counts_for_these_files_once(upstream: Upstream) -> None:
    (upstream.here / "a.txt").write_text("mine")
    async with Launcher(presets.launcher(store=MemoryStore()), upstream.here.parent) as launcher:
        for text in ("mine", "mine again"):
            (upstream.here / "a.txt").write_text(text)
            async with anyio.create_task_group() as group:
                group.start_soon(launcher.update, "here", "main")
                await asked(launcher, "changes:here")
                (question,) = launcher.service.calls.questions()
                assert "a.txt" in question.text
                assert "stash puts them aside" in question.text
                launcher.service.calls.answer("changes:here", "reset")
            assert not upstream.changes()
            commit(upstream.server, "another", a=text)  # the same file is in the way once more, and asked about


@pytest.mark.slow
async def test_keep_is_an_answer_and_leaves_all_as_it_is(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    (upstream.here / "a.txt").write_text("mine")
    launcher = Launcher(presets.launcher(store=MemoryStore()), upstream.here.parent)
    async with launcher, anyio.create_task_group() as group:
        group.start_soon(launcher.update, "here", "main")
        await asked(launcher, "changes:here")
        launcher.service.calls.answer("changes:here", "keep")
    assert (upstream.at(), upstream.changes()) == (("main", upstream.first), "M a.txt")
    assert "here has local changes (a.txt), and is not updated to main: they are kept" in caplog.text


async def test_an_answer_to_an_earlier_question_is_not_taken(upstream: Upstream) -> None:
    (upstream.here / "a.txt").write_text("mine")
    service = presets.launcher(store=MemoryStore())
    async with Launcher(service, upstream.here.parent, policy=RetryPolicy(max_retries=0)) as launcher:
        service.calls.answer("changes:here", "reset")
        with pytest.raises(ChangesError):
            await launcher.update("here", "main")
    assert (upstream.here / "a.txt").read_text() == "mine"


@pytest.mark.slow
async def test_equal_updates_are_one_and_another_version_is_rejected_meanwhile(upstream: Upstream) -> None:
    (upstream.here / "a.txt").write_text("mine")
    launcher = Launcher(presets.launcher(store=MemoryStore()), upstream.here.parent)
    async with launcher, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(launcher.update, "here", "main")
        await asked(launcher, "changes:here")
        with pytest.raises(CallRejectedError, match="v1"):
            await launcher.update("here", "v1")
        launcher.service.calls.answer("changes:here", "stash")
    assert len(git(upstream.here, "stash", "list").splitlines()) == 1


async def test_what_can_be_no_version_is_refused_before_anything_is_journalled(tmp_path: Path) -> None:
    launcher = Launcher(presets.launcher(store=MemoryStore()), tmp_path)
    for ref, said in (
        ("", "is empty"),
        ("-f", "cannot be there"),
        ("a b", "cannot be there"),
        ("HEAD", "name a branch"),
    ):
        with pytest.raises(InvalidRequestError, match=f"^ref='{ref}' is .*{said}|^ref='' is empty"):
            await launcher.update("here", ref)
    with pytest.raises(ValueError, match="did you mean 'reset'"):
        await launcher.update("here", "main", "rest")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(InvalidRequestError, match="outside the root"):
        await launcher.update("../here", "main")


@pytest.mark.slow
async def test_a_server_that_wants_a_token_is_asked_about(upstream: Upstream) -> None:
    launcher = Launcher(presets.launcher(store=MemoryStore()), upstream.here.parent)
    with GitServer(upstream.here.parent, password="secret-token-1") as server:
        git(upstream.here, "remote", "set-url", "origin", server.url("server"))
        async with launcher, anyio.create_task_group() as group:
            group.start_soon(launcher.update, "here", "main")
            await asked(launcher, f"token:127.0.0.1:{server.port}")
            launcher.service.calls.answer(f"token:127.0.0.1:{server.port}", "secret-token-1")
    assert upstream.at() == ("main", upstream.second)


async def test_a_transfer_that_broke_off_is_tried_again(upstream: Upstream) -> None:
    quick = RetryPolicy(max_retries=2, backoff=Constant(0.0))
    with GitServer(upstream.here.parent, Fault(cut=100, times=1)) as server:
        git(upstream.here, "remote", "set-url", "origin", server.url("server"))
        async with Launcher(presets.launcher(store=MemoryStore()), upstream.here.parent, policy=quick) as launcher:
            assert (await launcher.update("here", "main")).commit == upstream.second


def test_an_update_whose_launcher_was_killed_is_resumed_and_puts_nothing_aside_twice(upstream: Upstream) -> None:
    began = upstream.here.parent / "began"
    (upstream.here / "b.txt").write_text("mine")
    (upstream.here / ".git/info/attributes").write_text("new.txt filter=slow\n")
    git(upstream.here, "config", "filter.slow.smudge", f"touch {began}; sleep 60")
    program = [sys.executable, "-c", PROGRAM, str(upstream.here.parent)]
    with subprocess.Popen(program, stdin=subprocess.DEVNULL) as process:
        wait_until(began.exists)
        os.kill(process.pid, signal.SIGKILL)
    git(upstream.here, "config", "--unset", "filter.slow.smudge")
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == upstream.second
    assert (upstream.at(), upstream.changes()) == (("main", upstream.second), "")
    assert len(git(upstream.here, "stash", "list").splitlines()) == 1
