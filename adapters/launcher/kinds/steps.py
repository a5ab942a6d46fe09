"""``kind = "steps"``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from adapters.launcher.arguments import NotDoneError
from adapters.launcher.kinds.command import REFERENCE, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import PLACE, Servers
from adapters.launcher.kinds.operation import Execute, Operation, Place, Problem
from adapters.launcher.launcher import Launcher
from adapters.launcher.step_functions import GIVEN, StepFunctions
from adapters.launcher.steps import Steps as Group
from adapters.launcher.variables import value_of
from adapters.processes.command import run_command

ARGUMENTS = ("commands", "cwd")
"""The arguments of a run, which are journalled: its steps, and their folder."""


class CommandWithUndo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``steps`` of a plan: each a command, and the command that undoes it.

    Args:
        name: Its name in messages.
        run: The program and its arguments.
        undo: The command that takes the effect away, also a part of it. Without one, the effect stays.
        creates: A file or folder below the root that the step makes. Where it is there, the step is not run, and not
            undone either. Without it, a step in which the launcher was killed is run again.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    undo: tuple[str, ...] = ()
    creates: str | None = None


Commands: TypeAlias = tuple[CommandWithUndo, ...]


class Steps(Operation, frozen=True, kw_only=True, tag="steps"):
    """``kind = "steps"``: commands that have their effect all together, or are undone, the last one first.

    Each step is retried. If one fails for good, it and those before it are undone, and the operation has failed.

    Args:
        steps: The commands, in their order: `{ name = "move", run = ["mv", "a", "b"], undo = ["mv", "b", "a"] }`.
        on_crash: What the next run does with steps that a killed launch left half done: "finish" or "undo" them.
        cwd: The folder in which they run, below the root.
        env: As that of a command, without the addresses of servers.
    """

    steps: Annotated[Commands, msgspec.Meta(min_length=1)]
    on_crash: Literal["finish", "undo"] = "finish"
    cwd: str = "."
    env: dict[str, str] = msgspec.field(default_factory=dict)

    CALLS = ("steps",)
    HOW = ("on_crash",)

    @property
    def calls(self) -> tuple[str, ...]:
        """Its runs, which have a name of their own."""
        return (f"steps {self.name}",)

    @property
    def retried(self) -> tuple[str, ...]:
        """Its steps, not its runs."""
        return (f"step {self.name} {self.name}" if self.retry else f"step {self.name}",)

    def goes_on(self, operation: str, wording: str | None) -> bool:
        """Also a run of other steps: it is finished, or undone, with the commands that it began with."""
        return operation in self.calls

    def places(self) -> Iterator[Place]:
        """Their folder, and what they create."""
        yield Place("cwd", self.cwd, "read")
        for number, step in enumerate(self.steps):
            if step.creates is not None:
                yield Place(f"steps[{number}].creates", step.creates, "made")

    def problems(self) -> Iterator[Problem]:
        """Names that are there twice, words and variables that no system passes on, and secrets."""
        names = [step.name for step in self.steps]
        for number, step in enumerate(self.steps):
            if step.name in names[:number]:
                yield f"steps[{number}].name", f"{step.name!r} is steps[{names.index(step.name)}] already"
            if step.name in (*GIVEN, *ARGUMENTS):
                yield f"steps[{number}].name", f"{step.name!r} means something else here: give another name"
            yield from wrong_words(f"steps[{number}].run", step.run)
            if step.undo:
                yield from wrong_words(f"steps[{number}].undo", step.undo)
        yield from wrong_variables(self.env)
        for name, value in self.env.items():
            if PLACE.search(value):
                yield f"env.{name}", 'names a server, whose address steps do not get; use kind = "command" for that'

    def declare(self, launcher: Launcher) -> Execute:
        """Declare the steps: each run has those that it began with."""
        group = launcher.steps(self.name, on_crash=self.on_crash)

        def made(arguments: dict[str, Any]) -> Iterator[StepFunctions]:
            for step in msgspec.convert(arguments["commands"], Commands):
                yield self._functions(step, partial(self._run_command, launcher, arguments["cwd"]), launcher)

        group.made_by(made)
        return partial(self._execute, group)

    def _functions(
        self, step: CommandWithUndo, run: Callable[[str, Sequence[str]], Awaitable[None]], launcher: Launcher
    ) -> StepFunctions:
        what = f"{self.name}: {step.name}"

        def is_there(commands: object, cwd: object) -> bool:
            return step.creates is not None and launcher.place(step.creates).exists()

        async def do(before: bool) -> None:
            if not before:
                await run(what, step.run)
                if step.creates is not None and not launcher.place(step.creates).exists():
                    raise NotDoneError(f"{what} ended well, and {step.creates} is not there")

        async def undo(before: bool) -> None:
            if not before:
                await run(what, step.undo)

        return StepFunctions(step.name, do, undo if step.undo else None, done=is_there, before=is_there)

    async def _execute(self, group: Group, _servers: Servers) -> None:
        await group.run(self.name, commands=msgspec.json.decode(msgspec.json.encode(self.steps)), cwd=self.cwd)

    async def _run_command(self, launcher: Launcher, cwd: str, what: str, argv: Sequence[str]) -> None:
        folder, calls = launcher.place(cwd), launcher.service.calls
        folder.mkdir(parents=True, exist_ok=True)
        env = {
            name: value_of(calls, name, value) if value.startswith(REFERENCE) else value
            for name, value in self.env.items()
        }
        await run_command(what, argv, cwd=folder, logs=launcher.logs, env=env, files=self.name)
