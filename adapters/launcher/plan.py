"""Launch plans in TOML, checked as a whole before anything begins.

root = "models"                 # the folder of destinations; relative to the plan, by default its folder

[retry]                         # RetryPolicy, for every operation of the plan
max_retries = 5

[circuit]                       # BreakerPolicy: one circuit per host, for attempts that do not reach it
failure_threshold = 5           # such attempts in a row, of all downloads from the host, open it
break_duration = 10.0

[[rule]]                        # Rule, asked before the built-in rules
exit_codes = [75]
category = "transient"

[download]
parallel = 4                    # at a time
stall_timeout = 60.0            # seconds without a byte

[[operation]]
name = "model"
kind = "download"
url = "https://example.org/model.safetensors"
destination = "checkpoints/model.safetensors"
sha256 = "…"                    # optional, as is size

[[operation]]
name = "requirements"
kind = "command"
run = ["pip", "install", "-r", "requirements.txt"]
needs = ["model"]
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from adapters.disk import read_plain
from adapters.downloads.names import files_of
from adapters.launcher.limits import too_long, wrong_url
from events.errors import Permanent
from recovery import validation
from recovery.configuration import breaker_of, policy_of, rules_of
from recovery.policies.backoff import Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.hosts import HOST_BREAKER
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import Rule
from recovery.suggestions import hint
from recovery.tables import TableError

JOURNALS = ".recovery"
"""The folder beside a plan that holds its journal and its commands' output."""


MOST_BYTES = 16 * 1024 * 1024
"""Bytes of a plan that are read."""


class PlanError(Permanent):
    """A plan that cannot be run. The message is one line with the file, the key and the reason."""

    def __init__(self, path: Path, key: str, reason: str) -> None:
        super().__init__(f"{path}: {key}: {reason}" if key else f"{path}: {reason}")
        self.path = path
        self.key = key
        self.reason = reason


RETRY = RetryPolicy(max_retries=5, backoff=Exponential(0.5))
"""What ``[retry]`` changes: for every operation of the plan, with the patience of a launch."""


class DownloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[download]``: how many run at a time, and after how many seconds without a byte one has stalled."""

    parallel: int = 4
    stall_timeout: float = 60.0

    def __post_init__(self) -> None:
        validation.whole("parallel", self.parallel, least=1)
        validation.number("stall_timeout", self.stall_timeout, above=0.0)


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """What all operations have: a name, and the names of those that must be done before."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    needs: tuple[str, ...] = ()


class Download(Operation, frozen=True, kw_only=True, tag="download"):
    """Download *url* to *destination*, below the plan's root."""

    url: str
    destination: str
    sha256: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Command(Operation, frozen=True, kw_only=True, tag="command"):
    """Run a program without a shell, in *cwd* below the plan's root. It may run more than once."""

    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    cwd: str = "."


Step: TypeAlias = Download | Command


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML document."""

    operation: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1)]
    root: str = "."
    retry: dict[str, Any] = {}
    circuit: dict[str, Any] = {}
    download: DownloadTable = DownloadTable()
    rule: tuple[dict[str, Any], ...] = ()


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that can be run.

    *root* is absolute, every destination and folder is below it, and no operation needs itself. *version* changes with
    every byte of the file.
    """

    path: Path
    root: Path
    steps: tuple[Step, ...]
    policy: RetryPolicy
    breaker: BreakerPolicy
    rules: tuple[Rule, ...] = ()
    parallel: int
    stall_timeout: float

    @property
    def journal(self) -> Path:
        """The default place of its journal: in ``.recovery`` beside the plan."""
        return self.path.parent / JOURNALS / f"{self.path.stem}.db"

    def place(self, destination: str) -> Path:
        """*destination* as an absolute path, with its links followed as they are now.

        Raises PlanError if that is outside the root: what ran since the plan was loaded may have made a link.
        """
        place = (self.root / destination).resolve()
        if not place.is_relative_to(self.root):
            raise PlanError(self.path, "", f"{destination!r} leads outside the plan's root by now, to {place}")
        return place


def load_plan(path: Path) -> LaunchPlan:
    """Read and check the plan at *path*. Raises PlanError for the first problem found."""
    try:
        text = read_plain(path.resolve(), MOST_BYTES).removeprefix(codecs.BOM_UTF8)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        raise PlanError(path, "", getattr(error, "strerror", None) or str(error)) from error
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PlanError(path, "", "is in UTF-16, and TOML is in UTF-8: save it as UTF-8")
    try:
        document = msgspec.toml.decode(text, type=Document)
        policy = policy_of(document.retry, RETRY, "retry")
        breaker = breaker_of(document.circuit, HOST_BREAKER, "circuit")
        rules = rules_of(document.rule)
    except TableError as error:
        raise PlanError(path, error.key, error.reason) from error
    except msgspec.ValidationError as error:
        raise PlanError(path, *_where(str(error), text)) from error
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(path, "", f"not TOML: {error}") from error
    try:
        root = (path.parent / document.root).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise PlanError(path, "root", f"{document.root!r} is no place: {error}") from error
    for key, reason in chain(_wrong_needs(document.operation), _wrong_places(path, root, document.operation)):
        raise PlanError(path, key, reason)
    return LaunchPlan(
        path=path,
        root=root,
        steps=document.operation,
        policy=policy,
        breaker=breaker,
        rules=rules,
        parallel=document.download.parallel,
        stall_timeout=document.download.stall_timeout,
    )


def _where(message: str, text: bytes) -> tuple[str, str]:
    """The key and the reason in a message of msgspec about *text*, which may end in ``- at `$.path```."""
    reason, _, at = message.partition(" - at `$")
    key = at.rstrip("`").lstrip(".")
    if match := re.match(r"Object missing required field `(.+)`", reason):
        return f"{key}.{match[1]}".lstrip("."), "is missing"
    if match := re.match(r"Object contains unknown field `(.+)`", reason):
        return f"{key}.{match[1]}".lstrip("."), f"there is no such key; {hint(match[1], _known_keys(key, text))}"
    if match := re.match(r"Invalid value '(.*)'", reason):
        return key, f"unknown kind {match[1]!r}; 'download' or 'command'"
    if match := re.match(r"(\w+) (must be .+)", reason):  # of ``DownloadTable``
        return f"{key}.{match[1]}", match[2]
    return key, reason[:1].lower() + reason[1:]


def _known_keys(table: str, text: bytes) -> tuple[str, ...]:
    """The keys of the *table* at that path in *text*."""
    if number := re.fullmatch(r"operation\[(\d+)\]", table):
        kind = tomllib.loads(text.decode())["operation"][int(number[1])]["kind"]
        return ("kind", *(Download if kind == "download" else Command).__struct_fields__)
    return (DownloadTable if table == "download" else Document).__struct_fields__


# These checks yield each problem as its key and reason. Only the first is reported, and may be the cause of the others.


def _wrong_needs(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    numbers: dict[str, int] = {}
    for number, step in enumerate(steps):
        first = numbers.setdefault(step.name, number)
        if first != number:
            yield f"operation[{number}].name", f"{step.name!r} is operation[{first}] already"
    for number, step in enumerate(steps):
        for need in step.needs:
            if need not in numbers:
                yield f"operation[{number}].needs", f"there is no operation {need!r}"
    try:
        TopologicalSorter({step.name: step.needs for step in steps}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        first = min(numbers[name] for name in cycle)
        yield f"operation[{first}].needs", f"a cycle: {' -> '.join(reversed(cycle))}"


def _wrong_places(path: Path, root: Path, steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    ours = (path.resolve(), (path.parent / JOURNALS).resolve())
    taken: dict[Path, int] = {}
    for number, step in enumerate(steps):
        field, text = ("destination", step.destination) if isinstance(step, Download) else ("cwd", step.cwd)
        key = f"operation[{number}].{field}"
        try:
            place = (root / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, a name too long, links in a circle
            yield key, f"{text!r} is no place: {error}"
            continue
        if not place.is_relative_to(root):  # when links are followed
            yield key, f"{text!r} is outside the plan's root, {root}"
        files = files_of(place) if isinstance(step, Download) else (place,)
        if (reason := too_long(place, files)) is not None:
            yield key, reason
        if isinstance(step, Command):
            if not step.run[0] or any("\0" in word for word in step.run):
                yield f"operation[{number}].run", "names no program, or has a null character, which no system passes on"
            continue
        if place == root:
            yield key, f"{text!r} is the plan's root itself"
        if any(place.is_relative_to(one) for one in ours):
            yield key, f"{text!r} is where the plan and its journal are"
        if place != root and place.is_dir():
            yield key, f"{text!r} is a folder that is there"
        for file in files:
            first = taken.setdefault(file, number)
            if first != number:
                yield key, f"{text!r} is in the way of operation[{first}]'s destination"
        for field, reason in _wrong_source(step):
            yield f"operation[{number}].{field}", reason
    for file, number in taken.items():
        for parent in file.parents:
            if parent in taken:
                yield f"operation[{number}].destination", f"is below operation[{taken[parent]}]'s, which is a file"


def _wrong_source(step: Download) -> Iterator[tuple[str, str]]:
    if (reason := wrong_url(step.url)) is not None:
        yield "url", f"{step.url!r} {reason}"
    if step.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", step.sha256):
        yield "sha256", "must be 64 hex digits"
