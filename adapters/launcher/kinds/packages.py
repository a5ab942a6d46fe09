"""``kind = "packages"``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from adapters.launcher.kinds.command import REFERENCE
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_package, wrong_reference, wrong_url
from adapters.launcher.packages import PROTECTED
from adapters.packages.requirements import InvalidRequirementsError, requirement_lines
from recovery.redact import redact
from recovery.serialization.secret import Secret


class Packages(Operation, frozen=True, kw_only=True, tag="packages"):
    """``kind = "packages"``: packages of Python in a virtual environment. What is installed and fits stays.

    Args:
        environment: The folder of the environment, or its interpreter, below the root.
        requirements: What is to be installed, as pip takes it: `"torch>=2.4"`, `"numpy"`.
        files: Requirements files below the root: those of plug-ins, say. A person is asked about lines that do more
            than name packages.
        protect: Packages that keep the version that they have, if they are there.
        indexes: URLs of indexes. The next one is asked if one refuses or cannot be reached, not because it lacks a
            package. `"env:NAME"` takes a URL, which may hold a password, from the launcher's variable `NAME`. Unset,
            it is as the settings of pip or uv say.
        tool: "pip"; "uv"; or "auto", which is pip if the environment has it, and else uv.
    """

    environment: str
    requirements: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    protect: tuple[str, ...] = PROTECTED
    indexes: tuple[str, ...] = ()
    tool: Literal["auto", "pip", "uv"] = "auto"

    CALLS = ("packages",)
    HOW = ("indexes", "tool")

    def places(self) -> Iterator[Place]:
        """The environment and the requirements files."""
        yield Place("environment", self.environment, "read")
        for number, file in enumerate(self.files):
            yield Place(f"files[{number}]", file, "read")

    def problems(self) -> Iterator[Problem]:
        """What names no package and no index."""
        if not self.requirements and not self.files:
            yield "requirements", "names no package: give requirements, or files"
        for field, wrong in (("requirements", _wrong_requirement), ("protect", wrong_package)):
            for number, text in enumerate(getattr(self, field)):
                if (reason := wrong(text)) is not None:
                    yield f"{field}[{number}]", reason
        for number, index in enumerate(self.indexes):
            if (reason := _wrong_index(index)) is not None:
                yield f"indexes[{number}]", reason

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Install them."""
        requirements: list[str | Path] = [*self.requirements, *map(Path, self.files)]
        indexes = [Secret(index) if index.startswith(REFERENCE) else index for index in self.indexes]
        await launcher.packages(self.environment, requirements, self.protect, indexes, self.tool, name=self.name)


def _wrong_requirement(text: str) -> str | None:
    if text.endswith(".txt"):
        return f"{text!r} is a requirements file: name it in files"
    try:
        requirement_lines((text,))
    except InvalidRequirementsError as error:
        return str(error)
    return None


def _wrong_index(text: str) -> str | None:
    if text.startswith(REFERENCE):
        return wrong_reference(text)
    if (reason := wrong_url(text)) is not None:
        return f"{redact(text)!r} {reason}"
    if urlsplit(text).password is not None:
        return 'holds a password, and a plan is no place for one: write "env:NAME", the variable that holds the address'
    return None
