"""The functions of steps: registered by name, checked, and called with those of the arguments that they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import anyio.to_thread
import msgspec

from adapters.launcher.arguments import InvalidRequestError
from events.callables import is_async, is_generator

GIVEN = ("before", "result")
"""What the functions of a step may name besides arguments: what undo needs, and what the step returned."""

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class StepFunctions(msgspec.Struct, frozen=True):
    """One step.

    Args:
        name: By which it is journalled.
        do: Has its effect.
        undo: Takes that effect away again, also a part of it, or none; None if that is not possible.
        done: Tells after a crash whether the effect is there.
        before: Returns what *undo* needs; it is called and journalled before the step begins.
    """

    name: str
    do: Callable[..., Any]
    undo: Callable[..., Any] | None = None
    done: Callable[..., Any] | None = None
    before: Callable[..., Any] | None = None

    def check(self) -> None:
        """Raise TypeError for what cannot be called by the names of its parameters, and ValueError for its name."""
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a step must be a text, not {self.name!r}")
        if self.name in GIVEN:
            raise ValueError(f"no step can be called {self.name!r}, which an undo gets: give another name")
        for role in ("do", "undo", "done", "before"):
            function = getattr(self, role)
            if function is None and role != "do":
                continue
            what = f"step {self.name!r}" if role == "do" else f"{role}= of step {self.name!r}"
            if not callable(function):
                raise TypeError(f"{what} must be a function, not {function!r}")
            if is_generator(function):
                raise TypeError(f"{what} is a generator, which would not run: return instead of yield")
            try:
                parameters = parameters_of(function)
            except ValueError:
                raise TypeError(
                    f"{what} is {function!r}, which does not tell its parameters: wrap it in a function"
                ) from None
            for parameter in parameters:
                if parameter.kind not in BY_NAME:
                    raise TypeError(f"{what} takes its arguments by name, which {parameter} does not allow")

    def functions(self) -> Iterable[Callable[..., Any]]:
        """Those that it has."""
        return (one for one in (self.do, self.undo, self.done, self.before) if one is not None)


def parameters_of(function: Callable[..., Any]) -> Collection[inspect.Parameter]:
    """What *function* takes."""
    return inspect.signature(function).parameters.values()


def check_arguments(what: str, steps: Mapping[str, StepFunctions], arguments: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError unless *arguments* are plain data, and just those that *steps* need; *what* is run."""
    if not steps:
        raise InvalidRequestError(f"{what} has no steps; decorate functions with @{what.partition(' ')[0]}.step")
    for name, value in arguments.items():
        try:
            is_plain = msgspec.json.decode(msgspec.json.encode(value)) == value
        except (TypeError, ValueError, RecursionError):
            is_plain = False
        if not is_plain:
            raise InvalidRequestError(
                f"{what}: argument {name!r} must be plain data that JSON gives back (text, number, list, dict), "
                f"not a {type(value).__name__}"
            )
    taken, earlier = set[str](), set[str]()
    for step in steps.values():
        for function in step.functions():
            known = {*arguments, *earlier, *GIVEN}
            for parameter in parameters_of(function):
                taken.add(parameter.name)
                if parameter.name not in known and parameter.default is inspect.Parameter.empty:
                    raise InvalidRequestError(
                        f"{what}: argument {parameter.name!r} of step {step.name!r} is missing: "
                        f"run(..., {parameter.name}=...)"
                    )
        earlier.add(step.name)
    if unknown := sorted(arguments.keys() - taken):
        raise InvalidRequestError(f"{what}: no step takes the argument {unknown[0]!r}; they take {_list(taken)}")
    if clash := sorted(arguments.keys() & {*GIVEN, *steps}):
        raise InvalidRequestError(f"{what}: the argument {clash[0]!r} has the name of a step, or of what an undo gets")


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted({*names} - {*GIVEN})) or "none"


async def called(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """What *function* returns for those of *values* that it names; a plain function runs in a worker thread."""
    named = {one.name: values[one.name] for one in parameters_of(function) if one.name in values}
    if is_async(function):
        return await function(**named)
    (found,) = await anyio.to_thread.run_sync(lambda: (function(**named),))  # trio takes no coroutine from a thread
    return await found if inspect.isawaitable(found) else found  # of ``lambda: restore()``, say


def plain(what: str, value: Any) -> Any:
    """*value* as JSON gives it back. Raises InvalidRequestError for what JSON cannot hold; *what* returned it."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequestError(
            f"{what} returned a {type(value).__name__}, which cannot be journalled; return plain data, or nothing"
        ) from None
