"""docs/reference/settings.md has every setting with its default, and nothing else."""

from __future__ import annotations

import inspect
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

import recovery
from adapters.launcher import Launcher, RestartPolicy
from adapters.sqlite import Retention, SQLiteStore
from recovery import BreakerPolicy, JournalConfig, Recovery, RetryBudget, RetryPolicy, Rule, Settings, Strategy
from recovery.monitoring import Threshold, Thresholds
from recovery.policies.backoff import Exponential
from recovery.settings_check import Defaults, make_config

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
NAMES = {
    **{name: getattr(recovery, name) for name in recovery.__all__},
    "UNSET": msgspec.UNSET,
    "Retention": Retention,
    "Threshold": Threshold,
    "time": time,
    "random": random,
}
REQUIRED = inspect.Parameter.empty


def parameters_of(function: Any) -> dict[str, Any]:
    defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()}
    return {name: dict(one) if isinstance(one, MappingProxyType) else one for name, one in defaults.items()}


def fields_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields with their defaults; a factory is called."""
    found = {}
    for field in msgspec.structs.fields(struct):
        if field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = field.default_factory()
        else:
            found[field.name] = REQUIRED if field.default is msgspec.NODEFAULT else field.default
    return found


def settings_of_an_operation() -> dict[str, Any]:
    """What an operation has that declares nothing, in a service that declares nothing."""
    config = make_config({}, defaults=Defaults(), has_store=False)
    assert isinstance(config.policy.backoff, Exponential)
    known: dict[str, Any] = {
        **msgspec.structs.asdict(config.policy),
        **{name: value for name, value in msgspec.structs.asdict(config).items() if name in Settings.__annotations__},
        "initial_delay": config.policy.backoff.initial,
        "backoff_factor": config.policy.backoff.factor,
        "circuit_breaker_threshold": config.breaker.failure_threshold,
        "circuit_breaker_timeout": config.breaker.break_duration,
        "classifier": config.classifiers,
        "enable_classification": config.classification,
        "enable_logging": config.logging,
        "enable_persistence": config.durability,
    }
    return {name: known[name] for name in Settings.__annotations__}


SECTIONS: dict[str, Mapping[str, Any]] = {
    "Settings": settings_of_an_operation(),
    **{struct.__name__: fields_of(struct) for struct in (RetryPolicy, Strategy, BreakerPolicy, RetryBudget, Rule)},
    "Recovery": parameters_of(Recovery),
    "JournalConfig": fields_of(JournalConfig),
    "SQLiteStore": parameters_of(SQLiteStore),
    "Retention": fields_of(Retention),
    "Thresholds": fields_of(Thresholds),
    "Launcher": parameters_of(Launcher),
    "RestartPolicy": fields_of(RestartPolicy),
}
HOMES = {kind.__name__: kind for kind in (SQLiteStore, Retention, Thresholds, Launcher, RestartPolicy)}
"""The objects that are not in ``recovery``."""


def rows(section: str) -> list[list[str]]:
    [text] = re.findall(rf"^## `{section}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("| `")]


def test_the_page_has_a_table_for_each_object():
    assert re.findall(r"^## `(\w+)`", PAGE, re.MULTILINE) == list(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_name_with_its_default(section: str):
    shown = {}
    for name, default, *_ in rows(section):
        shown[name.strip("`")] = eval(default.strip("`"), dict(NAMES)) if default else REQUIRED
    assert shown == dict(SECTIONS[section])
    assert {one: type(shown[one]) for one in shown} == {one: type(value) for one, value in SECTIONS[section].items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_row_says_what_it_means_and_when_to_change_it(section: str):
    for name, _, _, meaning, when in rows(section):
        assert meaning, name
        assert when, name


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "Settings"])
def test_the_docstring_describes_every_parameter(section: str):
    text = inspect.getdoc(HOMES.get(section) or getattr(recovery, section)) or ""
    [arguments] = re.findall(r"^Args:\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ {4}(\w+): ", arguments, re.MULTILINE) == list(SECTIONS[section])
