"""docs/reference/plans.md has every key of a plan, and an example that uses each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.launcher.document import KINDS, TABLES, Document
from adapters.launcher.kinds.download import Download
from adapters.launcher.plan import load_plan
from tests.docs.plans_page import BEGIN, PAGE, STRUCTS, meanings, own_fields, tables

TEXT = PAGE.read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"```toml\n(# launch\.toml\n.*?)```", TEXT, re.DOTALL)


def test_the_tables_of_the_page_are_those_of_the_types():
    assert TEXT.partition(BEGIN)[2] == tables(), "run `make pages`"


@pytest.mark.parametrize("struct", STRUCTS)
def test_the_docstring_of_a_table_describes_every_key(struct: type[msgspec.Struct]):
    assert list(meanings(struct)) == [field.name for field in own_fields(struct)]


def test_the_example_of_the_page_is_a_plan_that_uses_every_key(tmp_path: Path):
    path = tmp_path / "launch.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    document = tomllib.loads(EXAMPLE)
    assert [step.name for step in load_plan(path).steps] == [step["name"] for step in document["operation"]]
    used: dict[type[msgspec.Struct], set[str]] = {
        Document: set(document),
        **{kind: set(document[key]) for key, kind in TABLES.items() if key in document},
        **{struct: keys_of(document, kind) for kind, struct in KINDS.items()},
    }
    general = {"optional", "retry", "needs"}
    for struct, keys in used.items():
        assert set(struct.__struct_fields__) - keys <= (
            general - {"optional", "retry"} if struct is Download else general
        ), struct


def keys_of(document: dict[str, Any], kind: str) -> set[str]:
    return {key for one in document["operation"] if one["kind"] == kind for key in one}
