"""Write docs/reference/cli.md from the commands, from what they print of one journal, and from the types of their JSON.

python -m tests.docs.cli_page        # also docs/pictures/status.svg
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click
import msgspec

from adapters.cli.answer import Answered
from adapters.cli.command import cli
from adapters.cli.incidents import IncidentRow
from adapters.cli.worker import WorkerEnded, WorkerStarted
from adapters.demo.report import Report as DemoReport
from adapters.inspection import Inspection
from adapters.journals.answering import Question
from adapters.journals.export import Exported
from adapters.journals.history import HistoryLine
from adapters.journals.prune import Removed
from adapters.journals.report import Report
from adapters.journals.status import CallStatus, JournalStatus
from adapters.journals.steering import Steered, SteeredBy
from adapters.journals.verify import Verified
from adapters.journals.why import Why
from adapters.launcher.launch import Outcome
from adapters.nats.status import ClusterStatus
from adapters.web.serve import Opened
from tests.adapters.cli.picture import draw
from tests.adapters.cli.snapshots import COMMANDS, journal_of_a_launch, printed, write_all, written
from tests.adapters.nats.practice_cluster import URL
from tests.docs.plans_page import meanings

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "cli.md"
BEGIN = "<!-- `make cli` writes what follows from the commands and the types of their JSON -->\n"


class Outcomes(msgspec.Struct):
    """How a launch ended: the last line that `recovery run --json` prints.

    Args:
        outcomes: How each operation ended, by its name in the plan.
    """

    outcomes: dict[str, Outcome]


class Whys(msgspec.Struct):
    """Why calls are not done.

    Args:
        calls: The latest calls that failed, wait or were left.
        more: How many more of them there are.
    """

    calls: list[Why]
    more: int


class Calls(msgspec.Struct):
    """The latest calls of a journal.

    Args:
        path: The journal's file.
        calls: The calls; the latest is the last.
    """

    path: str
    calls: list[CallStatus]


class History(msgspec.Struct):
    """The events of one call.

    Args:
        path: The journal's file.
        call: The id of the call.
        name: What people know it by.
        events: Its events, in time order.
    """

    path: str
    call: str
    name: str
    events: list[HistoryLine]


class SteeredCalls(msgspec.Struct):
    """What became of a command.

    Args:
        command: The command.
        calls: What became of it with each call.
        more: How many calls were chosen beyond `--limit`, and not commanded.
    """

    command: SteeredBy
    calls: list[Steered]
    more: int


class Incidents(msgspec.Struct):
    """The incidents of a journal.

    Args:
        incidents: Those that are open; with `--all` also those that have ended.
    """

    incidents: list[IncidentRow]


class Questions(msgspec.Struct):
    """The open questions of a journal.

    Args:
        questions: The questions.
    """

    questions: list[Question]


class Sentences(msgspec.Struct):
    """The sentences about failures.

    Args:
        next: What happens next, by where the call stands.
        causes: Of each cause its `sentence`, its `step` and what happens by `itself`.
    """

    next: dict[str, str]
    causes: dict[str, dict[str, str]]


SHAPES: dict[str, type[msgspec.Struct]] = {
    "outcomes": Outcomes,
    "status": JournalStatus,
    "why": Why,
    "whys": Whys,
    "calls": Calls,
    "history": History,
    "steered": SteeredCalls,
    "incidents": Incidents,
    "answer": Answered,
    "questions": Questions,
    "report": Report,
    "exported": Exported,
    "pruned": Removed,
    "verified": Verified,
    "sentences": Sentences,
    "check": Inspection,
    "demo": DemoReport,
    "web": Opened,
    "cluster": ClusterStatus,
    "worker": WorkerStarted,
    "worker-ended": WorkerEnded,
}
"""The type of each shape of JSON by its name; each has version 1."""
EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": ("recovery run launch.toml",),
    "status": (
        "recovery status launch.toml",
        "recovery status launch.toml --watch",
        f"recovery status --cluster {URL}",
    ),
    "why": (
        "recovery why launch.toml sdxl",
        "recovery why launch.toml",
        f"recovery why --cluster {URL} render/waiting",
    ),
    "history": ("recovery history launch.toml sdxl",),
    "retry": (
        "recovery retry launch.toml comfy",
        "recovery retry launch.toml --host git.example.org --yes",
        f"recovery retry --cluster {URL} waiting",
    ),
    "again": ("recovery again launch.toml sdxl", "recovery again launch.toml --failed --yes"),
    "pause": ('recovery pause launch.toml plugin --reason "I need the network"',),
    "unpause": ("recovery unpause launch.toml plugin",),
    "give-up": ("recovery give-up launch.toml 1a2b3c4d-3",),
    "cancel": ("recovery cancel launch.toml 1a2b3c4d-3",),
    "reset": ("recovery reset launch.toml plugin",),
    "edit": ("recovery edit launch.toml plugin --set max_retries=20",),
    "move": (f"recovery move --cluster {URL} render/bound --to any",),
    "worker": (f"recovery worker --cluster {URL} --node gpu-a --concurrency 2 farm.jobs:service",),
    "incidents": ("recovery incidents launch.toml", "recovery incidents launch.toml --probe mirror.example.org"),
    "answer": ("recovery answer launch.toml", "recovery answer launch.toml token:huggingface.co --from env:HF_TOKEN"),
    "report": ("recovery report launch.toml", "recovery report launch.toml --since 7d"),
    "export": ("recovery export launch.toml --output bug.zip",),
    "prune": ("recovery prune launch.toml --older-than 1d", "recovery prune launch.toml --keep 1"),
    "verify": ("recovery verify launch.toml",),
    "check": ("recovery check launch.toml",),
    "web": ("recovery web launch.toml", f"recovery web --cluster {URL}"),
    "sentences": ("recovery sentences", "recovery --sentences deutsch.toml sentences"),
    "demo": ("recovery demo", "recovery demo --serve"),
}
"""What to type, by verb. What a command of the snapshots or a verb of ``CHANGES`` prints follows."""
CHANGES = ("retry", "again", "pause", "unpause", "give-up", "cancel", "reset", "edit", "prune", "move")
"""Verbs that change the journal: each example begins with that of the snapshots."""
AS_JSON = ("recovery history launch.toml warm-up --json", "recovery incidents launch.toml --json")
"""Examples of JSON."""
NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}


def verbs() -> Iterator[tuple[str, click.Command]]:
    """The verbs in the order in which they were added; those of groups follow theirs."""
    for name, command in cli.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {one}", part) for one, part in command.commands.items())


def page() -> str:
    """What is made from the commands and the types."""
    structs: dict[str, type[msgspec.Struct]] = {}
    shapes = "".join(f"\n### {name}/1\n\n{_described(kind, structs)}" for name, kind in SHAPES.items())
    done: set[str] = set()
    nested = ""
    while left := [one for one in structs if one not in done]:
        done.add(left[0])
        nested += f"\n### Part {left[0]}\n\n{_described(structs[left[0]], structs)}"
    text = "".join(_verb(name, command) for name, command in verbs())
    return (
        f"\n## Exit codes\n\n{ABOUT_EXIT_CODES}{_exit_codes()}{text}"
        f"\n## JSON\n\n{INTRODUCTION}\n{_in_json()}{shapes}\n## Parts of the JSON\n{nested}"
    )


ABOUT_EXIT_CODES = (
    "0 means that it is done, shown or sound; 1 that something failed, was refused, was not found, or waits for the "
    "next process; 2 that the command was used wrongly, the plan is wrong, or there is no journal: nothing was begun. "
    "Ctrl-C ends any verb but `web` with 130. Any verb ends with 1 if there is no room for what it prints.\n\n"
)


def exit_codes(command: click.Command) -> dict[int, str]:
    """The exit codes that the help of *command* tells, each with its meaning."""
    told = " ".join((command.help or "").split()).partition("Exit codes: ")[2].partition(".")[0]
    return {int(code): meaning for code, meaning in re.findall(r"(?:^|, )(\d+) (.*?)(?=, \d+ |$)", told)}


def _exit_codes() -> str:
    """The table of all exit codes."""
    told = {name: exit_codes(one) for name, one in verbs() if not isinstance(one, click.Group)}
    codes = sorted({code for one in told.values() for code in one})
    rows = [
        f"| [{name}](#{name}) | {' | '.join(one.get(code, '') for code in codes)} |\n" for name, one in told.items()
    ]
    return f"| verb | {' | '.join(map(str, codes))} |\n|---|{'---|' * len(codes)}\n{''.join(rows)}"


INTRODUCTION = (
    "Each verb prints a line of JSON with `--json`: an object whose first member is its format, such as "
    '`"format": "status/1"`. A new member does not change the number; a member that goes or changes its meaning does. '
    "So a program ignores members that it does not know. Times are Unix times, spans are seconds.\n"
)


def _in_json() -> str:
    """The examples of JSON, one member a line as `jq` prints them."""
    text = ""
    for example in AS_JSON:
        with journal_of_a_launch():
            said = msgspec.json.format(printed(tuple(shlex.split(example)[1:]), "80"), indent=2)
        text += f"```console\n$ {example} | jq\n{said.strip()}\n```\n"
    return text


def _verb(name: str, command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    help_ = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    lines = []
    for example in EXAMPLES.get(name, ()):
        lines.append(f"$ {example}")
        words = tuple(shlex.split(example)[1:])
        known = next((one for one, snapshot in COMMANDS.items() if snapshot == words), None)
        if known is not None:
            lines += written(known, "80").read_text("utf-8").splitlines()
        elif name in CHANGES:
            with journal_of_a_launch():
                lines += printed(words, "80").splitlines()
    options = [one for one in command.params if isinstance(one, click.Option) and one.help]
    table = "".join(f"| {_option(one)} | {one.help}{_values(one)} |\n" for one in options)
    text = "\n".join(lines)
    return f"\n## {name}\n\n{help_}\n\n```console\n{text}\n```\n\n| option | |\n|---|---|\n{table}"


def _option(option: click.Option) -> str:
    metavar = "" if option.is_flag else f" {option.metavar or (option.name or '').upper()}"
    return f"`{', '.join(option.opts)}{metavar}`".replace("|", "\\|")


def _values(option: click.Option) -> str:
    """What *option* takes of a few values, and what it is if it is not given."""
    text = ""
    if isinstance(option.type, click.Choice):
        text = f" One of {', '.join(f'`{one}`' for one in option.type.choices)}."
    if option.show_default:
        default = f"{option.default:g}" if isinstance(option.default, float) else option.default
        text += f" Default: `{default}`."
    return text


def _described(struct: type[msgspec.Struct], structs: dict[str, type[msgspec.Struct]]) -> str:
    """What *struct* is, and the table of its members."""
    said = members_of(struct)
    rows = [f"| `{name}` | {_type(kind, structs)} | {said.get(name, '')} |\n" for name, kind in _of(struct).items()]
    about = _in_markdown((inspect.getdoc(struct) or "").partition("\nArgs:")[0]).strip()
    return f"{about}\n\n| member | value | meaning |\n|---|---|---|\n{''.join(rows)}"


def _of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(struct)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(struct)}


def members_of(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring of *struct*, and those of its bases, say of its members."""
    kinds = [one for one in reversed(struct.__mro__) if "\nArgs:" in inspect.cleandoc(one.__doc__ or "")]
    return {name: _in_markdown(said) for kind in kinds for name, said in meanings(kind).items()}


def _in_markdown(text: str) -> str:
    return re.sub(r"(?<![\w*])\*([\w ]+)\*", r"`\1`", text).replace("``", "`")


def _type(kind: Any, structs: dict[str, type[msgspec.Struct]]) -> str:
    """What JSON has for a value of that *kind*; notes the structs in it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one, structs) for one in inner))
    if origin is Literal:
        return " or ".join(f"`{msgspec.json.encode(one).decode()}`" for one in inner)
    if origin is dict:
        return f"object of: {_type(inner[1], structs)}"
    if origin in (list, tuple, set, frozenset):
        return f"list of: {_type(inner[0], structs)}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        structs.setdefault(kind.__name__, kind)
        return f"[{kind.__name__}](#part-{kind.__name__.lower()})"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f'`"{member.value}"`' for member in kind)
    return NAMES.get(kind, "any JSON")


if __name__ == "__main__":
    write_all()
    draw()
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + page(), encoding="utf-8")
