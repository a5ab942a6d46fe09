"""What the API pages get from the source, as the extension of griffe changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

griffe = pytest.importorskip("griffe", reason="the API pages need the group docs")

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def api() -> Any:
    """The packages as the pages show them."""
    extensions = griffe.load_extensions("tests.docs.griffe_structs")
    loader = griffe.GriffeLoader(search_paths=[ROOT], extensions=extensions)
    for package in ("events", "adapters", "recovery"):
        loader.load(package)
    return loader.modules_collection


@pytest.mark.docs
@pytest.mark.parametrize("name", ["recoverable", "configure"])
def test_a_method_of_the_default_service_is_shown_with_its_parameters(api: Any, name: str) -> None:
    shown, method = api[f"recovery.{name}"], api["recovery.Recovery"].all_members[name]
    assert shown.is_function
    assert [one.name for one in shown.parameters] == [one.name for one in method.parameters][1:]
    assert shown.docstring.value == method.docstring.value
    assert [len(one.parameters) for one in shown.overloads or ()] == [
        len(one.parameters) - 1 for one in method.overloads or ()
    ]
