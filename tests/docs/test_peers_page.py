"""docs/how-to/from-tenacity.md has a counterpart, or a reason, for every name and argument of three other libraries."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

from tests.docs.examples import ROOT

PAGE = (ROOT / "docs" / "how-to" / "from-tenacity.md").read_text(encoding="utf-8")
SECTIONS = {"tenacity": "Every name of tenacity", "stamina": "From stamina", "backoff": "From backoff"}
FUNCTIONS = {
    "tenacity": ("BaseRetrying",),
    "stamina": ("retry", "retry_context"),
    "backoff": ("on_exception", "on_predicate"),
}
"""What has the arguments that a user gives."""
NO_ARGUMENTS = {"self", "wait_gen_kwargs", "exception", "predicate"}
"""Parameters that are given by position, or stand for others."""

pytestmark = pytest.mark.docs


@pytest.mark.parametrize("library", SECTIONS)
def test_each_name_and_argument_of_a_peer_has_its_row(library: str) -> None:
    table = re.search(rf"^## {SECTIONS[library]}$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    assert table
    rows = "\n".join(line.split(" | ")[0] for line in table[1].splitlines() if line.startswith("|"))
    missing = [name for name in names(library) if not re.search(rf"(?<![\w.]){name}(?!\w)", rows)]
    assert missing == []


def names(library: str) -> Iterator[str]:
    module = pytest.importorskip(library)
    yield from (name for name in module.__all__ if not inspect.ismodule(getattr(module, name)))
    if library == "stamina":
        yield from importlib.import_module("stamina.instrumentation").__all__
    for function in FUNCTIONS[library]:
        parameters = inspect.signature(getattr(module, function)).parameters
        yield from (name for name in parameters if name not in NO_ARGUMENTS)
