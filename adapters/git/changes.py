"""What git says of a working tree, read: its changes, what is in the way of a checkout, what a killed one did. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

WRONG = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|\Z)|\A[-./]|[/.]\Z|\A@\Z")
"""What the name of no branch and no tag has. Source: git-check-ref-format(1)."""

IN_THE_WAY = re.compile(
    r"(?:would be (?:overwritten|removed) by|would lose (?:untracked|local)|not up to date)[^\n]*\n((?:\t[^\n]+\n?)+)"
)
"""How ``git checkout`` lists the files that it would overwrite. It has changed nothing then."""

MOST_SHOWN = 5
"""Files that a message names."""

UNDER_WAY = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
"""Files in ``.git`` that say what a person has begun, by the command of git that ends it with ``--quit``."""


class Status(NamedTuple):
    """The state of a working tree.

    Args:
        commit: The full hash of HEAD; "" if it has no commit yet.
        branch: What HEAD is on; "" if it is detached.
        changed: Tracked files that are modified, staged or deleted, in order.
        unmerged: Those that a merge has left with conflicts.
    """

    commit: str
    branch: str
    changed: tuple[str, ...] = ()
    unmerged: tuple[str, ...] = ()


class Touched(NamedTuple):
    """A file that differs between two commits: its blobs in both, "" where it is not there."""

    path: str
    old: str
    new: str


class Advertised(NamedTuple):
    """What a server has by a name: its full name ("" for none), and the commit."""

    ref: str = ""
    commit: str = ""


def wrong_ref(ref: object) -> str | None:
    """Why *ref* can name no branch, no tag and no commit; ``None`` if it can."""
    if not isinstance(ref, str) or not ref:
        return "is no text" if not isinstance(ref, str) else "is empty"
    if ref in ("HEAD", "FETCH_HEAD", "ORIG_HEAD"):
        return "is no version: name a branch, a tag or a commit"
    if (found := WRONG.search(ref)) is not None:
        return f"is no name of a branch, a tag or a commit: {found[0]!r} cannot be there"
    try:
        ref.encode()
    except UnicodeEncodeError:
        return "is no text of Unicode, and cannot be journalled"
    return None


def patterns_of(ref: str) -> list[str]:
    """What a server is asked for to find *ref*: a branch of that name, a tag, and the commit of an annotated tag."""
    if ref.startswith("refs/"):
        return [ref, f"{ref}^{{}}"]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]


def advertised(output: str, ref: str) -> Advertised:
    """What ``git ls-remote`` has answered for *ref*: a branch counts before a tag, as it does for git."""
    commits = {name: commit for commit, _, name in (line.partition("\t") for line in output.splitlines())}
    for name in patterns_of(ref):
        if name in commits and not name.endswith("^{}"):
            return Advertised(name, commits.get(f"{name}^{{}}", commits[name]))
    return Advertised()


def status_of(output: str) -> Status:
    """What ``git status --porcelain=v2 --branch -z --no-renames`` says."""
    commit, branch, changed, unmerged = "", "", list[str](), list[str]()
    for line in output.split("\0"):
        kind, _, rest = line.partition(" ")
        if kind == "#" and rest.startswith("branch.oid "):
            commit = rest.partition(" ")[2].replace("(initial)", "")
        elif kind == "#" and rest.startswith("branch.head "):
            branch = rest.partition(" ")[2].replace("(detached)", "")
        elif kind == "1":
            changed.append(rest.split(" ", 7)[7])
        elif kind == "u":
            unmerged.append(rest.split(" ", 9)[9])
    return Status(commit, branch, tuple(changed), tuple(unmerged))


def in_the_way(errors: str) -> tuple[str, ...]:
    """The files that ``git checkout`` names as those that it would overwrite; none for another failure."""
    found = [line.removeprefix("\t") for block in IN_THE_WAY.findall(errors) for line in block.splitlines()]
    return tuple(dict.fromkeys(found))


def touched_by(output: str) -> tuple[Touched, ...]:
    """The files that ``git diff-tree -r -z --no-renames`` lists: what a checkout between the commits writes."""
    fields = output.split("\0")
    entries = zip(fields[::2], fields[1::2], strict=False)
    return tuple(Touched(path, *(_blob(one) for one in entry.split(" ")[2:4])) for entry, path in entries if entry)


def changed_by_others(changed: Iterable[str], touched: Iterable[Touched], found: Mapping[str, str]) -> tuple[str, ...]:
    """The files that a checkout which was killed has not left so: a person has changed them before or since.

    Args:
        changed: Tracked files that are modified.
        touched: What the checkout was to write.
        found: The blobs of those files that are there.

    Returns:
        Each file that the checkout does not write, and each that has neither its old nor its new content.
    """
    known = {one.path: one for one in touched}
    mine = {path for path in changed if path not in known}
    mine.update(path for path, blob in found.items() if blob not in (known[path].old, known[path].new))
    return tuple(sorted(mine))


def is_begun(written: bytes, whole: str) -> bool:
    """Whether *written* is what a killed process wrote of *whole*, which was decoded as UTF-8 with replacements."""
    return whole.startswith(written.decode("utf-8", "replace").rstrip("\ufffd"))


def shown(files: Sequence[str]) -> str:
    """The first of *files*, for a message."""
    first = ", ".join(files[:MOST_SHOWN])
    return first if len(files) <= MOST_SHOWN else f"{first} and {len(files) - MOST_SHOWN} more"


def _blob(name: str) -> str:
    return "" if set(name) <= {"0"} else name
