"""What git says of a working tree, read; the laws of what a killed checkout has left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.git.changes import (
    Advertised,
    Status,
    Touched,
    advertised,
    changed_by_others,
    in_the_way,
    is_begun,
    shown,
    status_of,
    touched_by,
    wrong_ref,
)

PATHS = st.sampled_from(["a", "b", "folder/c", "d e", "\u00fc"])
BLOBS = st.sampled_from(["", "1" * 40, "2" * 40, "3" * 40])
TREES = st.dictionaries(PATHS, BLOBS.filter(bool))


def touched_between(old: dict[str, str], new: dict[str, str]) -> tuple[Touched, ...]:
    paths = sorted({*old, *new})
    found = [Touched(path, old.get(path, ""), new.get(path, "")) for path in paths]
    return tuple(one for one in found if one.old != one.new)


@given(old=TREES, new=TREES, written=st.sets(PATHS), mine=st.dictionaries(PATHS, st.just("9" * 40)))
def test_what_a_person_changed_is_told_from_what_a_killed_checkout_wrote(
    old: dict[str, str], new: dict[str, str], written: set[str], mine: dict[str, str]
) -> None:
    touched = touched_between(old, new)
    here = {**old}
    for one in touched:
        if one.path in written:
            here[one.path] = one.new
    here = {path: blob for path, blob in here.items() if blob} | mine
    changed = [path for path in old if here.get(path) != old[path]]  # as git says of the index of before
    found = {one.path: here[one.path] for one in touched if one.path in here}
    known = {*old, *(one.path for one in touched)}  # any other file is not tracked, and not written
    assert changed_by_others(changed, touched, found) == tuple(sorted(known & mine.keys()))


@given(whole=st.text(max_size=20), cut=st.integers(0, 60))
def test_each_beginning_of_a_file_is_one(whole: str, cut: int) -> None:
    assert is_begun(whole.encode()[:cut], whole)


def test_another_text_is_no_beginning() -> None:
    assert not is_begun(b"twice", "two")
    assert not is_begun(b"two and more", "two")


@given(entries=st.dictionaries(PATHS, st.tuples(BLOBS, BLOBS)))
def test_the_difference_of_two_commits_is_read(entries: dict[str, tuple[str, str]]) -> None:
    zero = "0" * 40
    lines = [f":100644 100644 {old or zero} {new or zero} M\0{path}\0" for path, (old, new) in entries.items()]
    assert touched_by("".join(lines)) == tuple(Touched(path, old, new) for path, (old, new) in entries.items())


def test_the_state_of_a_working_tree_is_read() -> None:
    blob = "1" * 40
    said = (
        f"# branch.oid {blob}\0# branch.head main\0# branch.upstream origin/main\0# branch.ab +1 -2\0"
        f"1 .M N... 100644 100644 100644 {blob} {blob} a b.txt\0"
        f"1 A. N... 000000 100644 100644 {blob} {blob} new\0"
        f"u UU N... 100644 100644 100644 100644 {blob} {blob} {blob} both\0"
    )
    assert status_of(said) == Status(blob, "main", ("a b.txt", "new"), ("both",))
    assert status_of("# branch.oid (initial)\0# branch.head (detached)\0") == Status("", "")


def test_a_branch_of_a_server_counts_before_a_tag_and_a_tag_means_its_commit() -> None:
    said = "1\trefs/heads/x/v1\n2\trefs/tags/v1\n3\trefs/tags/v1^{}\n4\trefs/heads/both\n5\trefs/tags/both\n"
    assert advertised(said, "v1") == Advertised("refs/tags/v1", "3")
    assert advertised(said, "both") == Advertised("refs/heads/both", "4")
    assert advertised(said, "refs/tags/both") == Advertised("refs/tags/both", "5")
    assert advertised(said, "x") == Advertised()


@pytest.mark.parametrize(
    "head",
    [
        "error: Your local changes to the following files would be overwritten by checkout:",
        "error: The following untracked working tree files would be overwritten by checkout:",
        "error: The following untracked working tree files would be removed by checkout:",
        "error: Updating the following directories would lose untracked files in them:",
    ],
)
def test_the_files_in_the_way_of_a_checkout_are_read(head: str) -> None:
    assert in_the_way(f"{head}\n\ta b.txt\n\tc\nPlease move or remove them.\nAborting\n") == ("a b.txt", "c")
    assert in_the_way("fatal: unable to write new index file") == ()


@pytest.mark.parametrize("ref", ["main", "feature/x-1", "v1.0", "deadbeef", "refs/pull/5/head", "\u00fc"])
def test_names_of_versions_are_let_pass(ref: str) -> None:
    assert wrong_ref(ref) is None


@pytest.mark.parametrize(
    "ref", ["", None, "-x", "a b", "a..b", "a~1", "a^", "HEAD", "@", "a@{1}", "x.lock", "a/", "/a", "a\0", "\udcff"]
)
def test_what_names_no_version_is_refused_with_the_reason(ref: object) -> None:
    assert wrong_ref(ref)


def test_a_message_names_the_first_files() -> None:
    assert shown(["a", "b"]) == "a, b"
    assert shown([str(one) for one in range(9)]) == "0, 1, 2, 3, 4 and 4 more"
