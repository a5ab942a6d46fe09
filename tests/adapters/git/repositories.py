"""Real repositories for tests: made by real git, with what a person may have done to them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "ann@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *words: str) -> str:
    """What ``git WORDS`` prints in *folder*. Raises CalledProcessError."""
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def commit(folder: Path, message: str, **files: str | None) -> str:
    """Write *files*, or remove them, by their names without ``.txt``; commit that, and return the commit's hash."""
    for name, text in files.items():
        path = folder / f"{name}.txt"
        path.unlink() if text is None else path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


class Upstream:
    """A repository elsewhere with two versions, and a clone of it that is at the first one.

    Args:
        folder: Where both are made: ``server`` and ``here``.
        clone: Options for ``git clone``.
    """

    def __init__(self, folder: Path, *clone: str) -> None:
        self.server, self.here = folder / "server", folder / "here"
        git(folder, "init", "--quiet", "--initial-branch=main", "server")
        self.first = commit(self.server, "first", a="one", b="one", gone="one")
        git(self.server, "tag", "v1")
        git(folder, "clone", "--quiet", *clone, self.server.as_uri(), "here")
        self.second = commit(self.server, "second", a="two", new="two", gone=None)

    def at(self) -> tuple[str, str]:
        """The branch and the commit of the clone."""
        return git(self.here, "branch", "--show-current"), git(self.here, "rev-parse", "HEAD")

    def changes(self) -> str:
        """What git says is changed in the clone, untracked files included."""
        return git(self.here, "status", "--porcelain")
