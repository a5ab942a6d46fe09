"""``kind = "command"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_reference, wrong_variable
from recovery import validation
from recovery.serialization.secret import Secret

REFERENCE = "env:"
"""How a value begins that names an environment variable."""


class Command(Operation, frozen=True, kw_only=True, tag="command"):
    """``kind = "command"``: a program, run without a shell.

    Args:
        run: The program and its arguments.
        cwd: The folder in which it runs, below the root.
        creates: A file or folder below the root that the command makes. Where it is there, the command is done and is
            not run. Where it is still not there after the command ended with 0, the command has failed. Without it,
            each launch runs the command. Name what is made last, as half of a folder is a folder too.
        env: Variables that are set for it besides those of the launcher. `"env:NAME"` takes the value of the
            launcher's variable `NAME` when the command begins; a secret is given in this way alone.
            `{NAME.url}` and `{NAME.port}` stand for the address and the port of the server `NAME`, which it needs.
        silence: Seconds without output, processor time, and input and output of all its processes, after which the
            command counts as stalled: it is ended, and retried. Unset, it may be silent.
    """

    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    cwd: str = "."
    creates: str | None = None
    env: dict[str, str] = msgspec.field(default_factory=dict)
    silence: float | None = None

    CALLS = ("command",)
    HOW = ("silence",)

    def __post_init__(self) -> None:
        if self.silence is not None:
            validation.number("silence", self.silence, above=0.0)

    @property
    def variables(self) -> Mapping[str, str]:
        """Its ``env``."""
        return self.env

    def places(self) -> Iterator[Place]:
        """Its folder, and what it creates."""
        yield Place("cwd", self.cwd, "read")
        if self.creates is not None:
            yield Place("creates", self.creates, "made")

    def problems(self) -> Iterator[Problem]:
        """Words and variables that no system passes on, and secrets."""
        yield from wrong_words("run", self.run)
        yield from wrong_variables(self.env)

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Run it."""
        env = variables_of(self.env, servers)
        await launcher.run(self.run, self.cwd, env, self.silence, self.creates, name=self.name)


def wrong_words(field: str, words: Sequence[str]) -> Iterator[Problem]:
    """Why the *words* of that *field* are no command."""
    if not words or not words[0] or any("\0" in word for word in words):
        yield field, "names no program, or has a null character, which no system passes on"


def wrong_variables(env: Mapping[str, str]) -> Iterator[Problem]:
    """Names and values of ``env`` that no system passes on, and secrets."""
    for name, value in env.items():
        reason = wrong_reference(value) if value.startswith(REFERENCE) else wrong_variable(name, value)
        if reason is not None:
            yield f"env.{name}", reason


def variables_of(env: Mapping[str, str], servers: Servers) -> dict[str, str | Secret]:
    """What ``env`` says: each a text, with the addresses of *servers*, or the reference to a variable."""
    return {
        name: Secret(value) if value.startswith(REFERENCE) else servers.filled(value) for name, value in env.items()
    }
