"""What tells that a command is done: a path that it makes, or a function of the program."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import anyio.to_thread

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.asked_again import AskedAgain

Done: TypeAlias = str | os.PathLike[str] | Callable[[], object]


class DoneChecks:
    """The functions that tell whether commands are done.

    Args:
        place: Finds a path below the root.
        asked_again: Lets resumed calls wait for the program.
    """

    def __init__(self, place: Callable[[str], Path], asked_again: AskedAgain) -> None:
        self._place = place
        self._asked_again = asked_again
        self._functions: dict[str, Callable[[], object]] = {}

    def register(self, function: Callable[[], object]) -> Callable[[], object]:
        """Know *function* by its module and qualified name. Raises TypeError for an async one."""
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"what tells that a command is done must be a plain function, not {function!r}")
        self._functions[_name_of(function)] = function
        return function

    def written(self, done: Done | None) -> str | None:
        """How *done* is journalled. Raises InvalidRequestError for a path outside the root or an unknown function."""
        if done is None:
            return None
        if isinstance(done, str | os.PathLike):
            if self._place(os.fspath(done)) == self._place(""):
                raise InvalidRequestError(f"done={os.fspath(done)!r} is the root itself, which is there before")
            return path_of(os.fspath(done))
        if not callable(done):
            raise InvalidRequestError(f"done must be a path or a function, not {done!r}")
        if self._functions.get(name := _name_of(done)) is not done:
            short = name.rpartition(".")[2]
            raise InvalidRequestError(f"done={name} is not registered: launcher.register({short})")
        return f"function:{name}"

    async def is_done(self, done: str, name: str) -> bool:
        """Whether the path that was journalled as *done* of the command *name* is there, or the function says so.

        A function of a call that is resumed is waited for, until the program has registered it.
        """
        kind, _, what = done.partition(":")
        if kind == "path":
            return self._place(what).exists()
        need = f"the function {what}, which tells whether it is done, is not registered"
        await self._asked_again.until(lambda: what in self._functions, name, need)
        return bool(await anyio.to_thread.run_sync(self._functions[what]))


def path_of(made: str) -> str:
    """How a path that a command makes is journalled."""
    return f"path:{made}"


def shown_of(done: str) -> str:
    """What a person reads of a journalled *done*."""
    return done.partition(":")[2]


def _name_of(function: Callable[..., object]) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
