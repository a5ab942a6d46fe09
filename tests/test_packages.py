from __future__ import annotations

import ast
from pathlib import Path

import pytest

import events
import recovery
import recovery.testing

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("package", [events, recovery, recovery.testing])
def test_all_is_sorted_and_is_what_is_imported(package: object) -> None:
    source = ast.parse(Path(package.__file__).read_text())  # type: ignore[attr-defined]
    imported = {
        alias.asname or alias.name for node in source.body if isinstance(node, ast.ImportFrom) for alias in node.names
    } - {"annotations"}
    exported = package.__all__  # type: ignore[attr-defined]
    assert set(exported) == imported
    assert list(exported) == sorted(exported, key=str.lower)


@pytest.mark.parametrize("package", ["events", "recovery", "adapters"])
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("path", sorted((ROOT / name) for name in ("events", "recovery", "adapters")), ids=str)
def test_no_module_outgrows_a_reader(path: Path) -> None:
    lengths = {file.name: len(file.read_text().splitlines()) for file in path.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 360} == {}
