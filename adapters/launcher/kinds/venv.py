"""``kind = "venv"``."""

from __future__ import annotations

from collections.abc import Iterator

from adapters.launcher.kinds.command import wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher


class Venv(Operation, frozen=True, kw_only=True, tag="venv"):
    """``kind = "venv"``: a virtual environment of Python. One that is there and works is left as it is.

    Args:
        destination: The folder of the environment, below the root.
        python: The interpreter that it is made with: a path, a program (`"python3.12"`) or a version (`"3.12"`).
            Unset, it is that of the launcher, and one that is there may have any version.
    """

    destination: str
    python: str | None = None

    CALLS = ("venv",)

    def places(self) -> Iterator[Place]:
        """The folder of the environment."""
        yield Place("destination", self.destination, "folder")

    def problems(self) -> Iterator[Problem]:
        """A Python that no system can start."""
        if self.python is not None:
            yield from wrong_words("python", (self.python,))

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Make it."""
        await launcher.venv(self.destination, self.python, name=self.name)
