"""docs/reference/configuration.md has every environment variable that the packages read or set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.downloads.client import PROXIES
from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PAGE))

READ_BY_OTHER_NAMES = {"lower", "upper", "name", "where"}
"""Variables of the code that hold a name: a proxy's, and what a ``Secret`` refers to."""


def modules() -> Iterator[Path]:
    for package in ("events", "recovery", "adapters"):
        yield from (path for path in (ROOT / package).rglob("*.py") if "demo" not in path.parts)


def read_in(source: str) -> set[str]:
    """The environment variables that *source* names where it reads one, or passes one to a process it starts."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_read = called in {"os.environ.get", "os.getenv", "environ.get", "getenv"}
            found += node.args[:1] if is_read else []
            found += [one.value for one in node.keywords if one.arg == "envvar"]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found.append(node.slice)
    names = {
        one.value if isinstance(one, ast.Constant) else constants.get(ast.unparse(one), ast.unparse(one))
        for one in found
    }
    return {str(name) for name in names} | {
        str(value) for value in constants.values() if re.fullmatch(r"(?:LAUNCHER_)?RECOVERY_[A-Z_]+", str(value))
    }


def test_the_page_has_every_environment_variable():
    read = {name for path in modules() for name in read_in(path.read_text(encoding="utf-8"))}
    assert {"RECOVERY_DISABLED", "RECOVERY_SENTENCES", "SSL_CERT_DIR", "LAUNCHER_RECOVERY_COMMAND"} <= read
    read -= {name for name in read if name.startswith("GIT_")}  # git's own, which the library leaves in force
    assert sorted(read - NAMED - READ_BY_OTHER_NAMES) == []
    assert {name for name in PROXIES if name.isupper()} <= NAMED


@pytest.mark.parametrize(
    "source",
    [
        "os.environ.get('NEW_ONE')", "os.environ['NEW_ONE']", "os.getenv('NEW_ONE', '')",
        "NAME = 'NEW_ONE'\nos.getenv(NAME)",
        "click.option('--x', envvar='NEW_ONE')",
    ],
)  # fmt: skip
def test_a_new_variable_is_found(source: str):
    assert read_in(source) == {"NEW_ONE"}
