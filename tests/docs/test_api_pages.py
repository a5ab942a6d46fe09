"""The pages of docs/reference/api show every public name once, and nothing that a user cannot import."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
import types
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.memory import MemoryStore
from recovery.service import Recovery
from tests.docs.exceptions_page import every_error, is_ours
from tests.test_packages import PUBLIC

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs" / "reference" / "api").glob("*.md"))
SHOWN = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]

NAMESPACES = {
    "recovery.context": set[str](),
    "recovery.leased": set[str](),
    "recovery.presets": {"waits_for_causes", "when_full_of", "is_full"},
    "recovery.redact": {"printable", "brief", "excerpt", "redacted", "with_texts"},
    "recovery.conditions": {"DiskUsage", "disk_usage", "device_of", "existing"},
    "recovery.testing.strategies": set[str](),
    "recovery.testing.machine": set[str](),
    "recovery.testing.plugin": set[str](),
    "recovery.testing.hostile": {"Raising", "Agreeing", "Text", "texts", "values"},
    "recovery.testing.invariants": set[str](),
    "adapters.memory": set[str](),
    "adapters.nats.permissions": {"inbox_of"},
    "adapters.metrics.prometheus": {"Series"},
    "adapters.metrics.tracing": set[str](),
}
"""Modules without ``__all__`` from which users import, and those of their names that are not for users."""

NOT_FOR_USERS = {
    "adapters.comfyui.record.PromptRecord",  # of ``Comfy.run``, which the page leaves out
    "adapters.downloads.claims.Claims",  # ``room_for`` has a default
    "adapters.downloads.mirrors.GoodHosts",  # ``download_from`` likewise
    "adapters.processes.tree.Tree",  # ``run_command`` likewise
    "adapters.launcher.document.NotificationsTable", "adapters.launcher.document.WaitTable",  # tables of plans
    *(
        f"adapters.launcher.kinds.{one}"  # likewise
        for one in ("comfyui.ComfyUI", "command.Command", "download.Download", "git.Git", "packages.Packages",
                    "prompt.Prompt", "server.Server", "steps.Steps", "venv.Venv")
    ),
    "adapters.launcher.step_functions.StepFunctions",  # of ``Steps.made_by``, which the page leaves out
    "adapters.comfyui.result.Wish",  # of ``Comfy.run``, likewise
    "events.bus.BusOperation",  # what a bus needs of an ``Operation``
    "events.call.Progress", "events.subscription.EventQueue", "events.subscription.Trouble",
    "events.signal.EventSignal",  # a signal of blinker, which documents it
    "recovery.joining.shared_call.Outcome",  # of ``ResumedCall.take``, which the page leaves out
    "recovery.execution.blocks.JournalWait", "recovery.waiting.wait.Wait",  # of ``Attempts.steps``, likewise
    "recovery.monitoring.alerts.Reading", "recovery.monitoring.windows.Window",
}  # fmt: skip
"""Classes in the annotations of what is shown that a user neither makes nor looks into."""

BESIDES = {
    "events.operation_events.Outcome",  # the base class of three events
    "recovery.configuration.make_policy", "recovery.configuration.options_of",  # docs/reference/configuration.md
    "recovery.execution.blocks.Attempts",  # what ``attempts`` returns: a forward reference, as the next ones
    "recovery.resume.repetition.RepeatedCall", "recovery.resume.repetition.Repetition",
    "recovery.translation.Sentences",
}  # fmt: skip
"""What is shown besides public names and the classes that these name."""


def value_of(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def home_of(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def test_every_public_name_is_shown() -> None:
    assert sorted(PUBLIC.keys() - {*SHOWN, *NAMESPACES}) == []


def test_every_error_is_shown() -> None:
    shown = {home_of(value_of(name)) for name in SHOWN if isinstance(value_of(name), type)}
    assert sorted({home_of(kind) for kind in every_error()} - shown) == []


@pytest.mark.parametrize("module", NAMESPACES)
def test_every_name_of_a_module_that_users_import_from_is_shown(module: str) -> None:
    found = importlib.import_module(module)
    own = {
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module and hasattr(value, "__qualname__")
    }
    shown = {name.rpartition(".")[2] for name in SHOWN if name.rpartition(".")[0] == module}
    assert own - shown == NAMESPACES[module]


def test_nothing_is_shown_twice() -> None:
    assert [name for name, count in Counter(SHOWN).items() if count > 1] == []
    kinds = Counter(home_of(value) for value in map(value_of, SHOWN) if isinstance(value, type))
    assert [name for name, count in kinds.items() if count > 1] == []


def test_what_is_shown_is_public_or_named_by_what_is_public() -> None:
    known = {*PUBLIC, *(home_of(kind) for kind in every_error()), *map(home_of, faces()), *map(home_of, named())}
    strangers = [name for name in SHOWN if name not in known and name.rpartition(".")[0] not in NAMESPACES]
    imported = {f"{module}.{name}" for module, name in imports()}
    assert {*strangers} - imported == BESIDES


def test_what_the_documentation_imports_is_shown() -> None:
    shown = {*SHOWN, *NAMESPACES}
    assert sorted(f"{module}.{name}" for module, name in imports() if f"{module}.{name}" not in shown) == []


def test_what_a_service_completes_to_is_shown() -> None:
    assert (
        sorted({home_of(kind) for kind in faces()} - {home_of(value_of(name)) for name in SHOWN if is_kind(name)}) == []
    )


def test_classes_that_signatures_name_are_shown() -> None:
    shown = {home_of(value_of(name)) for name in SHOWN if is_kind(name)}
    assert sorted({home_of(kind) for kind in named()} - shown) == sorted(NOT_FOR_USERS)


def test_every_page_is_in_the_nav() -> None:
    nav = str(tomllib.loads((ROOT / ".zensical.toml").read_text(encoding="utf-8"))["project"]["nav"])
    assert [page.name for page in PAGES if f"reference/api/{page.name}" not in nav] == []


def is_kind(name: str) -> bool:
    return isinstance(value_of(name), type)


def faces() -> list[type]:
    """The classes of what a service has as attributes."""
    service = Recovery(store=MemoryStore())
    found = [type(getattr(service, name)) for name in ("bus", "calls", "circuits", "incidents", "journal")]
    return [*found, type(service.monitor())]


def imports() -> Iterator[tuple[str, str]]:
    """What the code of the documentation imports from the packages, as module and name."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for module, names in re.findall(
            r"^from ((?:events|recovery|adapters)(?:\.\w+)*) import ([\w, ]+)$", page.read_text("utf-8"), re.MULTILINE
        ):
            yield from ((module, name.partition(" as ")[0].strip()) for name in names.split(","))


def named() -> Iterator[type]:
    """The classes of ours in the annotations of what is shown: of fields, of functions, of methods; not of makers."""
    for value in map(value_of, SHOWN):
        if inspect.isfunction(value):
            yield from _ours_in(value)
        elif isinstance(value, type) and not issubclass(value, BaseException):
            for kind in filter(is_ours, value.__mro__):
                if hasattr(value, "__struct_fields__") or typing.is_typeddict(value):
                    yield from _ours_in(kind)
                for name, member in vars(kind).items():
                    function = member.fget if isinstance(member, property) else inspect.unwrap(member)
                    if not name.startswith("_") and inspect.isfunction(function):
                        yield from _ours_in(function)


def _ours_in(value: Any) -> Iterator[type]:
    home = vars(importlib.import_module(value.__module__))  # a composite strategy is made in a module of hypothesis
    for name, annotation in typing.get_type_hints(value, home if inspect.isfunction(value) else None).items():
        if not name.startswith("_"):
            yield from _parts(annotation)


def _parts(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and is_ours(annotation) and not isinstance(annotation, types.GenericAlias):
        yield annotation
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and is_ours(origin):
        yield origin
    for part in typing.get_args(annotation):
        yield from _parts(part) if not isinstance(part, list) else (one for each in part for one in _parts(each))
