from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from adapters.launcher.plan import load_plan

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (title, re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]) for title, text in SECTIONS if "```python" in text
]


@pytest.mark.parametrize(("title", "example"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_each_example_of_the_readme_runs(
    title: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": title}
    exec(compile(example, f"README.md, {title}", "exec"), names)
    for name, test in names.items():
        if name.startswith("test_") and callable(test):
            test()


def test_the_readme_has_an_example_of_each_use() -> None:
    uses = ["Decorate", "Emit by hand", "Subscribe", "Wait for the cause", "Watch", "Test an invariant"]
    assert [title for title, _ in EXAMPLES][: len(uses)] == uses


def test_the_machine_of_the_readme_runs() -> None:
    [example] = re.findall(r"in five lines:\n\n```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"__name__": "machine"}
    exec(compile(example, "README.md, the machine", "exec"), names)
    names["TestSlowedDown"].settings = settings(max_examples=10, deadline=None)
    names["TestSlowedDown"]().runTest()


def test_the_plan_of_the_readme_can_be_run(tmp_path: Path) -> None:
    [plan] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "launch.toml"
    path.write_text(plan, encoding="utf-8")
    assert [step.name for step in load_plan(path).steps] == ["checkpoint", "requirements"]


def test_the_readme_begins_with_the_two_commands() -> None:
    commands = [line.split("#")[0].strip() for line in README.splitlines()[1:6] if line.startswith("    make")]
    assert commands == ["make demo", "make test"]
