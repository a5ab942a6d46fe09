"""Launch plans in TOML, checked as a whole before anything begins. docs/reference/plans.md has each key."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import msgspec

from adapters.disk import read_plain
from adapters.launcher.document import KINDS, TABLES, Document, NotificationsTable, Step, WaitTable
from adapters.launcher.places import JOURNALS
from adapters.launcher.plan_checks import problems
from events.errors import Permanent
from recovery.configuration import breaker_of, policy_of, rules_of
from recovery.policies.backoff import Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.hosts import HOST_BREAKER
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import Rule
from recovery.serialization.secret import Secret
from recovery.suggestions import hint
from recovery.tables import TableError, described

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of a plan that are read."""

OPERATION = r"operation\[(\d+)\]"
"""The path of the table of an operation."""

RETRY = RetryPolicy(max_retries=5, backoff=Exponential(0.5))
"""What ``[retry]`` changes: for every operation of the plan, with the patience of a launch."""


class PlanError(Permanent):
    """A plan that cannot be run. The message is one line with the file, the key and the reason."""

    def __init__(self, path: Path, key: str, reason: str) -> None:
        super().__init__(f"{path}: {key}: {reason}" if key else f"{path}: {reason}")
        self.path = path
        self.key = key
        self.reason = reason


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that can be run: every destination is below its root, and no operation needs itself.

    Args:
        path: The file.
        root: The folder for destinations and commands, absolute.
        steps: The operations, in the order of the file.
        policy: When operations are retried.
        policies: Likewise, of the operations that have a ``retry`` of their own, by name.
        breaker: The circuit of each host.
        rules: Asked before the built-in rules.
        waits: How long operations wait for room on the disk, a host, and an answer.
        notifications: Where notifications go; None for nowhere.
        tokens: Where the token of a family of hosts is, by family.
        parallel: How many downloads run at a time.
        stall_timeout: Seconds without a byte after which a download has stalled.
        follow_links: Whether destinations may go through links that lead outside the root.
        orphans: What is done with a command that a killed launch left running: "wait" or "end".
    """

    path: Path
    root: Path
    steps: tuple[Step, ...]
    policy: RetryPolicy
    policies: Mapping[str, RetryPolicy] = {}
    breaker: BreakerPolicy
    rules: tuple[Rule, ...] = ()
    waits: WaitTable = WaitTable()
    notifications: NotificationsTable | None = None
    tokens: Mapping[str, Secret] = {}
    parallel: int
    stall_timeout: float
    follow_links: bool = False
    orphans: Literal["wait", "end"] = "wait"

    @property
    def journal(self) -> Path:
        """The default place of its journal: in ``.recovery`` beside the plan."""
        return self.path.parent / JOURNALS / f"{self.path.stem}.db"


def load_plan(path: Path) -> LaunchPlan:
    """Read and check a plan.

    Args:
        path: A TOML file.

    Raises:
        PlanError: The first problem found, with its key.
    """
    text = _text(path)
    try:
        document = msgspec.toml.decode(text, type=Document)
        policy = policy_of(document.retry, RETRY, "retry")
        policies = {
            step.name: policy_of(step.retry, policy, f"operation[{number}].retry")
            for number, step in enumerate(document.operation)
            if step.retry
        }
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
    for key, reason in problems(document, root, (path.resolve(), (path.parent / JOURNALS).resolve())):
        raise PlanError(path, key, reason)
    return LaunchPlan(
        path=path,
        root=root,
        steps=document.operation,
        policy=policy,
        policies=policies,
        breaker=breaker,
        rules=rules,
        waits=document.wait,
        notifications=document.notifications,
        tokens={family: Secret(reference) for family, reference in document.tokens.items()},
        parallel=document.download.parallel,
        stall_timeout=document.download.stall_timeout,
        follow_links=document.download.follow_links,
        orphans=document.launch.orphans,
    )


def _text(path: Path) -> bytes:
    """The bytes of the file at *path*, which are UTF-8 without a byte order mark."""
    try:
        text = read_plain(path.resolve(), MOST_BYTES).removeprefix(codecs.BOM_UTF8)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        raise PlanError(path, "", getattr(error, "strerror", None) or str(error)) from error
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PlanError(path, "", "is in UTF-16, and TOML is in UTF-8: save it as UTF-8")
    return text


def _where(message: str, text: bytes) -> tuple[str, str]:
    """The key and the reason in a message of msgspec about *text*, which may end in ``- at `$.path```."""
    reason, _, at = message.partition(" - at `$")
    key = at.rstrip("`").lstrip(".")
    if match := re.match(r"Object missing required field `(.+)`", reason):
        return f"{key}.{match[1]}".lstrip("."), "is missing"
    if match := re.match(r"Object contains unknown field `(.+)`", reason):
        return f"{key}.{match[1]}".lstrip("."), _unknown(match[1], key, text)
    if match := re.match(r"Invalid value '(.*)'", reason):
        meant = hint(match[1], tuple(KINDS))
        return key, f"there is no kind {match[1]!r}; {meant.replace('it has', 'a plan has')}"
    if match := re.match(r"Invalid enum value '(.*)'", reason):
        table, _, field = re.sub(r"\[.*\]$", "", key).rpartition(".")
        value = get_type_hints(_table_at(table, text))[field]
        value = get_args(value)[0] if key.endswith("]") else value  # of a list, one of its items
        return key, f"must be {described(value)}, not {match[1]!r}"
    if match := re.match(r"(\w+) (must be .+)", reason):  # of a table's own checks
        return f"{key}.{match[1]}", match[2]
    return key, reason[:1].lower() + reason[1:]


def _table_at(table: str, text: bytes) -> type[msgspec.Struct]:
    """The type of the *table* at that path in *text*."""
    if match := re.fullmatch(OPERATION, table):
        return KINDS[tomllib.loads(text.decode())["operation"][int(match[1])]["kind"]]
    return TABLES[re.sub(r"\[\d+\]", "", table)]


def _unknown(name: str, table: str, text: bytes) -> str:
    """Why the key *name* is not in the *table* at that path in *text*, and which key or table was meant."""
    known = _table_at(table, text).__struct_fields__
    if re.fullmatch(OPERATION, table):
        known = ("kind", *known)
    suggestion = hint(name, known)
    if suggestion.startswith("it has "):
        homes = [
            f"[{key}] has it" for key, one in TABLES.items() if key.isidentifier() and name in one.__struct_fields__
        ]
        homes += [
            f"operations of kind {kind!r} have it" for kind, one in KINDS.items() if name in one.__struct_fields__
        ]
        suggestion = homes[0] if homes else suggestion
    return f"there is no such key; {suggestion}"
