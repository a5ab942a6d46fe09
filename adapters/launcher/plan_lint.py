"""What is wrong with the operations of a plan that can be run: commands that fail when run again, secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adapters.launcher.document import Step
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.kinds.operation import Operation
from recovery.lint import Finding
from recovery.redact import redact

ONCE = (("git", "clone"), ("mkdir",))
"""How commands begin that fail where what they make is there."""


CURES: Mapping[type[Operation], str] = {Download: "name the variable that holds the token in [tokens]"}
"""How a secret is given, by the kind of the operation."""


def lint_steps(steps: Sequence[Step]) -> Iterator[tuple[Step, Finding]]:
    """The findings about *steps*, each with its step."""
    for step in steps:
        if isinstance(step, Command) and step.creates is None and (made := _made_once(step.run)) is not None:
            text = f"a second launch runs it again, and fails on {made}, which is there then"
            yield step, Finding(
                rule="no-creates", table="operation", field="run", text=text,
                cure=f'set creates = "{made}", or a file in it that is made last',
            )  # fmt: skip
        cure = CURES.get(type(step), "pass it by env, from a variable of the launcher")
        for field, said in texts_of(step):
            if (shown := redact(said)) != said:
                text = f"it holds what looks like a secret, which is journalled: {shown}"
                yield step, Finding(rule="secret-in-plan", table="operation", field=field, text=text, cure=cure)


def texts_of(step: Operation) -> Iterator[tuple[str, str]]:
    """The keys and texts that are journalled: the words of a command as one text."""
    for field in step.__struct_fields__:
        value = getattr(step, field)
        if field == "run":
            yield field, " ".join(value)
        elif field not in Operation.__struct_fields__:
            yield from (
                (field, text) for text in (value if isinstance(value, tuple) else (value,)) if isinstance(text, str)
            )


def _made_once(run: Sequence[str]) -> str | None:
    """What the command *run* makes, if it fails where that is there; None for any other command."""
    words = [word for word in run if not word.startswith("-")]
    if "-p" in run or not any(tuple(words[: len(begin)]) == begin for begin in ONCE):
        return None
    last = words[-1].rstrip("/")
    return last.rpartition("/")[2].removesuffix(".git") if "://" in last or last.startswith("git@") else last
