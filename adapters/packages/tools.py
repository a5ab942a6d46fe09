"""What pip and uv are run with, and what an install changes after a failure. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from events.evidence import Category
from recovery.policies.error_messages import match_error_message
from recovery.serialization.secret import Secret

ToolName: TypeAlias = Literal["pip", "uv"]

Problem: TypeAlias = Literal["refused", "unreachable", "build", "conflict", "missing", "altered", "other"]
"""Why a run of pip or uv failed."""

PROBLEMS: dict[str, Problem] = {
    "index-refused": "refused",
    "index-login": "refused",
    "pip-build": "build",
    "pip-conflict": "conflict",
    "pip-hash": "altered",
    "pip-missing": "missing",
    "pip-python": "missing",
}
"""By the rules that recognize them."""

FETCH = "Could not fetch URL "

MOST_REFUSALS = 20

REASON = re.compile(r"(?P<left>.+) depends on (?P<right>.+)")

LEAST_PIP = (25, 2)
"""The first pip that goes on with a download that broke off."""

VARIABLES: dict[str, str | None] = {
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_USER": "0",  # an environment is meant, also where the user's settings say otherwise
    "UV_PYTHON_DOWNLOADS": "never",
    "COLUMNS": "10000",  # uv breaks its lines there, and an error is told by its line
    **dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN")),  # another place, or none
    **dict.fromkeys(("PYTHONPATH", "PYTHONHOME")),  # what builds a package inherits them
}
"""What the environment of pip and uv has beside the user's own variables; ``None`` takes one of those away."""


class Tool(msgspec.Struct, frozen=True):
    """What installs packages into an environment.

    Args:
        name: Which it is.
        python: The interpreter of the environment.
        program: The path of uv; "" for pip.
        resumes: Whether it goes on with a download that broke off. A pip that does not takes half a file for a whole
            one, and finds that it is not the one that was promised.
    """

    name: ToolName
    python: str
    program: str = ""
    resumes: bool = True

    def install(self, *words: str, wheels_only: bool = False) -> list[str]:
        """The words of an install of *words*."""
        return self._words("install", *(("--only-binary", ":all:") if wheels_only else ()), *words)

    def restore(self, texts: Iterable[str], *, wheels_only: bool = False) -> list[str]:
        """The words that install *texts*, without what they need."""
        return self.install("--no-deps", *(word for one in texts for word in _words_of(one)), wheels_only=wheels_only)

    def uninstall(self, names: Iterable[str]) -> list[str]:
        """The words that uninstall *names*."""
        return self._words("uninstall", *(("-y",) if self.name == "pip" else ()), *names)

    def check(self) -> list[str]:
        """The words that ask whether every package has what it needs."""
        return self._words("check")

    def problem_of(self, output: str) -> Problem:
        """Why a run of it failed that printed *output*."""
        problem = problem_of(output)
        return "unreachable" if problem == "altered" and not self.resumes else problem

    def index(self, url: str | Secret) -> dict[str, str | Secret]:
        """The variable by which packages come from the index *url*: no list of processes shows it."""
        return {"PIP_INDEX_URL" if self.name == "pip" else "UV_DEFAULT_INDEX": url}

    def _words(self, command: str, *words: str) -> list[str]:
        if self.name == "pip":
            return [self.python, "-I", "-m", "pip", command, *words]  # -I: no module of the folder it runs in
        return [self.program, "pip", command, "--python", self.python, *words]


class Way(msgspec.Struct, frozen=True):
    """How an install is tried.

    Args:
        index: The number of the index that packages come from.
        wheels_only: Whether nothing is built here.
    """

    index: int = 0
    wheels_only: bool = False


def next_way(way: Way, problem: Problem, indexes: int) -> Way | None:
    """What is tried at once after *way* has failed; ``None``: nothing else is worth it now.

    The next index is asked if one refuses or cannot be reached, never because it has no such package: a stranger could
    offer one of that name there. A package that does not build is looked for as a wheel.

    Args:
        way: What has failed.
        problem: Why.
        indexes: How many indexes there are.
    """
    if problem in ("refused", "unreachable") and way.index + 1 < indexes:
        return msgspec.structs.replace(way, index=way.index + 1)
    if problem == "build" and not way.wheels_only:
        return msgspec.structs.replace(way, wheels_only=True)
    return None


def problem_of(output: str) -> Problem:
    """Why a run of pip or uv failed that printed *output*."""
    rule = match_error_message(output)
    if rule is None:
        return "other"
    if rule.category in (Category.TRANSIENT, Category.UNREACHABLE, Category.RATE_LIMITED):
        return "unreachable"
    return PROBLEMS.get(rule.name, "other")


def conflict(output: str) -> str:
    """Which requirements contradict each other, in plain words; "" if *output* of pip or uv does not say."""
    lines = [line.strip() for line in output.splitlines()]
    if "The conflict is caused by:" in lines:
        caused = lines[lines.index("The conflict is caused by:") + 1 :]
        end = caused.index("") if "" in caused else len(caused)
        return "; ".join(_in_words(line) for line in caused[:end])
    because = next((number for number, line in enumerate(lines) if "Because " in line), None)
    if because is None:
        return ""
    text = " ".join(lines[because:]).partition("Because ")[2]
    return re.split(r",? we can conclude|, hint:", text, maxsplit=1)[0].replace(" depend on ", " need ").replace(
        " depends on ", " needs "
    )  # fmt: skip


def refusals(log: Iterable[str]) -> str:
    """Why pip could not read pages of an index: lines of its log. It prints them only with ``-vv``."""
    found = dict.fromkeys(FETCH + line.partition(FETCH)[2].strip() for line in log if FETCH in line)
    return "".join(f"{line}\n" for line in list(found)[-MOST_REFUSALS:] if ": 404 " not in line)


def is_old(version: str) -> bool:
    """Whether the pip of that *version* cannot go on with a download that broke off."""
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return parts < LEAST_PIP


def _words_of(text: str) -> list[str]:
    return ["-e", text.removeprefix("-e ")] if text.startswith("-e ") else [text]


def _in_words(line: str) -> str:
    """*line* of pip's list of causes."""
    if line.startswith("The user requested (constraint) "):
        return f"{line.removeprefix('The user requested (constraint) ')} is to be kept"
    if line.startswith("The user requested "):
        return f"{line.removeprefix('The user requested ')} is asked for"
    return REASON.sub(r"\g<left> needs \g<right>", line)
