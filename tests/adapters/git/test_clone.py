"""Clones over real servers, good and bad ones: what comes, what each retry changes, and what is never sent."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.git.commands import GitMissingError
from adapters.git.failures import RefMissingError, RepositoryMissingError
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from events.errors import Permanent
from events.operation_events import FailureClassified
from recovery.presets import PATIENT
from recovery.serialization.secret import Secret
from recovery.service import Recovery
from tests.adapters.git.conftest import MakeLauncher, Served
from tests.adapters.git.servers import Fault, GitServer, git, git_daemon
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = pytest.mark.anyio

TRANSFER = "/git-upload-pack"
FULL = b"deepen"
"""What the request for a full history lacks."""


def commands_of(failures: list[Any]) -> list[str]:
    """The commands of the attempts that failed, from ``Command '[...]' returned ...``."""
    return [one.evidence.message.split("returned")[0] for one in failures if one.evidence is not None]


@pytest.mark.parametrize("backend", few(["asyncio", "trio"], "trio"))
def test_the_whole_repository_comes_and_is_checked_out(
    backend: str, served: Served, tmp_path: Path, make_launcher: MakeLauncher
) -> None:
    with GitServer(served.folder) as server:

        async def clone() -> None:
            made = await make_launcher().clone(server.url(), "nodes/plugin")
            assert (made.commit, made.is_shallow) == (served.commits["main"], False)

        anyio.run(clone, backend=backend)
    place = tmp_path / "root/nodes/plugin"
    assert git(place, "status", "--porcelain", "--branch") == "## main...origin/main"
    assert git(place, "rev-list", "--count", "HEAD") == "3"
    assert git(place, "remote", "get-url", "origin") == server.url()
    assert os.listdir(place.parent) == ["plugin"]


@pytest.mark.parametrize(
    ("ref", "depth", "commit", "branch"),
    few(
        [
            ("dev", None, "dev", "dev"),
            ("v1", 1, "first", "HEAD"),
            ("FIRST", None, "first", "HEAD"),
            ("PART", 1, "first", "HEAD"),
        ],
        ("dev", None, "dev", "dev"),
        ("PART", 1, "first", "HEAD"),
    ),
)
async def test_a_branch_a_tag_and_a_commit_can_be_asked_for(
    ref: str, depth: int | None, commit: str, branch: str, served: Served, tmp_path: Path, make_launcher: MakeLauncher
) -> None:
    wanted = {"FIRST": served.commits["first"], "PART": served.commits["first"][:10]}.get(ref, ref)
    with git_daemon(served.folder) as daemon:
        made = await make_launcher().clone(f"{daemon}/plugin", "x", wanted, depth=depth)
    assert made.commit == served.commits[commit]
    assert git(tmp_path / "root/x", "rev-parse", "--abbrev-ref", "HEAD") == branch


async def test_a_commit_that_no_ref_shows_is_fetched(served: Served, make_launcher: MakeLauncher) -> None:
    with GitServer(served.folder) as server:
        made = await make_launcher().clone(server.url(), "x", served.commits["gone"], depth=1)
    assert (made.commit, made.is_shallow) == (served.commits["gone"], True)


async def test_a_commit_that_the_server_does_not_give_is_looked_for_in_all_it_has(
    served: Served, make_launcher: MakeLauncher
) -> None:
    with GitServer(served.folder, protocol=0) as server:
        made = await make_launcher().clone(server.url(), "x", served.commits["first"], depth=1)
        assert made.commit == served.commits["first"]
        with pytest.raises(RefMissingError, match="has no branch, tag or commit"):
            await make_launcher().clone(server.url(), "y", served.commits["gone"])


async def test_a_path_is_cloned_and_its_files_are_not_linked_to(
    served: Served, tmp_path: Path, make_launcher: MakeLauncher
) -> None:
    await make_launcher().clone(str(served.folder / "plugin"), "x")
    assert all(one.stat().st_nlink == 1 for one in (tmp_path / "root/x/.git/objects").rglob("*") if one.is_file())


# what a retry changes


async def test_each_retry_after_a_broken_transfer_is_made_another_way(
    served: Served, tmp_path: Path, make_launcher: MakeLauncher
) -> None:
    launcher = make_launcher()
    failures = events_of(launcher.service, FailureClassified)
    with GitServer(served.folder, Fault(cut=5000, lacks=FULL)) as server:
        made = await launcher.clone(server.url(), "x")
    commands = commands_of(failures)
    assert ["HTTP/1.1" in one for one in commands] == [False, True]
    assert (made.commit, made.is_shallow) == (served.commits["main"], False)  # the third was shallow, and then deepened
    assert git(tmp_path / "root/x", "rev-list", "--count", "HEAD") == "3"
    assert git(tmp_path / "root/x", "config", "remote.origin.fetch") == "+refs/heads/*:refs/remotes/origin/*"


async def test_a_history_that_cannot_be_fetched_leaves_a_shallow_clone_and_a_warning(
    served: Served, make_launcher: MakeLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    faults = (Fault(cut=5000, lacks=FULL), Fault(cut=1000, has=b"deepen-relative"))
    with GitServer(served.folder, *faults) as server:
        made = await make_launcher().clone(server.url(), "x")
    assert (made.commit, made.is_shallow) == (served.commits["main"], True)
    assert "x has its newest commits alone" in caplog.text


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_is_ill_is_left_for_a_mirror_at_once(
    status: int, served: Served, make_launcher: MakeLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = make_launcher(policy=PATIENT)
    failures = events_of(launcher.service, FailureClassified)
    with GitServer(served.folder, Fault("info/refs", status)) as ill, GitServer(served.folder) as good:
        await launcher.clone(ill.url(), "x", mirrors=["http://127.0.0.1:1/plugin", good.url()])
    assert (failures, ill.asked_for(""), good.asked_for("info/refs")) == ([], 1, 1)
    assert f"returned error: {status}); trying http://127.0.0.1:1/plugin" in caplog.text


@pytest.mark.parametrize(("name", "ref"), few([("nix", None), ("old", "dev")], ("old", "dev")))
async def test_what_a_mirror_lacks_is_fetched_once_the_first_server_is_back(
    name: str, ref: str | None, served: Served, make_launcher: MakeLauncher
) -> None:
    if not (served.folder / "old").exists():
        git(served.folder, "clone", "-q", "--bare", "--single-branch", str(served.folder / "plugin"), "old")
    with GitServer(served.folder, Fault("info/refs", 503, times=1)) as ill, GitServer(served.folder) as mirror:
        await make_launcher().clone(ill.url(), "x", ref, mirrors=[mirror.url(name)])
    assert mirror.asked_for("info/refs") == 1


async def test_a_server_that_is_ill_for_a_while_is_asked_again(served: Served, make_launcher: MakeLauncher) -> None:
    faults = (
        Fault("info/refs", 429, {"Retry-After": "1"}, times=1),
        Fault("", 500, times=1),
        Fault("", cut=9, times=1),
    )
    with GitServer(served.folder, *faults) as server:
        await make_launcher().clone(server.url(), "x")
    assert [one.times for one in faults] == [0, 0, 0]


@pytest.mark.slow
async def test_a_silent_server_is_given_up(served: Served, make_launcher: MakeLauncher) -> None:
    with GitServer(served.folder, Fault("info/refs", cut=0, silent=30, times=1)) as server:
        with anyio.fail_after(10):
            await make_launcher(stall_timeout=0.2).clone(server.url(), "x")
    assert server.asked_for("info/refs") == 2


@pytest.mark.slow
async def test_a_silent_server_of_another_protocol_is_given_up(served: Served, make_launcher: MakeLauncher) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=5) as silent:
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        with git_daemon(served.folder) as daemon, anyio.fail_after(10):
            launcher = make_launcher(stall_timeout=0.2)
            await launcher.clone(f"git://127.0.0.1:{port}/plugin", "x", mirrors=[f"{daemon}/plugin"])


# what no retry heals


async def test_a_missing_repository_is_missing_at_once_and_no_mirror_is_asked(
    served: Served, make_launcher: MakeLauncher
) -> None:
    with GitServer(served.folder) as server, GitServer(served.folder) as mirror, git_daemon(served.folder) as daemon:
        for url in (server.url("nix"), f"{daemon}/nix", str(served.folder / "nix")):
            with pytest.raises(
                RepositoryMissingError, match=r"was not found: there is no such repository, or it is priv"
            ):
                await make_launcher().clone(url, "x", mirrors=[mirror.url()])
    assert (server.asked_for(""), mirror.asked_for("")) == (1, 0)


async def test_a_missing_branch_is_named(served: Served, tmp_path: Path, make_launcher: MakeLauncher) -> None:
    with pytest.raises(RefMissingError, match="plugin has no branch, tag or commit 'v9'; choose another ref"):
        await make_launcher().clone(str(served.folder / "plugin"), "x", "v9")
    assert os.listdir(tmp_path / "root") == [".recovery"]


async def test_a_repository_without_commits_is_named(tmp_path: Path, make_launcher: MakeLauncher) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "empty")
    with pytest.raises(RefMissingError, match="empty has no commit yet"):
        await make_launcher().clone(str(tmp_path / "empty"), "x")
    assert os.listdir(tmp_path / "root") == [".recovery"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "--upload-pack=x"}, "begins with -"),
        ({"url": "ext::sh -c x"}, "names a helper program"),
        ({"url": "ssh://-oProxyCommand=x/y"}, "has a host that begins with -"),
        ({"url": "github.com/o/r"}, "is a relative path"),
        ({"url": "ftp://example.org/r"}, "has the scheme ftp"),
        ({"url": "https://me:sesame@example.org/r"}, r"'https://\*\*\*@example.org/r' holds a password or token"),
        ({"mirrors": [f"https://ghp_{'a1B2' * 9}@github.com/o/r"]}, "holds a password or token"),
        ({"url": 5}, "is no text"),
        ({"mirrors": "http://a/b"}, "mirrors must be a list of URLs"),
        ({"ref": "--force"}, "ref must be the name"),
        ({"ref": "a..b"}, "ref must be the name"),
        ({"depth": 0}, "depth must be a number of commits"),
        ({"to": "."}, "is the root itself"),
        ({"to": "../x"}, "outside"),
        ({"to": "x" * 239}, "has a name that is too long: at most 238 bytes"),
    ],
)
async def test_what_git_must_not_be_given_is_refused(
    given: dict[str, Any], said: str, make_launcher: MakeLauncher
) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        await make_launcher().clone(**{"url": "https://example.org/o/r", "to": "x", **given})


# tokens


async def answer(launcher: Launcher, *answers: str) -> list[str]:
    """Give *answers* to the questions that the launcher asks; returns the reasons of the questions."""
    reasons: list[str] = []
    for one in answers:
        while not (questions := launcher.service.calls.questions()):
            await anyio.sleep(0.002)
        reasons.append(f"{questions[0].name}: {questions[0].reason}")
        launcher.service.calls.answer(questions[0].name, one)
    return reasons


async def test_a_token_is_asked_for_until_it_is_right_and_stands_in_no_file(
    served: Served, tmp_path: Path, make_launcher: MakeLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    launcher = make_launcher()
    with GitServer(served.folder, password="sesame-1234") as server, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(launcher.clone, server.url(), "x")
            reasons = await answer(launcher, "wrong-5678", "sesame-1234")
    assert (tmp_path / "root/x/node.py").exists()
    question = f"token:127.0.0.1:{server.port}"
    assert reasons[0].startswith(question)
    assert reasons[1].startswith(f"{question}: the token was refused: fatal: Authentication failed for")
    held = [one.read_bytes() for one in (tmp_path / "root").rglob("*") if one.is_file()]
    for secret in ("sesame-1234", "wrong-5678", server.requests[-1][1].partition(" ")[2]):
        assert not any(secret.encode() in one for one in held)
        assert secret not in caplog.text


async def test_a_token_goes_to_no_mirror_and_to_no_other_address(
    served: Served, make_launcher: MakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_TOKEN", "sesame-1234")
    with GitServer(served.folder) as other, GitServer(served.folder, password="sesame-1234") as first:
        tokens = {f"127.0.0.1:{first.port}": Secret("env:OUR_TOKEN")}
        await make_launcher(tokens=tokens).clone(first.url(), "x")
        first.faults = [Fault("info/refs", 503, times=1)]
        await make_launcher(tokens=tokens).clone(first.url(), "y", mirrors=[other.url()])
        first.faults = [Fault("info/refs", 302, {"Location": f"{other.url()}/info/refs?service=git-upload-pack"})]
        await make_launcher(tokens=tokens).clone(first.url(), "z")
        first.password, other.password = "", "another"
        with pytest.raises(Permanent, match=rf"leads to http://127\.0\.0\.1:{other.port}, which wants a token"):
            await make_launcher(tokens=tokens).clone(first.url(), "q")
    assert {authorization for _, authorization in other.requests} == {""}


async def test_a_refusal_is_asked_about_and_no_mirror_is_tried(served: Served, make_launcher: MakeLauncher) -> None:
    launcher = make_launcher()
    with GitServer(served.folder, Fault("", 403)) as server, GitServer(served.folder) as mirror:
        with anyio.move_on_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(launcher.clone, server.url(), "x", None, [mirror.url()])
                [reason] = await answer(launcher, "sesame-1234")
                while not launcher.service.calls.questions():
                    await anyio.sleep(0.002)
                group.cancel_scope.cancel()
    assert (reason, mirror.requests) == (f"token:127.0.0.1:{server.port}: ", [])


# what of the user's settings is kept out


async def test_no_hook_runs_and_no_variable_leads_to_another_repository(
    served: Served, tmp_path: Path, make_launcher: MakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "template/hooks/post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    await make_launcher().clone(str(served.folder / "plugin"), "x", "v1")
    monkeypatch.undo()
    assert not {one.name for one in tmp_path.iterdir()} & {"ran", "elsewhere", "index"}


async def test_a_git_that_takes_no_settings_from_the_environment_is_refused(
    served: Served, tmp_path: Path, make_launcher: MakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.25.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(GitMissingError, match=r"git is version 2\.25, and 2\.31 or newer is needed: update git"):
        await make_launcher().clone(str(served.folder / "plugin"), "x")


async def test_pointers_of_large_files_are_warned_of(
    tmp_path: Path, make_launcher: MakeLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    git(tmp_path, "init", "--quiet", "large")
    (tmp_path / "large/.gitattributes").write_text("*.bin filter=lfs\n")
    (tmp_path / "large/data.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    git(tmp_path / "large", "add", "-A")
    git(tmp_path / "large", "commit", "--quiet", "-m", "large")
    await make_launcher().clone(str(tmp_path / "large"), "x")
    assert "x: data.bin is a pointer to a large file; install git-lfs" in caplog.text


def test_it_works_from_plain_code(served: Served, tmp_path: Path) -> None:
    with Launcher.blocking(Recovery(store=MemoryStore()), tmp_path) as launcher:
        assert launcher.clone(str(served.folder / "plugin"), "x").commit == served.commits["main"]
