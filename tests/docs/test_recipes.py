"""Every example of a page under docs/ that shows what it prints prints that; ``...`` stands for any text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
RECIPES = [
    (f"{page.name}, {title}", example, printed)
    for page in sorted(DOCS.rglob("*.md"))
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.DOTALL | re.M)
    for example, printed in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
]

SLOW = "launcher.md, Environments and packages"
"""An environment with pip takes three seconds."""


@pytest.mark.parametrize(
    ("title", "example", "printed"),
    [pytest.param(*one, marks=pytest.mark.slow if one[0] == SLOW else ()) for one in RECIPES],
    ids=[title for title, _, _ in RECIPES],
)
def test_a_recipe_prints_what_its_page_shows(
    title: str, example: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example, title, "exec"), {"__name__": "recipe"})
    pattern = ".*?".join(re.escape(part) for part in printed.split("..."))
    shown = capsys.readouterr().out
    assert re.fullmatch(pattern, shown, re.DOTALL), shown


def test_the_page_for_those_who_come_from_tenacity_has_its_recipes() -> None:
    titles = [title.partition(", ")[2] for title, _, _ in RECIPES if title.startswith("from-tenacity.md")]
    assert len(titles) == 9
