"""The form of the packages: public names with one home and a help text, and modules of a readable length."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
import pydoc
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import adapters
import events
import recovery
from adapters.launcher import Launcher, Steps
from recovery.service import Recovery

ROOT = Path(__file__).parent.parent
PACKAGES = ("events", "recovery", "adapters")

MAX_MODULE = 320
MAX_FUNCTION = 60
MAX_TESTS = 600
LOOPS = ("_in_thread", "_in_task", "recover")
"""Functions of the compiled failure path, one piece each: every call within would cost a failure a tenth."""


def public_modules() -> list[types.ModuleType]:
    """Every module that has an ``__all__``."""
    names: list[str] = []
    for package in (events, recovery, adapters):
        inner = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [package.__name__, *(one.name for one in inner)]
    return [module for name in names if hasattr(module := importlib.import_module(name), "__all__")]


MODULES = public_modules()
PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
every_name = pytest.mark.parametrize("name", sorted(PUBLIC))


def test_the_packages_export_names():
    assert {"events", "recovery", "recovery.testing", "adapters.sqlite"} <= {module.__name__ for module in MODULES}


@every_module
def test_all_is_sorted_and_is_what_is_imported(module: types.ModuleType):
    source = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    body = [one for node in source.body for one in (node.body if isinstance(node, ast.If) else [node])]
    imported = {
        alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names
    } - {"annotations", "TYPE_CHECKING"}
    assert set(module.__all__) == imported
    assert list(module.__all__) == sorted(module.__all__, key=str.lower)


def test_every_public_name_has_one_home():
    homes = Counter(name for module in MODULES for name in module.__all__)
    assert [name for name, count in homes.items() if count > 1] == []


@pytest.mark.parametrize("launcher", [Launcher, Steps])
def test_every_error_that_the_help_of_a_launcher_names_can_be_imported(launcher: type):
    members = [one for kind in launcher.__mro__ for name, one in vars(kind).items() if not name.startswith("_")]
    named = {name for one in members for name in re.findall(r"\b\w+Error\b", inspect.getdoc(one) or "")}
    assert named
    public = {name.rpartition(".")[2] for name in PUBLIC} | vars(builtins).keys() | {"CalledProcessError", "HTTPError"}
    assert sorted(named - public) == []


@every_name
def test_every_public_name_has_a_help_text(name: str):
    value = PUBLIC[name]
    assert name.rpartition(".")[2] in pydoc.render_doc(value) or not callable(value)
    if isinstance(value, type | types.ModuleType) or inspect.isroutine(value):
        assert (value.__doc__ or "").strip()


@every_name
def test_every_public_callable_has_a_signature(name: str):
    value = PUBLIC[name]
    if callable(value) and not isinstance(value, types.UnionType) and not typing.is_typeddict(value):
        parameters = inspect.signature(value).parameters
        assert [one for one in parameters if one.startswith("__")] == []


@every_name
def test_the_annotations_of_every_public_name_can_be_evaluated(name: str):
    value = PUBLIC[name]
    if isinstance(value, type) or inspect.isfunction(value):
        for one in (value, *(member for _, member in inspect.getmembers(value, inspect.isfunction))):
            if one.__module__.split(".")[0] in PACKAGES:
                typing.get_type_hints(one)


@every_name
def test_every_public_method_has_a_help_text(name: str):
    value = PUBLIC[name]
    if isinstance(value, type):
        own = {
            one: member
            for kind in value.__mro__
            if kind.__module__.split(".")[0] in PACKAGES
            for one, member in vars(kind).items()
            if not one.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
        }
        assert [one for one in own if not (inspect.getdoc(getattr(value, one)) or "").strip()] == []


def test_a_service_completes_to_its_faces():
    shown = {name for name in dir(Recovery()) if not name.startswith("_")}
    faces = {"bus", "calls", "circuits", "incidents", "journal", "monitor", "resource", "resources"}
    actions = {"again", "attempts", "close", "configure", "from_config", "operation", "recoverable", "resume", "stop"}
    assert shown == faces | actions | {"is_enabled", "overrides"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str):
    assert (ROOT / package / "py.typed").exists()


def modules_of(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


@cache
def nodes_of(text: str) -> list[ast.AST]:
    return [*ast.walk(ast.parse(text))]


def lengths() -> dict[str, tuple[int, int]]:
    """The length of every module, function and test module, and the length that it may have."""
    found = {}
    for name, text in modules_of(*PACKAGES):
        found[name] = (text.count("\n"), MAX_MODULE)
        for node in nodes_of(text):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if (name, node.name) in [("recovery/execution/compiled.py", loop) for loop in LOOPS]:
                    continue
                found[f"{name}: {node.name}"] = ((node.end_lineno or 0) - node.lineno + 1, MAX_FUNCTION)
    for name, text in modules_of("tests"):
        found[name] = (text.count("\n"), MAX_TESTS)
    return found


def foreign_imports(text: str) -> list[str]:
    """What the module *text* imports from folders that no wheel has."""
    nodes = nodes_of(text)
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in names if name.partition(".")[0] in ("tests", "bench")]


def test_no_package_imports_tests_or_bench():
    assert foreign_imports("def late():\n    from tests.failures import x\n    import bench.table\n") == [
        "bench.table",
        "tests.failures",
    ]
    assert [name for name, text in modules_of(*PACKAGES) if foreign_imports(text)] == []


def test_modules_functions_and_tests_are_short():
    too_long = {name: length for name, (length, most) in lengths().items() if length > most}
    assert too_long == {}
