"""What every operation of a plan has, and what each kind says about itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.launcher import Launcher

Use: TypeAlias = Literal["file", "folder", "made", "read"]
"""What an operation does with a path: it downloads a file, makes a whole folder, makes something, or works there."""

Execute: TypeAlias = Callable[[Servers], Awaitable[None]]
"""Does an operation; the servers that it needs are ready."""

Problem: TypeAlias = tuple[str, str]
"""A key of an operation, and what is wrong with its value."""


class Place(msgspec.Struct, frozen=True):
    """A path below the root that an operation uses: its key, its text, and what for."""

    field: str
    text: str
    use: Use


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """``[[operation]]``: what every operation has.

    Args:
        name: Its name on the screen and for the other verbs; at most 200 characters.
        needs: The names of the operations that must be done before it begins.
        optional: Whether it may fail: the launch then succeeds all the same, and what needs it begins all the same.
        retry: Fields of `RetryPolicy` for this operation alone, over those of `[retry]`. The circuit of its host is
            then its own, too: what other operations learn of that host does not count for it.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    needs: tuple[str, ...] = ()
    optional: bool = False
    retry: dict[str, Any] = {}

    CALLS: ClassVar[tuple[str, ...]] = ()
    """The recoverable operations that execute it."""
    HOW: ClassVar[tuple[str, ...]] = ()
    """The keys that change how it is done, and not what is there afterwards."""

    LASTS: ClassVar[bool] = False
    """Whether it serves others while it runs: they begin when it is ready."""

    @property
    def size_in_bytes(self) -> int | None:
        """The size of what it fetches, if the plan says it."""
        return None

    @property
    def url_of_circuit(self) -> str | None:
        """The URL whose host has the circuit of its calls."""
        return None

    @property
    def calls(self) -> tuple[str, ...]:
        """The names of its calls: those of an operation with a ``retry`` of its own have its name."""
        return tuple(f"{call} {self.name}" if self.retry else call for call in self.CALLS)

    @property
    def retried(self) -> tuple[str, ...]:
        """The names of the calls that are retried as ``[retry]`` says."""
        return self.calls

    @property
    def version(self) -> str:
        """Twelve hex digits that change with what the plan says that it makes."""
        return self._digest(self.HOW)

    @property
    def wording(self) -> str:
        """Twelve hex digits that change with everything that the plan says of its calls."""
        return self._digest(())

    def _digest(self, without: Collection[str]) -> str:
        general = {*Operation.__struct_fields__, *without} - {"name"}
        said = [getattr(self, field) for field in self.__struct_fields__ if field not in general]
        text = msgspec.json.encode([type(self).__name__, *said], order="deterministic")
        return hashlib.sha256(text).hexdigest()[:12]

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that it sets: their values may name servers."""
        return {}

    def places(self) -> Iterator[Place]:
        """The paths that it uses."""
        raise NotImplementedError

    def problems(self) -> Iterator[Problem]:
        """What is wrong with its values, each with its key."""
        raise NotImplementedError

    def goes_on(self, operation: str, wording: str | None) -> bool:
        """Whether a call of *operation* that an earlier run left, with that *wording* in its plan, is continued."""
        return operation in self.calls and wording == self.wording

    def declare(self, launcher: Launcher) -> Execute:
        """Declare its calls, before those of an earlier run resume. What is returned raises as the *launcher* does."""
        return partial(self.execute, launcher)

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Do it. Raises as the method of the launcher does.

        Args:
            launcher: Does it.
            servers: Those that it needs are ready.
        """
        raise NotImplementedError
