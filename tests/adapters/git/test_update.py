"""Updates of repositories: what is missing is fetched, and what a person has changed is not lost."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.git.calls import Calls
from adapters.git.commands import alone_in
from adapters.git.destination import Repository
from adapters.git.failures import RepositoryMissingError
from adapters.git.repository import RepositoryError
from adapters.git.update import Answered, ChangesError, UpdateWish, update
from tests.adapters.git.repositories import Upstream, commit, git
from tests.slow import few

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the launcher's tests have both


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    Upstream(folder)
    return folder


@pytest.fixture
def upstream(made: Path, tmp_path: Path) -> Upstream:
    """A copy of the module's repositories, whose clone has the copy as its origin."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    found = Upstream.__new__(Upstream)
    found.server, found.here = tmp_path / "server", tmp_path / "here"
    found.first, found.second = git(found.server, "rev-parse", "v1"), git(found.server, "rev-parse", "main")
    git(found.here, "remote", "set-url", "origin", found.server.as_uri())
    return found


async def to(upstream: Upstream, ref: str, **options: Any) -> Repository:
    return await update(UpdateWish("here", ref, **options), calls_in(upstream.here))


def calls_in(place: Path) -> Calls:
    name = "plug-in" if place.name == "here" else place.name
    return Calls(name, place, place.parent / "logs")


async def test_a_branch_moves_forward_with_the_server(upstream: Upstream) -> None:
    assert await to(upstream, "main") == Repository("here", upstream.second)
    assert upstream.at() == ("main", upstream.second)
    assert (upstream.changes(), (upstream.here / "a.txt").read_text()) == ("", "two")


async def test_a_new_branch_is_checked_out_and_follows_the_server(upstream: Upstream) -> None:
    git(upstream.server, "checkout", "--quiet", "-b", "dev")
    newest = commit(upstream.server, "third", c="three")
    await to(upstream, "dev")
    assert upstream.at() == ("dev", newest)
    assert git(upstream.here, "rev-parse", "--abbrev-ref", "dev@{upstream}") == "origin/dev"


async def test_head_is_detached_at_a_tag_and_a_branch_can_be_taken_again(upstream: Upstream) -> None:
    git(upstream.server, "tag", "--annotate", "v2", "--message", "two")
    await to(upstream, "v2")
    assert upstream.at() == ("", upstream.second)
    await to(upstream, "v1")
    assert upstream.at() == ("", upstream.first)
    await to(upstream, "main")
    assert upstream.at() == ("main", upstream.second)


@pytest.mark.slow
async def test_a_branch_counts_before_a_tag_of_its_name(upstream: Upstream) -> None:
    git(upstream.server, "tag", "main", "v1")
    await to(upstream, "main")
    assert upstream.at() == ("main", upstream.second)


async def test_a_hash_that_is_checked_out_needs_no_server_and_a_branch_does(upstream: Upstream) -> None:
    git(upstream.here, "remote", "set-url", "origin", "/nowhere")
    assert (await to(upstream, upstream.first)).commit == upstream.first
    with pytest.raises(RepositoryMissingError, match=r"^/nowhere was not found"):
        await to(upstream, "main")


@pytest.mark.parametrize("protocol", few(["0", "2"], "2"))
async def test_a_commit_that_no_branch_leads_to_is_fetched_by_itself(upstream: Upstream, protocol: str) -> None:
    hidden = commit(upstream.server, "hidden", c="three")
    git(upstream.server, "reset", "--quiet", "--hard", "HEAD~1")
    git(upstream.server, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(upstream.here, "config", "protocol.version", protocol)
    await to(upstream, hidden)
    assert upstream.at() == ("", hidden)


async def test_a_commit_that_the_server_does_not_give_alone_comes_with_the_branches(upstream: Upstream) -> None:
    commit(upstream.server, "third", c="three")
    git(upstream.here, "config", "protocol.version", "0")  # of which a server gives the ends of branches alone
    await to(upstream, upstream.second)
    assert upstream.at() == ("", upstream.second)


@pytest.mark.parametrize("ref", few(["full", "short"], "full"))
async def test_a_commit_of_the_past_reaches_a_shallow_clone(tmp_path: Path, ref: str) -> None:
    upstream = Upstream(tmp_path)
    shutil.rmtree(upstream.here)
    git(tmp_path, "clone", "--quiet", "--depth=1", upstream.server.as_uri(), "here")
    git(upstream.here, "config", "protocol.version", "0")
    commit(upstream.server, "third", c="three")
    await to(upstream, "main")
    assert git(upstream.here, "rev-parse", "--is-shallow-repository") == "true"  # it has not fetched the past
    assert not upstream.changes()
    git(upstream.server, "tag", "--delete", "v1")
    await to(upstream, upstream.first if ref == "full" else upstream.first[:9])
    assert upstream.at() == ("", upstream.first)


async def test_what_is_nowhere_is_named_with_where_it_was_looked_for(upstream: Upstream) -> None:
    for ref in ("v9", "deadbeef", "d" * 40):
        with pytest.raises(
            RepositoryError, match=rf"plug-in cannot be updated: origin \(file.*/server\) has no .*{ref}"
        ):
            await to(upstream, ref)


# what a person has changed


def edit(upstream: Upstream, name: str = "a", text: str = "mine") -> Path:
    path = upstream.here / f"{name}.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name", few(["a", "b", "new"], "b", "new")
)  # in the way, not in the way, not tracked and in the way
async def test_local_changes_are_asked_about_and_nothing_is_touched(upstream: Upstream, name: str) -> None:
    path = edit(upstream, name)
    with pytest.raises(ChangesError, match=rf"^plug-in has .*\({name}.txt\), so it was not updated to main") as caught:
        await to(upstream, "main")
    assert (caught.value.items, path.read_text()) == ((f"{name}.txt",), "mine")
    assert upstream.at() == ("main", upstream.first)
    assert caught.value.remedy is not None
    assert caught.value.remedy.question == "changes:plug-in"
    assert caught.value.remedy.choices == ("stash", "reset", "keep")


async def test_files_that_are_not_in_the_way_of_git_are_not_asked_about(upstream: Upstream) -> None:
    mine, ignored = edit(upstream, "mine"), edit(upstream, "ignored")
    (upstream.here / ".git/info/exclude").write_text("ignored.txt\n")
    edit(upstream)
    await to(upstream, "main", on_local_changes="stash")
    assert (mine.read_text(), ignored.read_text(), upstream.at()) == ("mine", "mine", ("main", upstream.second))


@pytest.mark.parametrize("how", few(["ignored", "unchanged", "skipped"], "ignored", "unchanged"))
async def test_a_file_that_git_does_not_show_is_asked_about_and_put_aside(upstream: Upstream, how: str) -> None:
    path = edit(upstream, "new" if how == "ignored" else "a")
    if how == "ignored":
        (upstream.here / ".git/info/exclude").write_text("new.txt\n")
    else:
        option = "--assume-unchanged" if how == "unchanged" else "--skip-worktree"
        git(upstream.here, "update-index", option, path.name)
    with pytest.raises(ChangesError, match=rf"has files that would be overwritten \({path.name}\)"):
        await to(upstream, "main")
    assert path.read_text() == "mine"
    await to(upstream, "main", on_local_changes="stash")
    assert (upstream.at(), path.read_text()) == (("main", upstream.second), "two")
    assert git(upstream.here, "show", f"stash@{{0}}{'^3' if how == 'ignored' else ''}:{path.name}") == "mine"


async def test_a_repository_of_a_person_in_the_way_is_never_removed(upstream: Upstream) -> None:
    shutil.copytree(upstream.server, inner := upstream.here / "new.txt")
    for choice in ("stash", "reset"):
        with pytest.raises(RepositoryError, match=r"the repository .*new\.txt is in the way; move it away"):
            await to(upstream, "main", on_local_changes=choice)
    assert git(inner, "rev-parse", "HEAD") == upstream.second


async def test_a_file_whose_name_is_redacted_and_one_that_is_to_be_added_are_put_aside(upstream: Upstream) -> None:
    path = upstream.server / "token=abcdefgh12345.txt"
    path.write_text("two")
    new = commit(upstream.server, "third")
    mine, added = upstream.here / path.name, edit(upstream, "added")
    mine.write_text("mine")
    git(upstream.here, "add", "--intent-to-add", added.name)
    await to(upstream, "main", on_local_changes="stash")
    assert (upstream.at(), mine.read_text(), added.read_text()) == (("main", new), "two", "mine")


async def test_an_answer_drops_no_file_that_the_question_did_not_name(upstream: Upstream) -> None:
    edit(upstream)
    new = edit(upstream, "new")
    with pytest.raises(ChangesError, match=r"has files that would be overwritten \(new\.txt\)"):
        await to(upstream, "main", answered=Answered("reset", ["a.txt"]))
    assert new.read_text() == "mine"


@pytest.mark.parametrize("choice", few(["ask", "stash"], "stash"))
async def test_commits_that_no_branch_has_are_not_left_behind(upstream: Upstream, choice: str) -> None:
    git(upstream.server, "update-ref", "refs/pull/1/head", commit(upstream.server, "of a pull", b="pull"))
    await to(upstream, pull := git(upstream.server, "rev-parse", "refs/pull/1/head"))
    await to(upstream, "v1")  # what was fetched by its hash is no commit made here
    await to(upstream, pull)
    mine = commit(upstream.here, "mine", b="mine")
    if choice == "ask":
        with pytest.raises(ChangesError, match=r"has commits that no branch has \(\w+ mine\)"):
            await to(upstream, "v1")
        assert upstream.at() == ("", mine)
    else:
        await to(upstream, "v1", on_local_changes="stash")
        assert git(upstream.here, "rev-parse", f"before-update/detached-{mine[:7]}") == mine


async def test_tags_of_a_person_stay_when_all_tags_are_fetched(upstream: Upstream) -> None:
    for name in ("mine", "moved"):
        git(upstream.here, "tag", name)
    git(upstream.server, "tag", "moved", upstream.second)
    git(upstream.here, "config", "fetch.prune", "true")
    with pytest.raises(RepositoryError, match="name a version that is there"):
        await to(upstream, "0123456")
    assert git(upstream.here, "rev-parse", "mine", "moved") == f"{upstream.first}\n{upstream.first}"


async def test_a_branch_below_one_that_the_server_has_no_longer_is_fetched(upstream: Upstream) -> None:
    git(upstream.here, "update-ref", "refs/remotes/origin/v", upstream.first)
    git(upstream.server, "branch", "v/2", upstream.second)
    assert (await to(upstream, "v/2")).commit == upstream.second


@pytest.mark.parametrize("name", few(["a", "new"], "new"))
async def test_stash_puts_changes_aside_and_says_where(
    upstream: Upstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit(upstream, name)
    await to(upstream, "main", on_local_changes="stash")
    assert (upstream.at(), upstream.changes()) == (("main", upstream.second), "")
    assert "launcher-recovery: before the update of plug-in to main, 20" in git(upstream.here, "stash", "list")
    assert "to have them back: git -C" in caplog.text
    back = "stash@{0}" if name == "a" else "stash@{0}^3"
    assert git(upstream.here, "show", f"{back}:{name}.txt") == "mine"


async def test_reset_drops_changes_and_removes_only_files_in_the_way(upstream: Upstream) -> None:
    edit(upstream)
    mine = edit(upstream, "mine")
    (upstream.here / "new.txt").mkdir()
    edit(upstream, "new.txt/inner")
    await to(upstream, "main", on_local_changes="reset")
    assert (upstream.at(), upstream.changes()) == (("main", upstream.second), "?? mine.txt")
    assert (mine.read_text(), (upstream.here / "new.txt").read_text()) == ("mine", "two")
    assert git(upstream.here, "stash", "list") == ""


async def test_keep_stays_where_it_is_and_warns(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    edit(upstream)
    assert (await to(upstream, "main", on_local_changes="keep")).commit == upstream.first
    assert upstream.changes() == "M a.txt"
    assert "plug-in has local changes (a.txt), and is not updated to main: they are kept" in caplog.text


async def test_an_answer_counts_for_what_it_was_given_for(upstream: Upstream) -> None:
    edit(upstream)
    edit(upstream, "b")
    with pytest.raises(ChangesError, match=r"b\.txt"):
        await to(upstream, "main", answered=Answered("reset", ["a.txt"]))
    await to(upstream, "main", answered=Answered("reset", ["a.txt", "b.txt"]))
    assert upstream.at() == ("main", upstream.second)


async def test_changes_matter_only_where_the_repository_has_to_move(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    edit(upstream)
    await to(upstream, upstream.first)
    assert upstream.changes() == "M a.txt"
    assert "plug-in is at" in caplog.text
    await to(upstream, upstream.first, on_local_changes="reset")
    assert (upstream.changes(), upstream.at()) == ("", ("main", upstream.first))


@pytest.mark.parametrize("choice", few(["ask", "stash", "reset", "keep"], "ask"))
async def test_a_branch_that_has_diverged_is_the_same_question(upstream: Upstream, choice: str) -> None:
    mine = commit(upstream.here, "mine", b="mine")
    if choice == "ask":
        with pytest.raises(ChangesError, match=r"has commits on main that the server has not \(\w+ mine\)"):
            await to(upstream, "main")
    else:
        await to(upstream, "main", on_local_changes=choice)
    assert upstream.at() == ("main", mine if choice in ("ask", "keep") else upstream.second)
    kept = git(upstream.here, "branch", "--list", "before-update/*", "--format=%(objectname)")
    assert kept == (mine if choice == "stash" else "")


async def test_changed_files_and_commits_are_one_question(upstream: Upstream) -> None:
    mine = commit(upstream.here, "mine", b="mine")
    edit(upstream)
    with pytest.raises(ChangesError, match=r"has local changes and has commits on main .*\(a.txt, \w+ mine\)"):
        await to(upstream, "main")
    await to(upstream, "main", on_local_changes="stash")
    assert (upstream.at(), upstream.changes()) == (("main", upstream.second), "")
    assert git(upstream.here, "rev-parse", f"before-update/main-{mine[:7]}", "stash^") == f"{mine}\n{mine}"


async def test_commits_that_the_server_has_taken_back_are_no_commits_of_ones_own(upstream: Upstream) -> None:
    await to(upstream, "main")
    git(upstream.server, "reset", "--quiet", "--hard", "v1")
    other = commit(upstream.server, "other", a="other")
    await to(upstream, "main")
    assert upstream.at() == ("main", other)


async def test_commits_ahead_of_the_server_stay(upstream: Upstream) -> None:
    await to(upstream, "main")
    mine = commit(upstream.here, "mine", b="mine")
    assert (await to(upstream, "main")).commit == mine


async def test_conflicts_are_asked_about_and_can_be_dropped(upstream: Upstream) -> None:
    commit(upstream.here, "mine", a="mine")
    git(upstream.here, "fetch", "--quiet")
    with pytest.raises(Exception, match="rebase"):
        git(upstream.here, "rebase", "origin/main")
    with pytest.raises(ChangesError, match=r"has a rebase under way \(.*a.txt.*\)") as caught:
        await to(upstream, "main", on_local_changes="stash")
    assert caught.value.remedy is not None
    assert caught.value.remedy.choices == ("reset", "keep")
    await to(upstream, upstream.second, on_local_changes="reset")
    assert (upstream.changes(), upstream.at()) == ("", ("", upstream.second))
    assert "rebase" not in git(upstream.here, "status")


# what is no repository to update


async def test_a_folder_in_another_repository_is_none(upstream: Upstream) -> None:
    shutil.copytree(upstream.here, upstream.here / "inner")
    shutil.rmtree(upstream.here / "inner/.git")
    inner = upstream.here / "inner"
    with pytest.raises(RepositoryError, match=r"inner is no repository of git .*clone it"):
        await update(UpdateWish("inner", "main"), calls_in(inner))


async def test_each_repository_that_cannot_be_updated_gets_one_clear_sentence(upstream: Upstream) -> None:
    git(upstream.here.parent, "clone", "--quiet", "--bare", "server", "bare")
    for name, said in (("bare", "is a bare repository"), ("none", "there is no folder")):
        with pytest.raises(RepositoryError, match=f"{name} cannot be updated: .*{said}"):
            await update(UpdateWish(name, "main"), calls_in(upstream.here.parent / name))
    git(upstream.here, "remote", "remove", "origin")
    with pytest.raises(RepositoryError, match=r"has no remote named origin.* remote add origin URL"):
        await to(upstream, "main")
    git(upstream.here, "remote", "add", "elsewhere", upstream.server.as_uri())
    assert (await to(upstream, "main")).commit == upstream.second  # the only one there is


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files to another user")
async def test_a_repository_of_another_user_is_named_with_the_cure(upstream: Upstream) -> None:
    for one in (upstream.here, *upstream.here.iterdir()):
        os.chown(one, 12345, 12345)
    with pytest.raises(RepositoryError, match=r"belongs to another user.*--add safe.directory /"):
        await to(upstream, "main")


@pytest.mark.slow
async def test_a_sparse_working_tree_stays_sparse(upstream: Upstream) -> None:
    git(upstream.here, "sparse-checkout", "set", "--no-cone", "/b.txt", "/new.txt")
    await to(upstream, "main")
    assert sorted(one.name for one in upstream.here.glob("*.txt")) == ["b.txt", "new.txt"]
    assert upstream.changes() == ""


@pytest.mark.slow
async def test_a_partial_clone_gets_the_files_of_the_version_it_moves_to(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path)
    git(upstream.server, "config", "uploadpack.allowFilter", "true")
    shutil.rmtree(upstream.here)
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--branch=v1", upstream.server.as_uri(), "here")
    await to(upstream, upstream.second)
    assert (upstream.at(), upstream.changes()) == (("", upstream.second), "")


@pytest.mark.slow
async def test_a_repository_without_a_commit_is_moved_to_one(upstream: Upstream) -> None:
    shutil.rmtree(upstream.here)
    git(upstream.server.parent, "init", "--quiet", "--initial-branch=main", "here")
    git(upstream.here, "remote", "add", "origin", upstream.server.as_uri())
    edit(upstream)
    with pytest.raises(ChangesError, match=r"overwritten \(a\.txt\)") as caught:
        await to(upstream, "main", on_local_changes="stash")
    assert caught.value.remedy is not None
    assert caught.value.remedy.choices == ("reset", "keep")  # git stash needs a commit
    await to(upstream, "main", on_local_changes="reset")
    assert (upstream.at(), upstream.changes()) == (("main", upstream.second), "")


async def test_an_update_waits_for_another_one_or_a_clone_of_the_same_folder(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    calls = calls_in(upstream.here)
    async with anyio.create_task_group() as group, alone_in(upstream.here, "a clone", calls.logs):
        group.start_soon(to, upstream, "main")
        with anyio.fail_after(10):
            while "plug-in waits for another launch" not in caplog.text:
                await anyio.sleep(0.005)
        assert upstream.at() == ("main", upstream.first)
    assert upstream.at() == ("main", upstream.second)


@pytest.mark.slow
async def test_a_file_that_git_always_takes_for_changed_is_put_aside_and_overwritten(upstream: Upstream) -> None:
    (upstream.here / ".git/info/attributes").write_text("*.txt filter=changing\n")
    git(upstream.here, "config", "filter.changing.clean", "cat; echo more")
    edit(upstream)
    await to(upstream, "main", on_local_changes="stash")
    assert upstream.at() == ("main", upstream.second)


@pytest.mark.slow
async def test_submodules_are_left_and_said_to_be(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    allowed = ("-c", "protocol.file.allow=always")
    git(upstream.server, *allowed, "submodule", "--quiet", "add", upstream.server.as_uri(), "inner")
    newest = commit(upstream.server, "with a submodule")
    await to(upstream, "main")
    assert upstream.at() == ("main", newest)
    assert "plug-in has submodules, which are left as they are: git -C" in caplog.text
    await to(upstream, upstream.second)  # that it is not checked out is no change
    assert upstream.at() == ("", upstream.second)
