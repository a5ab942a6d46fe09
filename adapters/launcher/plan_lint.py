"""What is wrong with a plan that can be run: commands that have a kind of their own, secrets, missing programs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from adapters.comfyui.errors import InvalidGraphError
from adapters.comfyui.graph import EXPORT
from adapters.comfyui.workflow import DRAWN, MOST_BYTES, read_workflow
from adapters.disk import UnsafeFileError, read_plain
from adapters.launcher.document import Step
from adapters.launcher.kinds.comfyui import ComfyUI
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.kinds.operation import Operation
from adapters.launcher.kinds.packages import Packages
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.kinds.server import Server
from adapters.launcher.kinds.steps import CommandWithUndo, Steps
from adapters.launcher.plan_checks import needed_before
from recovery.lint import Finding
from recovery.redact import redact

MAIN = "main.py"
"""What the folder of ComfyUI has."""

OWN_KINDS = {
    ("git", "clone"): ("git", "a killed clone leaves half a folder"),
    ("pip", "install"): (
        "packages",
        "a killed install leaves a broken environment, and one that ends well may break it",
    ),
    ("uv", "pip", "install"): ("packages", "an install that ends well may break what is there"),
    ("uv", "venv"): ("venv", "a killed command leaves half an environment"),
    ("venv",): ("venv", "a killed command leaves half an environment"),
    ("virtualenv",): ("venv", "a killed command leaves half an environment"),
}
"""How commands begin that another kind of operation does better, that kind, and why."""

CURES: Mapping[type[Operation], str] = {Download: "name the variable that holds the token in [tokens]"}
"""How a secret is given, by the kind of the operation."""


def lint_steps(steps: Sequence[Step]) -> Iterator[tuple[Step, Finding]]:
    """The findings about *steps*, each with its step."""
    for step in steps:
        if isinstance(step, Command):
            yield from ((step, finding) for finding in _of_command(step))
        cure = CURES.get(type(step), "pass it by env, from a variable of the launcher")
        for field, said in texts_of(step):
            if (shown := redact(said)) != said:
                text = f"it holds what looks like a secret, which is journalled: {shown}"
                yield step, Finding(rule="secret-in-plan", table="operation", field=field, text=text, cure=cure)


def lint_programs(root: Path, steps: Sequence[Step]) -> Iterator[tuple[Step, Finding]]:
    """Each step whose program or file is below *root* and not there, and which needs no operation that makes it.

    A needed command may make anything, so what follows it is not judged.
    """
    before = needed_before(steps)
    commands = {step.name for step in steps if isinstance(step, Command | Steps)}
    made = {step.name: _made_by(root, step) for step in steps}
    for step in steps:
        for field, text, what, kind in _needed(step):
            program = _below(root, text)
            if not program.is_relative_to(root) or program.exists():
                continue
            makers = [name for name, paths in made.items() if any(map(program.is_relative_to, paths))]
            if before[step.name].isdisjoint({*makers, *commands}):
                text = f"there is no {what} {program.relative_to(root)}, and no operation that it needs makes one"
                other = f'add an operation that makes it (kind = "{kind}", say)'
                cure = f"add {makers[0]!r} to needs" if makers else other
                yield step, Finding(rule="no-program", table="operation", field=field, text=text, cure=cure)


def _needed(step: Step) -> Iterator[tuple[str, str, str, str]]:
    """What *step* needs below the root: its key, where it is, what it is, and the kind that makes such a thing."""
    if isinstance(step, Command | Server | ComfyUI) and step.run and os.sep in step.run[0]:
        yield "run", os.path.join(getattr(step, "cwd", "."), step.run[0]), "program", "venv"
    if isinstance(step, ComfyUI) and step.path is not None:
        yield "path", os.path.join(step.path, MAIN), "file", "git"
    if isinstance(step, Prompt):
        yield "workflow", step.workflow, "file", "download"


def lint_workflows(root: Path, steps: Sequence[Step]) -> Iterator[tuple[Step, Finding]]:
    """Each prompt whose file is there, and is no graph that a server runs."""
    for step in steps:
        if not isinstance(step, Prompt) or not (file := _below(root, step.workflow)).exists():
            continue
        try:
            if read_workflow(read_plain(file.resolve(), MOST_BYTES)).format == "api":
                continue
            text = f"{step.workflow} is {DRAWN}"
        except (OSError, UnsafeFileError, InvalidGraphError) as error:
            text = f"{step.workflow} is no workflow to run: {error}"
        yield step, Finding(rule="no-graph", table="operation", field="workflow", text=text, cure=EXPORT)


def _made_by(root: Path, step: Step) -> list[Path]:
    """What *step* makes; perhaps also what is below it."""
    uses = ("file", "folder", "made") if not isinstance(step, Packages) else ("read",)
    return [_below(root, place.text) for place in step.places() if place.use in uses]


def _below(root: Path, text: str) -> Path:
    return Path(os.path.normpath(root / text))


def _of_command(step: Command) -> Iterator[Finding]:
    words = words_of(step.run)
    for begin, (kind, why) in OWN_KINDS.items():
        if words[: len(begin)] == begin:
            text = f"{why}; operations of kind {kind!r} heal that"
            yield Finding(rule="own-kind", table="operation", field="run", text=text, cure=f'use kind = "{kind}"')
    if words[:1] == ("mkdir",) and "-p" not in step.run and step.creates is None:
        made = words[-1].rstrip("/")
        text = f"a second launch runs it again, and fails on {made}, which is there then"
        cure = f'set creates = "{made}", or a file in it that is made last'
        yield Finding(rule="no-creates", table="operation", field="run", text=text, cure=cure)


def words_of(run: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without options and without the interpreter of ``python -m``; programs by their names."""
    program, words = PurePath(run[0]).stem, list(run[1:])
    if program.startswith("python") and "-m" in words:
        program, *words = words[words.index("-m") + 1 :]
    return (program, *(word for word in words if not word.startswith("-")))


def texts_of(step: Operation) -> Iterator[tuple[str, str]]:
    """The keys and texts that are journalled: the words of a command as one text."""
    for field in step.__struct_fields__:
        value = getattr(step, field)
        if field in Operation.__struct_fields__:
            continue
        for one in value if isinstance(value, tuple) and field != "run" else (value,):
            match one:
                case str():
                    yield field, one
                case (str(), *_):
                    yield field, " ".join(one)
                case CommandWithUndo():
                    yield field, " ".join((*one.run, *one.undo))
