"""What is in force for each operation of a plan, a service or a configuration file, and what is wrong with it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from adapters.downloads.sources import url_of
from adapters.launcher.document import Document
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.launch import Launch
from adapters.launcher.plan import LaunchPlan, load_plan
from adapters.launcher.plan_lint import lint_programs, lint_steps, lint_workflows
from adapters.memory import MemoryStore
from adapters.named_service import TargetError, import_service
from adapters.toml_lines import Lines
from events.callables import name_of
from recovery.configuration import ALONE, options_of
from recovery.explain import duration
from recovery.lint import Finding, lint, longest_delay, longest_failure
from recovery.operations import Definition
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.hosts import host_of
from recovery.policies.retry import RetryPolicy
from recovery.redact import brief
from recovery.service import Recovery
from recovery.settings import OperationConfig
from recovery.settings_check import Defaults, make_config

WhereOf = Callable[[str, str], str]
"""Finds the place of a field, by its table and name: ``launch.toml:12``."""


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force for calls that share a circuit.

    Args:
        names: The operation, or the steps of the plan.
        where: Where that is written.
        key: The key that they share, or the function that makes it; "" for none.
        retries: How often; ``None`` for no limit.
        delays: The longest delay before the first retry and before the last one, in seconds.
        fails_within: Seconds after which a call has given up that always fails; ``None`` if it need not give up.
        circuit: When it opens, for how long, and what it does to calls; empty for none.
        durability: What is journalled.
        settings: Everything that is in force.
    """

    names: tuple[str, ...]
    where: str
    key: str
    retries: int | None
    delays: tuple[float, float]
    fails_within: float | None
    circuit: tuple[str, ...]
    durability: str
    settings: dict[str, Any]


class Found(Finding, frozen=True, kw_only=True):
    """A finding, with its place.

    Args:
        operation: The operations that it is about.
        where: Where the value is written.
    """

    operation: str
    where: str


class Inspection(msgspec.Struct, frozen=True):
    """What is in force, and the findings.

    Args:
        operations: What is in force for each operation, or for those that share a circuit.
        findings: What is wrong.
    """

    operations: tuple[InForce, ...]
    findings: tuple[Found, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that share a circuit: what to examine. Those of a server last as long as the launch, and need no limit."""

    names: tuple[str, ...]
    what: str
    config: OperationConfig
    where: WhereOf
    calls: int | None = None
    key: str = ""
    needs_limit: bool = True


def inspect(target: str) -> Inspection:
    """Inspect *target*: a plan, a configuration file, or ``module:service``.

    Raises:
        PlanError: A wrong plan.
        ConfigurationError: A wrong configuration file.
        TargetError: Nothing of that name.
    """
    path = Path(target)
    if target.partition(":")[0].endswith(".py"):
        module = target.partition(":")[0].removesuffix(".py").replace(os.sep, ".").strip(".")
        raise TargetError(f"{target}: a service is named by its module, not by its file: {module}:service")
    if path.suffix == ".toml" or path.is_file():
        if not _is_plan(path):
            return _inspected(_of_file(path))
        plan = load_plan(path)
        return _inspected(_of_plan(plan), _of_steps(plan))
    if ":" not in target:
        raise TargetError(
            f"{target}: there is no such file; a service is named module:service, as in shop.jobs:service"
        )
    service = import_service(target)
    return _inspected(_of_service(service), _unknown(service))


def _is_plan(path: Path) -> bool:
    """Whether the file is a plan rather than a configuration: it has a list of operations, or tables of plans alone."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return True  # ``load_plan`` says what is wrong
    tables = set(Document.__struct_fields__) - {"operation", "rule"}
    return isinstance(document.get("operation"), list) or bool(tables & set(document))


def _of_plan(plan: LaunchPlan) -> Iterator[Group]:
    service = Recovery(store=MemoryStore())
    _launch = Launch(plan, service, logs=plan.root)  # its functions define the operations
    configs = {owner.operation.name: owner.config for owner in _owners(service)}
    steps: dict[tuple[str, str], list[str]] = {}
    for step in plan.steps:
        key = "" if step.url_of_circuit is None else host_of(url_of(step.url_of_circuit))
        for call in step.retried:
            steps.setdefault((call, key), []).append(step.name)
    lines = Lines(plan.path, {"policy": "retry", "breaker": "circuit"})
    held = {call for step in plan.steps if step.LASTS or isinstance(step, Prompt) for call in step.retried}
    for (operation, key), names in steps.items():
        yield Group(
            names=tuple(names),
            what=operation.partition(" ")[0],
            config=configs[operation],
            where=lines,
            calls=len(names) if key else None,
            key=key,
            needs_limit=operation not in held,
        )


def _of_steps(plan: LaunchPlan) -> Iterator[Found]:
    root, steps = plan.root, plan.steps
    for step, one in chain(lint_steps(steps), lint_programs(root, steps), lint_workflows(root, steps)):
        where = Lines(plan.path, {}).of_step(step.name)
        yield Found(**msgspec.structs.asdict(one), operation=step.name, where=where)


def _of_file(path: Path) -> Iterator[Group]:
    options = options_of(path)
    defaults = Defaults(**{name: options[name] for name in Defaults.__struct_fields__ if name in options})
    config = make_config({}, defaults=defaults, has_store=True)
    rules = {"classifiers": options.get("classifier", ())}
    config = msgspec.structs.replace(config, **rules)
    yield Group(names=("every operation",), what="any operation", config=config, where=Lines(path, {}))
    for name, settings in options.get("overrides", {}).items():
        try:
            config = make_config(settings, defaults=defaults, has_store=True)
        except ValueError:  # one needs what the code gives: ``remember`` an idempotency key, say
            alone: Any = {key: value for key, value in settings.items() if key in ALONE}
            config = make_config(alone, defaults=defaults, has_store=True)
        table = f'operation."{name}"'
        where = Lines(path, {"policy": table, "breaker": table, "budget": table})
        yield Group(names=(name,), what=name, config=config, where=where)


def _owners(service: Recovery) -> list[Definition]:
    owners = {
        id(owner): owner for one in service.bus.operations() if (owner := getattr(one, "owner", _none)()) is not None
    }
    return sorted(owners.values(), key=lambda one: str(one.operation.name))


def _of_service(service: Recovery) -> Iterator[Group]:
    for owner in _owners(service):
        config = owner.config
        if config.durability is None:
            config = msgspec.structs.replace(config, durability="lazy" if service.journal is not None else "off")
        name, key = owner.operation.name, "" if config.key is None else name_of(config.key)
        yield Group(names=(name,), what=name, config=config, where=_Home(owner), key=key)


def _none() -> None:
    return None


def _unknown(service: Recovery) -> Iterator[Found]:
    """A finding for each operation that a configuration file sets and the program does not have."""
    known = {one.name for one in service.bus.operations()}
    for name in sorted(set(service.overrides) - known):
        yield Found(
            rule="unknown-operation",
            table="operation",
            field=name,
            text=f"the configuration sets operation {name!r}, and the service has no such operation",
            cure=f"use one of {', '.join(sorted(known)) or 'its names'}, or remove the table",
            operation=name,
            where="",
        )


def _inspected(groups: Iterable[Group], more: Iterable[Found] = ()) -> Inspection:
    shown, findings, most = dict[str, InForce](), dict[tuple[str, str], Found](), dict[tuple[str, str], int]()
    for group in groups:
        row = _in_force(group)
        shown.setdefault(str(msgspec.structs.replace(row, settings={})), row)  # one for clone and update
        for one in lint(group.what, group.config, calls=group.calls, key=group.key if group.calls else ""):
            if one.rule == "no-limit" and not group.needs_limit:
                continue
            where = group.where(one.table, one.field)
            found = Found(**msgspec.structs.asdict(one), operation=group.what, where=where)
            # Where one place sets it for several circuits, that of most calls tells for the others.
            place = (one.rule, where if group.calls else one.text)
            same = findings.setdefault(place, found)
            if same is not found and not group.calls:
                also = f"{same.operation}, {group.what}"
                findings[place] = msgspec.structs.replace(same, operation=also)
            elif (group.calls or 0) > most.setdefault(place, group.calls or 0):
                findings[place], most[place] = found, group.calls or 0
    return Inspection(tuple(shown.values()), (*findings.values(), *more))


def _in_force(group: Group) -> InForce:
    config = group.config
    longest = longest_failure(config.policy, config.breaker, waits=config.when_open == "wait")
    return InForce(
        names=group.names,
        where=group.where("", ""),
        key=group.key,
        retries=config.policy.most_retries,
        delays=_delays(config.policy),
        fails_within=None if longest == float("inf") else longest,
        circuit=_circuit(config.breaker, config.when_open),
        durability=config.durability or "off",
        settings=_plain(config),
    )


def _delays(policy: RetryPolicy) -> tuple[float, float]:
    most = policy.most_retries
    return longest_delay(policy, None, 1), longest_delay(policy, None, 64 if most is None else max(most, 1))


def _circuit(breaker: BreakerPolicy | None, when_open: str) -> tuple[str, ...]:
    if breaker is None:
        return ()
    rate, number = breaker.failure_rate, breaker.failure_threshold
    opens = f"{number} {breaker.counts}" if rate is None else f"{rate:.0%} of {breaker.window} {breaker.counts}"
    return f"{opens}, {duration(breaker.break_duration)}", "calls wait" if when_open == "wait" else "rejects calls"


def _plain(value: Any) -> Any:
    """*value* as plain data; functions and conditions by their names."""
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        kind = {"type": value.__struct_config__.tag} if value.__struct_config__.tag else {}
        return kind | {name: _plain(one) for name, one in fields.items() if one is not msgspec.UNSET}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return brief(name_of(value) if callable(value) else str(value))


class _Home:
    """Where the function of an operation is written."""

    def __init__(self, definition: Definition) -> None:
        function = getattr(definition.wrapper(), "__wrapped__", None)
        code = getattr(function, "__code__", None)
        self._where = "" if code is None else f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"

    def __call__(self, table: str, field: str) -> str:
        return self._where
