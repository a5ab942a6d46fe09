"""What is wrong with the operations of a plan that can be run: commands that fail when run again, secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.launcher.document import Command, Step
from recovery.lint import Finding
from recovery.redact import redact

ONCE = (("git", "clone"), ("mkdir",))
"""How commands begin that fail where what they make is there."""


def lint_steps(steps: Sequence[Step]) -> Iterator[tuple[Step, Finding]]:
    """The findings about *steps*, each with its step."""
    for step in steps:
        if isinstance(step, Command):
            if (made := _made_once(step.run)) is not None and step.creates is None:
                text = f"a second launch runs it again, and fails on {made}, which is there then"
                yield step, Finding(
                    rule="no-creates", table="operation", field="run", text=text,
                    cure=f'set creates = "{made}", or a file in it that is made last',
                )  # fmt: skip
            texts, cure = {" ".join(step.run): "run"}, "pass it by env, from a variable of the launcher"
        else:
            texts = {**dict.fromkeys(step.mirrors, "mirrors"), step.url: "url"}
            cure = "name the variable that holds the token in [tokens]"
        for said, field in texts.items():
            if (shown := redact(said)) != said:
                text = f"it holds what looks like a secret, which is journalled: {shown}"
                yield step, Finding(rule="secret-in-plan", table="operation", field=field, text=text, cure=cure)


def _made_once(run: Sequence[str]) -> str | None:
    """What the command *run* makes, if it fails where that is there; None for any other command."""
    words = [word for word in run if not word.startswith("-")]
    if "-p" in run or not any(tuple(words[: len(begin)]) == begin for begin in ONCE):
        return None
    last = words[-1].rstrip("/")
    return last.rpartition("/")[2].removesuffix(".git") if "://" in last or last.startswith("git@") else last
