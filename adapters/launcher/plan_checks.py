"""What is wrong with a plan whose tables are well-formed: its tokens, needs, paths and values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

from adapters.launcher.document import Document, NotificationsTable, Step
from adapters.launcher.kinds.comfyui import ComfyUI
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.held_servers import PLACE
from adapters.launcher.kinds.operation import Problem
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.limits import wrong_family, wrong_reference, wrong_secret
from adapters.launcher.plan_places import key_of, wrong_places
from recovery.redact import redact
from recovery.suggestions import hint


def problems(document: Document, root: Path, ours: Sequence[Path]) -> Iterator[Problem]:
    """Each problem as its key and reason. The first may be the cause of the others.

    Args:
        document: The plan.
        root: Its root, with its links followed.
        ours: The plan's file and its journal's folder.
    """
    steps = document.operation
    yield from _wrong_tokens(document.tokens)
    if document.notifications is not None:
        yield from _wrong_notifications(document.notifications)
    yield from _servers_of_prompts(steps)
    yield from _wrong_needs(steps)
    before = needed_before(steps)
    yield from _equal_commands(steps, before)
    yield from wrong_places(root, steps, ours, before, follow_links=document.download.follow_links)
    for number, step in enumerate(steps):
        for field, reason in chain(step.problems(), _unknown_servers(step, steps)):
            yield key_of(number, field), reason


def _wrong_tokens(tokens: Mapping[str, str]) -> Iterator[Problem]:
    for family, reference in tokens.items():
        if (reason := wrong_family(family) or wrong_reference(reference)) is not None:
            yield f"tokens.{family}", reason


def _wrong_notifications(table: NotificationsTable) -> Iterator[Problem]:
    if table.webhook is not None and (reason := wrong_secret(table.webhook)) is not None:
        yield "notifications.webhook", reason
    if (shown := redact(words := " ".join(table.command))) != words:
        cure = "let the program read it from a variable or a file"
        yield (
            "notifications.command",
            f"holds what looks like a secret ({shown}), and a plan is no place for one: {cure}",
        )


def _servers_of_prompts(steps: Sequence[Step]) -> Iterator[Problem]:
    """The servers of prompts that are none, said before what is wrong with needs, which have them."""
    servers = {step.name for step in steps if isinstance(step, ComfyUI)}
    for number, step in enumerate(steps):
        if isinstance(step, Prompt) and step.server not in servers:
            near = _near(step.server, servers)
            yield key_of(number, "server"), f"there is no operation {step.server!r} of kind 'comfyui'{near}"


def _wrong_needs(steps: Sequence[Step]) -> Iterator[Problem]:
    numbers: dict[str, int] = {}
    for number, step in enumerate(steps):
        first = numbers.setdefault(step.name, number)
        if first != number:
            yield key_of(number, "name"), f"{step.name!r} is operation[{first}] already"
    for number, step in enumerate(steps):
        for need in step.needs:
            if need not in numbers:
                yield key_of(number, "needs"), f"there is no operation {need!r}{_near(need, numbers)}"
    try:
        TopologicalSorter({step.name: step.needs for step in steps}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        first = min(numbers[name] for name in cycle)
        yield key_of(first, "needs"), f"a cycle: {' -> '.join(reversed(cycle))}"


def _unknown_servers(step: Step, steps: Sequence[Step]) -> Iterator[Problem]:
    """Places for the address of what is no server, or none that *step* needs."""
    servers = {one.name for one in steps if one.LASTS}
    for server, what in PLACE.findall(" ".join(getattr(step, "run", ()))):
        if server in servers:
            cure = f'set env = {{ SERVER = "{{{server}.{what}}}" }}, and let the program read that'
            yield "run", f"{{{server}.{what}}} is known in env alone: {cure}"
    for name, value in step.variables.items():
        for server, what in PLACE.findall(value):
            if server not in servers:
                yield f"env.{name}", f"{{{server}.{what}}}: there is no server {server!r}{_near(server, servers)}"
            elif server not in step.needs:
                yield (
                    f"env.{name}",
                    f"{{{server}.{what}}} is of a server that it does not need: add {server!r} to needs",
                )


def _near(name: str, known: Collection[str]) -> str:
    """Which of the names *known* was perhaps meant by *name*, for the end of a message."""
    meant = hint(name, known)
    return f"; {meant}" if meant.startswith("did you mean") else ""


def needed_before(steps: Sequence[Step]) -> dict[str, set[str]]:
    """The operations that end before each one begins, by name."""
    needs, before = {step.name: step.needs for step in steps}, dict[str, set[str]]()
    for name in TopologicalSorter(needs).static_order():
        before[name] = {*needs[name], *chain.from_iterable(before[need] for need in needs[name])}
    return before


def _equal_commands(steps: Sequence[Step], before: Mapping[str, set[str]]) -> Iterator[Problem]:
    """Commands that are the same and may run at once, of which a launcher rejects the second."""
    equal: dict[tuple[tuple[str, ...], Path], list[int]] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Command):
            others = equal.setdefault((step.run, Path(step.cwd)), [])
            for other in others:
                if steps[other].name not in before[step.name] and step.name not in before[steps[other].name]:
                    reason = f"is the command of operation[{other}], in the same folder; let one of them need the other"
                    yield key_of(number, "run"), reason
            others.append(number)
